"""What each fact about a node means: a verdict, a sentence and what to do.

Owns the judgement, one pure function for each thing looked at. Refuses to know where
the facts come from. Where nothing tells, the verdict is "unknown", never a guess.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from opnode.daemon.figures import DhtFigures, NodeFigures
from opnode.node.bootstrap import Verdict, VerdictKind
from opnode.node.checkup import ClockFacts, WriteFacts

LITTLE_DISK: Final = 500_000_000
"""Bytes free below which somebody should look: five times what records may take."""

NO_DISK: Final = 20_000_000
"""Bytes free below which a write may fail any minute."""

FEW_CONTACTS: Final = 3
"""With fewer, one node that goes away may leave us alone."""


class Health(enum.Enum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        health: how it is.
        text: a sentence.
        advice: what to do; empty where nothing is to be done.
        facts: what the sentence says, by name, for programs.
    """

    name: str
    health: Health
    text: str
    advice: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class DiskFacts(NamedTuple):
    """The files of a data directory.

    Attributes:
        damage: what is wrong with the file of records; None: it is whole.
        set_aside: damaged files that were replaced by new ones.
        free: bytes that the disk has left; None: it does not say.
    """

    damage: str | None
    set_aside: int
    free: int | None


def judge_joined(figures: NodeFigures) -> Finding:
    """Whether the node is in a network at all."""
    name = "joined"
    contacts = figures.contacts or 0
    if contacts:
        return Finding(name, Health.OK, f"{count(contacts, 'contact')} in the table")
    if figures.joined:
        text = "the first node of its network: nobody else is known yet"
        advice = "give others the invite that `opnode id` shows"
        return Finding(name, Health.WARN, text, advice)
    advice = "pass --bootstrap with the invite of a seed that runs; see the seeds below"
    return Finding(name, Health.BAD, "this node knows no other node", advice)


ENTRY_ADVICE: Final = {
    VerdictKind.UNRESOLVED: "check the name, and that DNS works here",
    VerdictKind.NO_ROUTE: "check this machine's network; it may be offline",
    VerdictKind.NO_ANSWER: "it may be down, or a firewall stops UDP on the way",
    VerdictKind.WRONG_KEY: "ask its owner for a new invite; somebody else may be there",
    VerdictKind.OTHER_NETWORK: "the invite is for another network; use one of yours",
}


def judge_entries(
    verdicts: Sequence[Verdict], figures: NodeFigures
) -> tuple[Finding, ...]:
    """What became of each bootstrap entry, asked again just now."""
    name = "seed"
    if not verdicts:
        if figures.contacts or figures.joined:
            text = "none given: the node knows others from before, or came first"
            return (Finding(name, Health.OK, text),)
        text = "none given, and nobody is remembered"
        return (Finding(name, Health.BAD, text, "pass --bootstrap or --seeds"),)
    # One dead seed among several, or behind a node that is in, is no emergency.
    is_in = figures.contacts or any(v.kind is VerdictKind.ANSWERED for v in verdicts)
    failed = Health.WARN if is_in else Health.BAD
    return tuple(_judge_entry(name, verdict, failed) for verdict in verdicts)


def _judge_entry(name: str, verdict: Verdict, failed: Health) -> Finding:
    if verdict.kind is VerdictKind.ANSWERED:
        pinned = verdict.entry.node_public_key is not None
        tail = " and proved its key" if pinned else "; its invite pins no key"
        return Finding(name, Health.OK, f"{verdict}{tail}")
    health = Health.BAD if verdict.kind is VerdictKind.WRONG_KEY else failed
    return Finding(name, health, str(verdict), ENTRY_ADVICE[verdict.kind])


def judge_reachable(figures: NodeFigures) -> Finding:
    """Whether strangers can reach the node, how that is known, and if not, why."""
    name = "reachable"
    seen = ", ".join(figures.observed)
    where = f"others see it at {seen}" if seen else "too few others told its address"
    if figures.behind_nat:
        where += ", behind a NAT"
    proof = figures.reachability
    if figures.configured_role == "leaf":
        return Finding(name, Health.OK, f"not needed by a leaf; {where}")
    if proof is not None and proof.is_proven:
        text = f"{count(proof.networks, 'unrelated network')} dialled back; {where}"
        return Finding(name, Health.OK, text)
    if figures.configured_role == "server":
        text = f"a server because it was told so, without a proof; {where}"
        return Finding(name, Health.UNKNOWN, text)
    if proof is not None and proof.failures:
        text = f"nobody got through in {count(proof.failures, 'round')}: "
        text += f"{_why_unreachable(figures)}; {where}"
        advice = "a leaf works all the same; to serve others, forward its UDP port"
        return Finding(name, Health.WARN, text, advice)
    return Finding(name, Health.UNKNOWN, f"nobody dialled back yet; {where}")


def _why_unreachable(figures: NodeFigures) -> str:
    if not figures.contacts:
        return "there was nobody to ask"
    if figures.mapped:
        return "the router forwards a port, but something before it does not"
    if figures.behind_nat:
        return "the NAT lets in only whom the node sent something to"
    return "a firewall is in the way, or too few other networks were there to ask"


