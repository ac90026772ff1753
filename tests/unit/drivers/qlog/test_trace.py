"""A logged transfer tells the same as the connection's own figures."""

import itertools

import trio

from opnode.drivers.qlog.qlog import QlogConfig, QlogDirectory
from opnode.drivers.qlog.trace import QlogTraces
from opnode.protocols.rudp.config import RudpConfig
from opnode.protocols.rudp.congestion import CongestionAlgorithm
from opnode.testing.linked import open_linked_pair
from opnode.testing.qlog import dropped, read_trace, sums_of
from opnode.testing.virtual_network import Link

LOSSY = Link(latency_s=(0.02, 0.025), loss=0.03)
TOTAL = 600_000
# The words that a viewer looks for; a misspelt one would be a graph without a line.
KNOWN_FRAMES = {
    "ack",
    "ack_frequency",
    "connection_close",
    "crypto",
    "datagram",
    "max_data",
    "max_stream_data",
    "max_streams",
    "path_challenge",
    "path_response",
    "ping",
    "reset_stream",
    "stop_sending",
    "stream",
}


def directory_at(tmp_path, **settings):
    return QlogDirectory(
        tmp_path / "logs", wall_clock=lambda: 1e9, config=QlogConfig(**settings)
    )


async def send_and_read(pair, total):
    channel = await pair.first.connection.open_channel()
    async with trio.open_nursery() as nursery:

        async def write():
            await channel.send_all(bytes(total))
            await channel.send_eof()

        nursery.start_soon(write)
        theirs = await pair.second.connection.accept_channel()
        size = 0
        while data := await theirs.receive_some():
            size += len(data)
    assert size == total


async def log_transfer(tmp_path, config=None):
    """Return the figures and the traces of both ends after a transfer with loss."""
    directory = directory_at(tmp_path)
    traces = QlogTraces(directory)
    async with open_linked_pair(LOSSY, config=config, traces=traces) as pair:
        await send_and_read(pair, TOTAL)
        await trio.sleep(1)
        pair.first.connection.close(7, "done")
        await trio.sleep(5)
        statistics = [end.connection.statistics() for end in (pair.first, pair.second)]
    directory.write_all()
    paths = sorted(directory.path.iterdir(), key=lambda path: path.name[-12:])
    return statistics, [read_trace(path) for path in paths]


async def test_the_sums_of_a_log_are_the_figures_of_the_connection(
    autojump_clock, tmp_path
):
    statistics, traces = await log_transfer(tmp_path)
    for figures, trace in zip(statistics, traces, strict=True):
        sums = sums_of(trace)
        assert sums.packets_sent == figures.packets_sent
        assert sums.bytes_sent == figures.bytes_sent
        assert sums.packets_received == figures.packets_received
        assert sums.bytes_received == figures.bytes_received
        assert sums.packets_lost == figures.packets_lost
    sender = sums_of(traces[0])
    assert sender.packets_lost > 5
    assert sender.stream_bytes_sent > TOTAL
    assert sender.bytes_acked > TOTAL


async def test_a_log_has_the_header_that_viewers_ask_for(autojump_clock, tmp_path):
    _, traces = await log_transfer(tmp_path)
    assert [t.header["trace"]["vantage_point"]["type"] for t in traces] == [
        "client",
        "server",
    ]
    for trace in traces:
        assert trace.header["qlog_version"] == "0.3"
        assert trace.header["qlog_format"] == "JSON-SEQ"
        common = trace.header["trace"]["common_fields"]
        assert common["time_format"] == "relative"
        assert common["reference_time"] == 1e12


async def test_times_never_go_back(autojump_clock, tmp_path):
    _, traces = await log_transfer(tmp_path)
    for trace in traces:
        times = [event["time"] for event in trace.events]
        assert times == sorted(times)
        assert 0 <= times[0] < 10
        assert times[-1] > 1000


