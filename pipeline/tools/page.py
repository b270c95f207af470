"""Pieces of a page that opens without a network: all is in it, and whatever comes from a person is text."""

import base64
from collections.abc import Sequence
from html import escape

_STYLE = """\
:root { color-scheme: light dark; --line: #d8d8d8; --soft: #f5f5f5; --mark: #0072b2 }
@media (prefers-color-scheme: dark) { :root { --line: #444; --soft: #222; --mark: #9ccbe6 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
.wide { overflow-x: auto }
pre { background: var(--soft); padding: 1rem; overflow-x: auto; font-size: 14px }
img { max-width: 100%; background: white; border-radius: 6px; padding: .5rem; box-sizing: border-box }
.warning { border-left: 4px solid #d55e00; padding-left: 1rem }
.marked { color: var(--mark); font-weight: 600 }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """Return a whole page.

    Args:
        title: Any text.
        sections: HTML, as the functions below make it.
    """
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join([f"<h1>{escape(title)}</h1>", *sections])
    html = f"<head>{head}\n<style>\n{_STYLE}</style></head>\n<body>\n{body}\n</body>"
    return f'<!doctype html>\n<html lang="en">{html}</html>\n'


def section(title: str, *parts: str) -> str:
    """Return a section of a page.

    Args:
        title: Any text.
        parts: HTML.
    """
    return "\n".join([f"<h2>{escape(title)}</h2>", *parts])


def paragraph(text: str, *, kind: str = "") -> str:
    """Return a paragraph of any text, whose lines stay lines; `kind` may be "warning"."""
    return f'<p class="{kind}">{escape(text).replace(chr(10), "<br>")}</p>'


def listing(text: str) -> str:
    """Return any text as it stands, in letters of equal width."""
    return f"<pre>{escape(text)}</pre>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, marked: int | None = None) -> str:
    """Return a table of any texts, one row of which may be marked."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = [
        f"<tr{' class=marked' if number == marked else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for number, row in enumerate(rows)
    ]
    return f'<div class="wide"><table><tr>{head}</tr>\n{chr(10).join(lines)}</table></div>'


def folded(title: str, content: str) -> str:
    """Return HTML behind a title that it opens with a click."""
    return f"<details><summary>{escape(title)}</summary>\n{content}\n</details>"


def picture(png: bytes, description: str) -> str:
    """Return a PNG inside the page."""
    data = base64.b64encode(png).decode()
    return f'<p><img alt="{escape(description)}" src="data:image/png;base64,{data}"></p>'