def judge_clock(facts: ClockFacts) -> Finding:
    """Whether the clock is right, as far as others' answers tell."""
    name = "clock"
    heard = facts.agree + facts.ahead + facts.behind
    if not heard:
        return Finding(name, Health.UNKNOWN, "not known: nobody's answer tells")
    if facts.at_least_s:
        is_slow = facts.ahead > facts.behind
        others = facts.ahead if is_slow else facts.behind
        how = "slow" if is_slow else "fast"
        text = f"at least {_duration(facts.at_least_s)} {how}, by {others} of "
        text += f"{count(heard, 'node')}"
        advice = "set this machine's clock, best by NTP: your records count as " + (
            "expired before you think so" if is_slow else "valid for longer than here"
        )
        return Finding(name, Health.BAD, text, advice)
    text = f"within {facts.tolerance_s // 60} minutes of {facts.agree} of "
    text += f"{count(heard, 'node')}"
    if 2 * facts.agree > heard:
        return Finding(name, Health.OK, text)
    advice = "others do not agree among themselves; compare with NTP"
    return Finding(name, Health.WARN, text, advice)


def judge_table(figures: NodeFigures) -> Finding:
    """Whether the routing table is fit to find things."""
    name = "table"
    contacts, dht = figures.contacts, figures.dht
    if contacts is None:
        return Finding(name, Health.UNKNOWN, "not known")
    text = _table_text(contacts, dht)
    if dht.alarm:
        text += f"; {dht.alarm}"
        advice = "somebody may hide a record there: ask its owner, and look again later"
        return Finding(name, Health.WARN, text, advice)
    if not contacts:
        # A first seed is in although nobody has come yet.
        health = Health.WARN if figures.joined else Health.BAD
        return Finding(name, health, text, "see joined above")
    if dht.buckets and 2 * sum(bucket.sure for bucket in dht.buckets) < contacts:
        advice = "most may be gone; it mends within minutes unless the network is down"
        return Finding(name, Health.WARN, text, advice)
    size = dht.network_size
    if contacts < FEW_CONTACTS and (size is None or size > contacts + 1):
        advice = "few nodes to lean on: it grows with time, or add --bootstrap entries"
        return Finding(name, Health.WARN, text, advice)
    return Finding(name, Health.OK, text)


def _table_text(contacts: int, dht: DhtFigures) -> str:
    text = count(contacts, "contact")
    if dht.network_size is not None:
        text += f" of about {count(round(dht.network_size), 'node')}"
    if dht.buckets:
        filled = sum(bucket.contacts > 0 for bucket in dht.buckets)
        sure = sum(bucket.sure for bucket in dht.buckets)
        text += f", {sure} sure, {filled} of {len(dht.buckets)} buckets filled"
    return text


def judge_storage(facts: DiskFacts | None, figures: NodeFigures) -> Finding:
    """Whether records survive a restart."""
    name = "storage"
    held = figures.dht.records
    text = "holds " + ("an unknown number of" if held is None else str(held))
    text += " record" if held == 1 else " records"
    if facts is None:
        return Finding(name, Health.OK, f"{text}, in memory alone")
    if facts.damage is not None:
        text = f"the file of records is damaged: {facts.damage}"
        advice = "restart the node: it sets the file aside and starts a new one"
        return Finding(name, Health.BAD, text, advice)
    if facts.free is not None:
        text += f"; {facts.free / 1e9:.1f} GB of disk are free"
    if facts.free is not None and facts.free < NO_DISK:
        return Finding(name, Health.BAD, text, "make room on the disk")
    if facts.free is not None and facts.free < LITTLE_DISK:
        return Finding(name, Health.WARN, text, "make room on the disk soon")
    if facts.set_aside:
        text += f"; {count(facts.set_aside, 'damaged file')} set aside earlier"
        advice = "check the disk; then delete the files that end in .corrupt-N"
        return Finding(name, Health.WARN, text, advice)
    return Finding(name, Health.OK, text)


def judge_write(facts: WriteFacts) -> Finding:
    """Whether what this node puts can be read at others."""
    name = "write"
    if not facts.asked:
        text = "not tried: nobody to give a record to"
        return Finding(name, Health.UNKNOWN, text)
    took = f"{facts.took} of {count(facts.asked, 'node')} took a test record"
    reasons = ", ".join(f"{count} said {reason}" for reason, count in facts.refusals)
    if not facts.took:
        text = f"{took}{': ' if reasons else ''}{reasons}"
        advice = "what you publish is found nowhere; look at clock and table above"
        return Finding(name, Health.BAD, text, advice)
    text = f"{took}, {facts.read} gave it back, in {facts.seconds * 1000:.0f} ms"
    if reasons:
        text += f" ({reasons})"
    if not facts.read:
        advice = "others confirm and do not keep: ask through other seeds"
        return Finding(name, Health.BAD, text, advice)
    if 2 * facts.read < facts.asked:
        advice = "few nodes keep your records; they are put again by and by"
        return Finding(name, Health.WARN, text, advice)
    return Finding(name, Health.OK, text)


def judge_traffic(figures: NodeFigures) -> Finding:
    """Whether the node keeps the budget that it states."""
    name = "traffic"
    budget = figures.rpc.budget
    if budget is None:
        return Finding(name, Health.UNKNOWN, "not measured")
    text = (
        f"{budget.packets_per_s_used:.1f} of {budget.packets_per_s:.0f} packets a "
        f"second, {budget.endpoints_per_min_used:.0f} of "
        f"{budget.endpoints_per_min:.0f} new addresses a minute"
    )
    if budget.is_spent:
        advice = "your own requests use it up; look at `opnode status` for the cause"
        return Finding(name, Health.WARN, text, advice)
    if budget.is_short:
        text += "; background work waits"
    return Finding(name, Health.OK, text)


def count(number: int, noun: str) -> str:
    """Write a number with its noun, in the plural where due."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _duration(seconds: int) -> str:
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return count(seconds // size, unit)
    return count(seconds, "second")
