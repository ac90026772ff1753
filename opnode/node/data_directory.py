"""The data directory: keys, contacts and records of one node, held by one process.

Owns the names, modes and atomic writing of the files, and the lock. Refuses to know
what the node does with them.
"""

import errno
import hashlib
import itertools
import logging
import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec
import platformdirs

from opnode.core.addresses import Endpoint
from opnode.core.crypto import SigningKey, StaticKey
from opnode.core.errors import (
    ConfigError,
    DataDirectoryInUse,
    StorageError,
)
from opnode.core.ids import NODE_ID_SIZE, NodeId
from opnode.core.peerfile import Identity
from opnode.node.key_files import KeyFile, load_key_file, store_key_file

IS_POSIX: Final = os.name == "posix"
"""Elsewhere an exclusively created file stands in for the lock."""

if IS_POSIX:
    import fcntl

logger = logging.getLogger(__name__)

MAX_CONTACTS: Final = 200
"""Contacts remembered: ten buckets' worth; joining needs one that still answers."""

MAX_CONTACTS_FILE: Final = 256 * 1024
"""Largest contacts file read: 200 entries need about 40 kB."""

MAX_SOCKET_PATH: Final = 100
"""Unix socket paths end at 108 bytes on Linux and 104 on BSD, with a final zero."""

NO_COMMITMENT: Final = bytes(32)
"""Recovery commitment of an identity without a recovery policy."""

MAX_SET_ASIDE: Final = 1000
"""Damaged contact caches that are kept beside the new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationKeys:
    """The two key pairs of this device."""

    signing: SigningKey
    static: StaticKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedContact:
    """A node that answered before; both times are wall time in Unix seconds."""

    node_id: NodeId
    endpoint: Endpoint
    known_since: float
    last_seen_at: float


class _StoredContact(msgspec.Struct, forbid_unknown_fields=True):
    endpoint: str
    last_seen: float
    node_id: str = ""
    known_since: float = 0.0
    # Of the first form of the file, which had no node ids; not written any more.
    node_key: str | msgspec.UnsetType | None = msgspec.UNSET


class _StoredContacts(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    contacts: list[_StoredContact]


class DataDirectory:
    """An open data directory; no other process can open it until ``close``."""

    def __init__(self, path: Path, lock_descriptor: int) -> None:
        """Use ``DataDirectory.open``."""
        self.path = path
        self._lock_descriptor: int | None = lock_descriptor

    @classmethod
    def open(cls, path: Path) -> "DataDirectory":
        """Create ``path`` (mode 0700) if it is missing, and lock it.

        Raises:
            DataDirectoryInUse: another process holds it.
            StorageError: it cannot be created or written.
        """
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
            return cls(path.resolve(), _lock(path / "lock"))
        except OSError as error:
            raise StorageError(
                f"data directory {path}: {error.strerror}; expected a directory that"
                " you own, or a place to create it"
            ) from None

    def __enter__(self) -> "DataDirectory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory; safe to call more than once."""
        if self._lock_descriptor is None:
            return
        if not IS_POSIX:
            (self.path / "lock").unlink(missing_ok=True)
        os.close(self._lock_descriptor)
        self._lock_descriptor = None

    @property
    def records_path(self) -> Path:
        """Where the records of the DHT are kept."""
        return self.path / "records.sqlite3"

    @property
    def acquaintances_path(self) -> Path:
        """Where it is kept how peers were reached last."""
        return self.path / "acquaintances.json"

    @property
    def gateways_path(self) -> Path:
        """Where gateways are remembered, for a start without UDP."""
        return self.path / "gateways.json"

    @property
    def address_book_path(self) -> Path:
        """Where the petnames of peers are kept."""
        return self.path / "address_book.json"

    def node_key(self) -> SigningKey:
        """Load the node's key, or create it once.

        Raises:
            UnreadableKey: the file is there but cannot be used; it is left as it is.
        """
        path = self.path / "node.key"
        stored = load_key_file(path, kind="node", fields={"ed25519": 32})
        if stored is not None:
            return SigningKey.from_seed(stored["ed25519"])
        key = SigningKey.generate()
        store_key_file(path, KeyFile(kind="node", fields={"ed25519": key.seed}))
        return key

    def identity(self) -> Identity:
        """Load the identity, or create it once, without a recovery policy.

        Raises:
            UnreadableKey: the file is there but cannot be used; it is left as it is.
        """
        path = self.path / "identity.key"
        shape = {"ed25519": 32, "commitment": 32}
        stored = load_key_file(path, kind="identity", fields=shape)
        if stored is not None:
            signing = SigningKey.from_seed(stored["ed25519"])
            return Identity(signing=signing, commitment=stored["commitment"])
        signing = SigningKey.generate()
        fields = {"ed25519": signing.seed, "commitment": NO_COMMITMENT}
        store_key_file(path, KeyFile(kind="identity", fields=fields))
        return Identity(signing=signing, commitment=NO_COMMITMENT)

    def location_keys(self) -> LocationKeys:
        """Load the keys of this device, or create them once.

        Raises:
            UnreadableKey: the file is there but cannot be used; it is left as it is.
        """
        path = self.path / "location.key"
        shape = {"ed25519": 32, "x25519": 32}
        stored = load_key_file(path, kind="location", fields=shape)
        if stored is not None:
            return LocationKeys(
                signing=SigningKey.from_seed(stored["ed25519"]),
                static=StaticKey.from_bytes(stored["x25519"]),
            )
        keys = LocationKeys(signing=SigningKey.generate(), static=StaticKey.generate())
        fields = {"ed25519": keys.signing.seed, "x25519": keys.static.secret}
        store_key_file(path, KeyFile(kind="location", fields=fields))
        return keys

    def load_contacts(self) -> tuple[RememberedContact, ...]:
        """Read the contact cache; a damaged one is set aside and counts as empty."""
        path = self.path / "contacts.json"
        try:
            with path.open("rb") as file:
                # A larger file is cut off and thereby not valid any more.
                data = file.read(MAX_CONTACTS_FILE)
            stored = msgspec.json.decode(data, type=_StoredContacts)
            found = [_contact(entry) for entry in stored.contacts[:MAX_CONTACTS]]
            return tuple(contact for contact in found if contact is not None)
        except FileNotFoundError:
            return ()
        except (msgspec.DecodeError, UnicodeDecodeError, ConfigError, OSError) as error:
            set_aside(path, error)
            return ()

    def save_contacts(self, contacts: Iterable[RememberedContact]) -> None:
        """Replace the contact cache by the first ``MAX_CONTACTS`` of ``contacts``.

        Raises:
            StorageError: the disk is full or not writable.
        """
        stored = _StoredContacts(
            version=1,
            contacts=[
                _StoredContact(
                    str(c.endpoint), c.last_seen_at, c.node_id.hex(), c.known_since
                )
                for c in itertools.islice(contacts, MAX_CONTACTS)
            ],
        )
        data = msgspec.json.format(msgspec.json.encode(stored), indent=1)
        write_atomically(self.path / "contacts.json", data)


