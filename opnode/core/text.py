"""Text that came from elsewhere, made safe to show. Knows no terminal and no file."""


def printable(text: str) -> str:
    """Return ``text`` with everything that could move a cursor replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