async def test_frames_have_the_names_that_viewers_know(autojump_clock, tmp_path):
    _, traces = await log_transfer(tmp_path)
    seen = {
        frame["frame_type"]
        for trace in traces
        for name in ("transport:packet_sent", "transport:packet_received")
        for data in trace.named(name)
        for frame in data["frames"]
    }
    assert {"ack", "stream", "connection_close", "max_data"} <= seen <= KNOWN_FRAMES


async def test_the_first_event_says_where_the_peer_is(autojump_clock, tmp_path):
    _, traces = await log_transfer(tmp_path)
    first = traces[0].events[0]
    assert first["name"] == "connectivity:connection_started"
    assert first["data"]["dst_ip"] == "10.0.0.2"


async def test_metrics_tell_only_what_changed(autojump_clock, tmp_path):
    _, traces = await log_transfer(tmp_path)
    updates = traces[0].named("recovery:metrics_updated")
    assert len(updates) > 20
    last = {}
    for update in updates:
        assert update
        assert all(last.get(name) != value for name, value in update.items())
        last |= update
    assert 40 <= last["min_rtt"] <= 60
    assert last["congestion_window"] > 0


async def test_changes_of_keys_and_of_the_controller_are_told(autojump_clock, tmp_path):
    cubic = RudpConfig(congestion=CongestionAlgorithm.CUBIC)
    statistics, traces = await log_transfer(tmp_path, cubic)
    updates = traces[0].named("security:key_updated")
    assert [data["generation"] for data in updates] == [
        epoch
        for epoch in range(1, statistics[0].key_epoch + 1)
        for _ in ("client", "server")
    ]
    assert len(updates) >= 2
    phases = [
        (data["old"], data["new"])
        for data in traces[0].named("recovery:congestion_state_updated")
    ]
    assert phases
    # Each change begins where the one before it ended.
    assert all(one[1] == two[0] for one, two in itertools.pairwise(phases))
    assert all(" " not in word for phase in phases for word in phase)
    rates = [
        data["pacing_rate"]
        for data in traces[0].named("recovery:metrics_updated")
        if "pacing_rate" in data
    ]
    assert rates[-1] == round(8 * statistics[0].pacing_rate_Bps)


async def test_the_end_tells_code_reason_and_whose_it_was(autojump_clock, tmp_path):
    _, traces = await log_transfer(tmp_path)
    assert traces[0].named("connectivity:connection_closed") == [
        {"owner": "local", "application_code": 7, "reason": "done"}
    ]
    (end,) = traces[1].named("connectivity:connection_closed")
    assert end["owner"] == "remote"


async def test_no_byte_of_the_application_is_in_a_log(autojump_clock, tmp_path):
    directory = directory_at(tmp_path)
    async with open_linked_pair(traces=QlogTraces(directory)) as pair:
        channel = await pair.first.connection.open_channel()
        await channel.send_all(b"a very private word")
        await pair.first.connection.send_datagram(b"another private word")
        await trio.sleep(1)
    directory.write_all()
    written = b"".join(path.read_bytes() for path in directory.path.iterdir())
    assert b"stream" in written
    assert b"private" not in written


async def test_forged_packets_are_told_as_dropped(autojump_clock, tmp_path):
    directory = directory_at(tmp_path)
    async with open_linked_pair(traces=QlogTraces(directory)) as pair:
        connection = pair.second.connection
        forged = b"\xe0" + connection.connection_id + bytes(100)
        for _ in range(3):
            pair.first.hub.send(forged, pair.second.hub.local)
        await trio.sleep(1)
        figures = connection.statistics()
    directory.write_all()
    counts = [dropped(read_trace(path)) for path in directory.path.iterdir()]
    told = sum(sum(count.values()) for count in counts)
    assert told == figures.forged + figures.malformed == 3


async def test_without_a_free_file_a_connection_works_unlogged(
    autojump_clock, tmp_path, caplog
):
    directory = directory_at(tmp_path, max_files=1)
    async with open_linked_pair(traces=QlogTraces(directory)) as pair:
        assert pair.first.connection.trace is not None
        assert pair.second.connection.trace is None
        await send_and_read(pair, 10_000)
    assert caplog.text.count("no further") == 1
