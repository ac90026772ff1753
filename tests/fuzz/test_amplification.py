"""A small part of the scan that ``amplification`` runs over every length."""

import pytest
import trio

from opnode.protocols.rpc.messages import FindNode
from tests.fuzz.amplification import (
    FEW_LENGTHS,
    STATES,
    open_scan,
    scan_state,
    summary,
)


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
async def test_no_address_gets_more_bytes_than_came_in_its_name(autojump_clock, state):
    accounts = await scan_state(state, FEW_LENGTHS[::3], seed=1)
    found = summary(accounts)
    assert found["maximum"] <= 1.0, found
    assert found["maximum_with_headers"] <= 1.0, found
    # A victim that says nothing to anybody would pass as well.
    assert found["answered"] > found["probes"] / 5
    if state != "loaded":
        assert 0 < found["by_type"]["DIAL of another address"] < 1


@pytest.mark.slow
async def test_the_scan_sees_what_is_sent_later_and_to_others(autojump_clock):
    async with open_scan("fresh", seed=1) as scan:
        account = scan._open_account("a bad node", scan.address())
        for body in scan.bodies().values():
            data = scan.request(body, account.target, b"", 300)
            scan.send(data, account.target)
        before = account.bytes_out
        assert account.ratio() < 1
        scan.tap.carry(bytes(10_000), scan.victim, account.target)
        await trio.sleep(1)
        assert account.bytes_out >= before + 10_000
        assert account.ratio() > 1
        assert account.ratio(28) > 1


@pytest.mark.slow
async def test_a_probe_with_a_forged_token_is_a_request_and_no_noise(autojump_clock):
    async with open_scan("joined", seed=1) as scan:
        account = scan._open_account("forged", scan.address())
        body = FindNode(bytes(20))
        token = scan.rng.randbytes(8)
        scan.send(scan.request(body, account.target, token, 100), account.target)
        await trio.sleep(5)
        # The refusal, which brings a token.
        assert account.datagrams_out == 1
        assert 0 < account.bytes_out <= 100


@pytest.mark.slow
async def test_probes_are_large_enough_to_have_newcomers_pinged(autojump_clock):
    async with open_scan("fresh", seed=1) as scan:
        account = scan._open_account("paid", scan.address())
        body = FindNode(bytes(20))
        scan.send(scan.request(body, account.target, b"", 1200), account.target)
        await trio.sleep(5)
        # The answer, and two PINGs that nobody answers.
        assert account.datagrams_out == 3
