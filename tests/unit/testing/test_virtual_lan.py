"""`virtual_lan`: all hear a question, one hears an answer, and lost is lost."""

from opnode.testing.virtual_lan import VirtualLan


async def test_all_hear_a_question_and_one_hears_an_answer(autojump_clock):
    link = VirtualLan()
    ((one,), (two,)) = (link.opener(f"10.0.0.{n}")() for n in (1, 2))
    await one.ask(b"who?")
    assert (await one.receive())[0] == b"who?"
    data, source, address = await two.receive()
    assert (data, source.host) == (b"who?", "10.0.0.1")
    await two.reply(b"me", address)
    assert (await one.receive())[0] == b"me"
    assert (link.asked, link.bytes_answered) == (1, 2)
    link.drops = lambda _: True
    await two.ask(b"lost")
    one.close()
    await two.reply(b"gone", address)
    two.close()
