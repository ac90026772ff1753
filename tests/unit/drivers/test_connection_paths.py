"""What a driver knows of paths: their kind, whom they cost, and what they carried."""

from opnode.core.addresses import Endpoint
from opnode.drivers.connection_paths import KnownPaths, Path, PathBytes, PathKind
from opnode.protocols.rudp.path import PathState, PathStatistics

DIRECT = Endpoint("192.0.2.1", 1)
CARRIED = Endpoint("100::1", 1)
RELAY = Endpoint("198.51.100.1", 4000)


def figures(endpoint: Endpoint, sent: int, received: int) -> PathStatistics:
    return PathStatistics(
        endpoint=endpoint,
        state=PathState.VALIDATED,
        rtt_s=None,
        loss=0.0,
        packet_size=1200,
        bytes_sent=sent,
        bytes_received=received,
    )


def test_what_costs_nobody_ranks_first_and_what_costs_a_volunteer_last():
    ranks = [kind.rank for kind in (PathKind.DIRECT, PathKind.TURN, PathKind.RELAY)]
    assert ranks == sorted(set(ranks))
    assert PathKind.WEBSOCKET.rank == PathKind.RELAY.rank


def test_an_unknown_path_is_direct():
    known = KnownPaths()
    assert known.at(DIRECT) == Path(PathKind.DIRECT, DIRECT)
    known.add(Path(PathKind.RELAY, CARRIED, RELAY))
    assert known.at(CARRIED).via == RELAY
    assert known.at(DIRECT).kind is PathKind.DIRECT


def test_what_is_carried_is_not_called_direct_before_it_is_said_who_carries_it():
    known = KnownPaths()
    assert known.at(CARRIED) == Path(PathKind.RELAY, CARRIED)
    known.add(Path(PathKind.WEBSOCKET, CARRIED, RELAY))
    assert known.at(CARRIED).kind is PathKind.WEBSOCKET


def test_bytes_are_told_by_kind_and_outlive_their_path():
    known = KnownPaths()
    known.add(Path(PathKind.RELAY, CARRIED, RELAY))
    paths = (figures(DIRECT, 10, 20), figures(CARRIED, 3, 4))
    assert known.bytes_by_kind(paths) == {
        PathKind.DIRECT: PathBytes(10, 20),
        PathKind.RELAY: PathBytes(3, 4),
    }
    known.removed(CARRIED, paths)
    again = Endpoint("100::2", 1)
    known.add(Path(PathKind.RELAY, again, RELAY))
    paths = (figures(DIRECT, 11, 20), figures(again, 1, 1))
    assert known.bytes_by_kind(paths) == {
        PathKind.DIRECT: PathBytes(11, 20),
        PathKind.RELAY: PathBytes(4, 5),
    }


def test_removing_an_unknown_path_changes_nothing():
    known = KnownPaths()
    known.removed(CARRIED, ())
    assert known.bytes_by_kind(()) == {}
