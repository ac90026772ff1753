import itertools

import pytest

from opnode.protocols.nat.mapping import MappingKind
from opnode.protocols.nat.odds import NatType, Odds, odds_between, type_of

# Rows and columns in the order of the enumeration: d direct, p predicted, r relay.
TABLE = ["ddddddr", "ddddddr", "ddddddr", "ddddprr", "dddpprr", "dddrrrr", "rrrrrrr"]
LETTERS = {"d": Odds.DIRECT, "p": Odds.PREDICTED, "r": Odds.RELAYED}


def test_the_odds_of_every_pair_are_those_of_the_table_both_ways():
    for (row, one), (column, other) in itertools.product(enumerate(NatType), repeat=2):
        assert odds_between(one, other) is LETTERS[TABLE[row][column]]
        assert odds_between(one, other) is odds_between(other, one)


@pytest.mark.parametrize(
    ("mapping", "is_reached", "expected"),
    [
        (MappingKind.UNKNOWN, False, None),
        (MappingKind.UNKNOWN, True, NatType.FULL),
        (MappingKind.NONE, True, NatType.OPEN),
        (MappingKind.NONE, False, NatType.PORT),
        (MappingKind.INDEPENDENT, True, NatType.FULL),
        (MappingKind.INDEPENDENT, False, NatType.PORT),
        (MappingKind.SEQUENTIAL, False, NatType.SEQUENTIAL),
        (MappingKind.RANDOM, True, NatType.RANDOM),
    ],
)
def test_a_type_follows_from_the_ports_given_and_who_got_in(
    mapping, is_reached, expected
):
    assert type_of(mapping, is_reached=is_reached) is expected
