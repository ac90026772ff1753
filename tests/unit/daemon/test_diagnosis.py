"""`diagnosis`: whole nodes are examined, well and ill ones."""

import trio

from opnode.daemon.diagnosis import examine
from opnode.daemon.judgement import Health
from opnode.testing.overlay import open_overlay

ORDER = [
    "joined",
    "seed",
    "reachable",
    "nat",
    "binding",
    "mapping",
    "ipv6",
    "introducers",
    "odds",
    "attempt",
    "clock",
    "table",
    "storage",
    "write",
    "traffic",
]


async def findings_of(node, records=None):
    findings = []

    async def report(finding):
        findings.append(finding)
        await trio.lowlevel.checkpoint()

    await examine(node, records, report)
    return findings


async def test_a_node_among_others_is_well(autojump_clock):
    async with open_overlay(seeds=4) as overlay:
        findings = await findings_of(await overlay.user())
        assert [finding.name for finding in findings] == ORDER
        assert {f.name for f in findings if f.health is Health.OK} >= {
            *("joined", "seed", "clock", "table", "storage", "write", "traffic")
        }


async def test_a_node_whose_world_died_is_told_so(autojump_clock):
    async with open_overlay(seeds=1) as overlay:
        node = await overlay.user()
        overlay.network.kill("10.0.0.1")
        await trio.sleep(2000)
        by_name = {finding.name: finding for finding in await findings_of(node)}
        assert by_name["joined"].health is Health.BAD
        assert "no answer" in by_name["seed"].text
        assert by_name["write"].health is Health.UNKNOWN
        assert by_name["clock"].health is Health.UNKNOWN


async def test_a_damaged_file_of_records_is_found(tmp_path):
    path = tmp_path / "records.sqlite3"
    path.write_bytes(b"hello" * 1000)
    async with open_overlay(seeds=1) as overlay:
        node = await overlay.seed()
        findings = await findings_of(node, path)
    (storage,) = [finding for finding in findings if finding.name == "storage"]
    assert storage.health is Health.BAD
    assert "not a database" in storage.text


async def test_a_node_behind_a_nat_is_told_what_to_expect(autojump_clock):
    async with open_overlay(seeds=5, public=True) as overlay:
        caller = await overlay.user(behind="sym")
        callee = await overlay.user(behind="full")
        await trio.sleep(100)
        await caller.connect(callee.peer_id)
        by_name = {finding.name: finding for finding in await findings_of(caller)}
        assert "the NAT lets in only whom" in by_name["reachable"].text
        assert by_name["nat"].health is Health.WARN
        assert "drawn at random" in by_name["nat"].text
        assert "forward the node's UDP port" in by_name["nat"].advice
        assert by_name["odds"].facts["port-restricted"] == "relay"
        assert by_name["odds"].facts["full cone"] == "direct"
        assert by_name["introducers"].health is Health.OK
        seen = overlay.nat_of(callee).address
        assert f"direct to {seen}" in by_name["attempt"].text
        assert "answered" in by_name["attempt"].facts.values()
        friendly = {f.name: f for f in await findings_of(callee)}
        assert friendly["nat"].health is Health.OK
        assert "one port for all" in friendly["nat"].text
        assert friendly["odds"].facts["port-restricted"] == "direct"
