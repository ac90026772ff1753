from opnode.core.addresses import Endpoint
from opnode.protocols.nat.port_row import PortRow, PortRowConfig


def at(number):
    return Endpoint(f"20.0.0.{number}", 1)


def test_each_new_address_takes_a_port_whether_it_answers_or_not():
    row = PortRow()
    assert row.end(1000, 1) == 1000
    for number in (1, 2, 3):
        row.sent(at(number), 0.0)
    assert row.end(1000, 1) == 1003
    row.seen(at(1), 2000, 0.0)
    assert row.end(1000, 1) == 2002
    assert row.end(1000, 2) == 2004
    row.seen(at(3), 2002, 0.0)
    row.seen(at(2), 2001, 0.0)
    assert row.end(1000, 1) == 2002


def test_who_is_sent_something_again_takes_no_other_port():
    row = PortRow()
    for now in range(0, 90, 15):
        row.sent(at(1), float(now))
    assert row.end(1000, 1) == 1001


def test_after_a_silence_an_address_has_its_old_port_until_it_tells_a_new_one():
    row = PortRow()
    row.sent(at(1), 0.0)
    row.seen(at(1), 2000, 0.0)
    row.sent(at(2), 0.0)
    row.seen(at(2), 2001, 0.0)
    assert row.is_sure
    row.sent(at(1), 50.0)
    assert not row.is_sure
    assert row.end(1000, 1) == 2001
    row.seen(at(1), 2000, 0.0)
    assert row.end(1000, 1) == 2001
    row.sent(at(1), 100.0)
    row.seen(at(1), 2002, 0.0)
    assert row.end(1000, 1) == 2002


def test_what_strangers_say_counts_nothing():
    row = PortRow()
    row.seen(at(1), 7, 0.0)
    assert row.end(1000, 1) == 1000


def test_the_oldest_addresses_are_forgotten():
    row = PortRow(PortRowConfig(remembered=4))
    for number in range(1, 10):
        row.sent(at(number), float(number))
    assert row.end(1000, 1) == 1004
    row.seen(at(1), 7, 0.0)
    assert row.end(1000, 1) == 1004


def test_a_row_that_begins_anew_counts_from_there():
    row = PortRow()
    row.sent(at(1), 0.0)
    row.restart(5000, 7.0)
    assert row.told_at == 7.0
    assert row.end(1000, 1) == 5000
    row.sent(at(2), 8.0)
    assert row.end(1000, 1) == 5001
    row.seen(at(2), 5003, 9.0)
    assert row.end(1000, 1) == 5003
    assert row.told_at == 9.0


def test_a_private_address_counts_once_it_has_told_its_port():
    row = PortRow()
    row.sent(Endpoint("192.168.7.7", 1), 0.0)
    assert row.end(1000, 1) == 1000
    row.seen(Endpoint("192.168.7.7", 1), 1001, 0.0)
    assert row.end(1000, 1) == 1001


def test_what_was_told_before_tells_nothing_new():
    row = PortRow()
    row.sent(at(1), 0.0)
    row.seen(at(1), 2000, 1.0)
    row.seen(at(1), 2000, 2.0)
    assert row.told_at == 1.0


def test_only_the_first_word_to_an_address_and_one_after_a_silence_are_news():
    row = PortRow()
    assert not row.goes_on(at(1), 0.0)
    row.sent(at(1), 0.0)
    assert row.goes_on(at(1), 20.0)
    assert row.goes_on(at(1), 40.0)
    assert not row.goes_on(at(1), 80.0)
