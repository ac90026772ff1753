"""Whatever text comes in, it stays text."""

from simulations.plot.page import element, image, link, page, table, target, text

EVIL = '<script>alert("1")</script>'


def test_text_is_escaped_everywhere():
    made = [
        text(EVIL),
        element("p", text(EVIL)),
        table([EVIL], [[text(EVIL)]]),
        image(b"<svg/>", EVIL),
        link(EVIL),
        target(EVIL),
        page(EVIL, text(EVIL)),
    ]
    assert not any("<script" in one or '"1"' in one for one in made)


def test_a_page_asks_for_nothing_outside():
    made = page("A", image(b"<svg/>", "a"))
    assert "default-src 'none'" in made
    assert "http" not in made.replace("http-equiv", "")


def test_numbers_stand_at_the_right():
    made = table(["n"], [[text(5)], [text("-0.5")], [text("five")], [text("-")]])
    assert made.count('class="number"') == 2
