"""Whether a file of records is whole, asked of the disk and not of a running store.

Owns reading the file without changing it. Refuses to repair anything: the store sets a
damaged file aside when it opens.
"""

import sqlite3
from pathlib import Path


def damage_of(path: Path) -> str | None:
    """What is wrong with the file; None if it is whole or not there yet.

    Reads the whole file: up to a second for 100 MB.
    """
    if not path.exists():
        return None
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return str(error)
    return None if found == "ok" else str(found)


def set_aside(path: Path) -> list[Path]:
    """The damaged files that were set aside in the place of this one."""
    return sorted(path.parent.glob(f"{path.name}.corrupt-*"))
