from opnode.cli.output import Output
from opnode.cli.progress import TransferBar, sent_text
from opnode.daemon import control_messages as messages

SENT = messages.Sent(name="a", size=2_000_000, resumed_at=0, seconds=2.0, sha256="")


def test_what_happens_to_a_file_is_told(capsys):
    output = Output(is_json=False)
    with TransferBar(output, "a") as bar:
        for done in (0, 1_000_000, 2_000_000):
            bar.show(messages.TransferProgress(done=done, size=2_000_000), output)
        bar.show(messages.Interrupted(reason="gone", retry_in_s=0.5), output)
        bar.show(SENT, output)
    out = capsys.readouterr().out
    assert "interrupted: gone" in out
    assert "sent a: 2.0 MB at 1.0 MB/s, verified" in out


def test_a_resumed_and_renamed_file_says_so():
    sent = messages.Sent(
        name="a (1)", size=2_000_000, resumed_at=1_000_000, seconds=1.0, sha256=""
    )
    text = sent_text(sent, "a")
    assert text == "sent a as a (1): 2.0 MB at 1.0 MB/s, 1.0 MB before, verified"


def test_an_empty_file_has_no_rate():
    sent = messages.Sent(name="a", size=0, resumed_at=0, seconds=1.0, sha256="")
    assert sent_text(sent, "a") == "sent a: 0 B, verified"


def test_programs_see_no_bar(capsys):
    output = Output(is_json=True)
    with TransferBar(output, "a") as bar:
        bar.show(messages.TransferProgress(done=1, size=2), output)
        bar.show(SENT, output)
    assert capsys.readouterr().out == ""