def default_data_directory() -> Path:
    """Where this user's node lives unless another place is named."""
    return platformdirs.user_data_path("opnode")


def control_socket_path(directory: Path) -> Path:
    """Where the process that holds ``directory`` can be reached.

    A path too long for a socket is replaced by one under the temporary directory, made
    from the directory's digest, so that both sides find the same.
    """
    direct = directory.resolve() / "control.sock"
    if len(os.fsencode(direct)) <= MAX_SOCKET_PATH:
        return direct
    digest = hashlib.sha256(os.fsencode(direct)).hexdigest()[:24]
    owner = os.getuid() if IS_POSIX else 0
    return Path(tempfile.gettempdir()) / f"opnode-{owner}" / f"{digest}.sock"


def prepare_socket_directory(socket_path: Path) -> None:
    """Create the directory of a control socket, for its owner alone.

    Raises:
        StorageError: somebody else made a directory of that name: the temporary
            directory is shared, and whoever owns it could replace the socket.
    """
    directory = socket_path.parent
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise StorageError(f"{directory}: {error.strerror}") from None
    if not IS_POSIX:
        return
    private = stat.S_IMODE(found.st_mode) & 0o077 == 0
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or not private:
        raise StorageError(
            f"{directory}: found mode {stat.filemode(found.st_mode)} of user"
            f" {found.st_uid}, expected a directory of mode 0700 that is yours"
        )


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` so that a reader finds the old bytes or all the new ones.

    Raises:
        StorageError: the disk is full or not writable; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with open(os.open(temporary, flags, mode), "wb") as file:  # noqa: PTH123 - from a descriptor
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None


def sync_directory(directory: Path) -> None:
    """Make a rename durable; a no-op where directories cannot be opened."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems refuse this; the rename itself has happened.
        logger.debug("cannot sync %s: %s", directory, error)
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    if not IS_POSIX:
        return _lock_by_creation(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise DataDirectoryInUse(_in_use(path.parent, holder)) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _lock_by_creation(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        holder = path.read_text("ascii", "replace").strip()
        raise DataDirectoryInUse(
            f"{_in_use(path.parent, holder)}; if no opnode runs, delete {path}"
        ) from None
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _in_use(directory: Path, holder: str) -> str:
    by = f"process {holder}" if holder.isdecimal() else "another process"
    return f"data directory {directory}: in use by {by}; stop it or pass --data DIR"


def _contact(entry: _StoredContact) -> RememberedContact | None:
    """None for an entry of the first form, which cannot be pinned to a node id."""
    endpoint = Endpoint.parse(entry.endpoint, field="contacts.json: endpoint")
    if not entry.node_id:
        return None
    try:
        node_id = bytes.fromhex(entry.node_id)
    except ValueError:
        node_id = b""
    if len(node_id) != NODE_ID_SIZE:
        field = "contacts.json: node_id"
        raise ConfigError(field, repr(entry.node_id[:50]), "40 hexadecimal digits")
    return RememberedContact(
        node_id=NodeId(node_id),
        endpoint=endpoint,
        known_since=entry.known_since,
        last_seen_at=entry.last_seen,
    )


def set_aside(path: Path, error: Exception) -> None:
    """Rename a damaged file that the node can do without, with one warning."""
    for number in range(1, MAX_SET_ASIDE + 1):
        aside = path.with_name(f"{path.name}.corrupt-{number}")
        if not aside.exists():
            break
    try:
        path.rename(aside)
    except OSError as failure:
        logger.warning("%s is damaged (%s) and stays: %s", path, error, failure)
        return
    logger.warning("%s was damaged (%s); set aside as %s", path, error, aside.name)
