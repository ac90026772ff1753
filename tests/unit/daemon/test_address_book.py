import pytest

from opnode.core.errors import ConfigError, StorageError
from opnode.core.ids import PeerId, format_peer_id
from opnode.daemon import address_book
from opnode.daemon.address_book import AddressBook, Petname, clean_name

ANN = PeerId(bytes([1]) * 32)
BEN = PeerId(bytes([2]) * 32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "address_book.json"


def test_names_are_still_there_after_a_restart(path):
    book = AddressBook(path)
    book.add("ann", ANN)
    book.add("Ben Böhm", BEN)
    assert AddressBook(path).petnames() == (
        Petname("Ben Böhm", BEN),
        Petname("ann", ANN),
    )


def test_a_removed_name_is_gone_after_a_restart(path):
    book = AddressBook(path)
    book.add("ann", ANN)
    assert book.remove("ann") == Petname("ann", ANN)
    assert AddressBook(path).petnames() == ()
    with pytest.raises(ConfigError, match="contacts list"):
        book.remove("ann")


def test_a_peer_argument_is_a_name_or_a_peer_id():
    book = AddressBook(None)
    book.add("ann", ANN)
    assert book.resolve("ann") == ANN
    assert book.resolve(format_peer_id(BEN)) == BEN
    assert ANN in book
    assert BEN not in book
    assert (book.name_of(ANN), book.name_of(BEN)) == ("ann", None)
    with pytest.raises(ConfigError, match="op1"):
        book.resolve("nobody")
    with pytest.raises(ConfigError, match="checksum"):
        book.resolve(format_peer_id(BEN)[:-3] + "aaa")


def test_a_name_taken_by_another_peer_is_not_given_away():
    book = AddressBook(None)
    book.add("ann", ANN)
    book.add("ann", ANN)
    with pytest.raises(ConfigError, match="taken"):
        book.add("ann", BEN)
    assert book.resolve("ann") == ANN


def test_the_book_is_bounded(monkeypatch):
    monkeypatch.setattr(address_book, "MAX_CONTACTS", 1)
    book = AddressBook(None)
    book.add("ann", ANN)
    with pytest.raises(ConfigError, match="at most 1"):
        book.add("ben", BEN)


@pytest.mark.parametrize(
    "name", ["", "  ", "x" * 65, "a\x1b[2Jb", "a\u202eb", "-rf", "op1abc", "a\x00"]
)
def test_a_name_that_could_deceive_is_refused(name):
    with pytest.raises(ConfigError, match="name"):
        clean_name(name)


def test_spellings_of_one_name_are_one_name():
    assert clean_name("  Ann   B\u006f\u0308hm ") == "Ann B\u00f6hm"


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b'{"version":1,"contacts":{"ann":"op1"}}', b'{"contacts":[]}'],
)
def test_a_damaged_book_is_an_error_and_left_as_it_is(path, data):
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"address_book\.json"):
        AddressBook(path)
    assert path.read_bytes() == data


def test_a_change_that_cannot_be_written_does_not_count(path):
    book = AddressBook(path)
    book.add("ann", ANN)
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    with pytest.raises(StorageError):
        book.add("ben", BEN)
    assert book.petnames() == (Petname("ann", ANN),)
