"""HTML, escaped: the few elements that a report needs.

Owns the escaping: whatever text comes in, it stays text. Refuses to know what is
reported.
"""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import NewType

Markup = NewType("Markup", str)
"""Text that is HTML already."""

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; }
h3 { margin-top: 2rem; }
table { border-collapse: collapse; font-size: 13px; margin: .5rem 0; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #e4e4e4;
  vertical-align: top; }
th { background: #f6f6f6; } td.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
figure { display: inline-block; margin: 1rem 1rem 1rem 0; }
figure img { width: 36rem; max-width: 100%; border: 1px solid #eee; }
figcaption { font-size: 13px; color: #555; }
code { font-size: 12px; background: #f6f6f6; padding: .1rem .3rem; }
.bad { color: #a4262c; font-weight: 600; } .quiet { color: #555; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def text(value: object) -> Markup:
    """Any text, as itself."""
    return Markup(html.escape(str(value)))


def element(name: str, *parts: Markup, kind: str = "") -> Markup:
    """An element with what is inside of it."""
    attribute = f' class="{kind}"' if kind else ""
    return Markup(f"<{name}{attribute}>{''.join(parts)}</{name}>")


def target(title: str) -> Markup:
    """The head of a section, for links to go to."""
    return Markup(f'<h2 id="{html.escape(title)}">{html.escape(title)}</h2>')


def link(title: str) -> Markup:
    """A link to the section with this head."""
    return Markup(f'<a href="#{html.escape(title)}">{html.escape(title)}</a>')


def joined(parts: Iterable[Markup]) -> Markup:
    """Several, one after the other."""
    return Markup("\n".join(parts))


def table(heads: Sequence[str], rows: Iterable[Sequence[Markup]]) -> Markup:
    """A table; cells that begin with a digit stand at the right."""
    head = element("tr", *(element("th", text(one)) for one in heads))
    body = joined(element("tr", *map(_cell, row)) for row in rows)
    return element("div", element("table", head, body), kind="wide")


def _cell(content: Markup) -> Markup:
    number = content[:1].isdigit() or (content[:1] == "-" and content[1:2].isdigit())
    return element("td", content, kind="number" if number else "")


def image(svg: bytes, about: str) -> Markup:
    """A picture inside of the page, and its caption."""
    data = base64.b64encode(svg).decode("ascii")
    source = f"data:image/svg+xml;base64,{data}"
    picture = Markup(f'<img src="{source}" alt="{html.escape(about)}">')
    return element("figure", picture, element("figcaption", text(about)))


def page(title: str, *parts: Markup) -> str:
    """A whole page: one file, which asks for nothing else."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{joined(parts)}\n</body></html>\n"
    )
