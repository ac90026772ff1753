import os
import signal
import subprocess
import sys

import pytest
import trio

from opnode.cli.signals import run_until_signal


async def nothing():
    await trio.lowlevel.checkpoint()


def test_a_main_that_ends_by_itself_was_not_signalled(restored_signals):
    assert run_until_signal(nothing) is False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_lets_main_clean_up(restored_signals, number):
    cleaned = []

    async def main():
        os.kill(os.getpid(), number)
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(True)

    assert run_until_signal(main) is True
    assert cleaned == [True]


def test_an_ignored_hang_up_stays_ignored(restored_signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def main():
        os.kill(os.getpid(), signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked()

    assert run_until_signal(main) is False


def test_the_second_signal_ends_at_once_after_the_hook():
    code = """
import os, signal, trio
from opnode.cli.signals import run_until_signal
async def main():
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep_forever()
run_until_signal(main, on_hard_exit=lambda: print("hook", flush=True))
"""
    result = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (result.returncode, result.stdout) == (1, "hook\n")


def test_an_error_of_main_is_not_lost(restored_signals):
    async def main():
        await trio.lowlevel.checkpoint()
        raise ValueError("lost?")

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="lost")):
        run_until_signal(main)
