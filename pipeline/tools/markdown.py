"""Tables, values and remarks as Markdown."""

import json
import re
from collections.abc import Iterable, Sequence

_TEMPLATE = re.compile(r"\$\{(?:item\.)?([^}]+)\}")
_ADDRESS = re.compile(r"https?://[^\s,;)]*[^\s,;).]")
_EXPONENT = re.compile(r"[\d.]+e-\d+")
_CODE_OR_LINK = re.compile(r"(`[^`]*`|\]\([^)]*\))")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its cells may hold code and links, all else in them is shown as it is."""
    cells = [[prose(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *cells])


def prose(text: str) -> str:
    """Return a remark: addresses become links; what is neither code nor a link shows its stars and angle brackets."""
    pieces = _CODE_OR_LINK.split(text)
    pieces[::2] = [_ADDRESS.sub(r"<\g<0>>", piece.replace("<", "&lt;").replace("*", r"\*")) for piece in pieces[::2]]
    return "".join(pieces)


def value(found: object) -> str:
    """Return a value as YAML has it, as code; small numbers are written out."""
    text = (
        found
        if isinstance(found, str)
        else _EXPONENT.sub(_written_out, json.dumps(found, ensure_ascii=False).replace('"', ""))
    )
    return code(text) if text else "(empty)"


def _written_out(number: re.Match[str]) -> str:
    return f"{float(number[0]):.12f}".rstrip("0")


def paths(found: Iterable[str]) -> str:
    """Return paths of dvc.yaml as code; `${item.scheme}` and `${deploy}` become <scheme> and <deploy>."""
    return listed(_TEMPLATE.sub(r"<\1>", path) for path in found)


def code(text: str) -> str:
    """Return a text as code."""
    return f"`{text}`"


def listed(names: Iterable[str]) -> str:
    """Return names as code, with commas between."""
    return ", ".join(map(code, names))
