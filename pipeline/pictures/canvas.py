"""What all pictures share: style, fonts that have the labels' letters, PNG files that depend on the content alone."""

import contextlib
import io
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import matplotlib
import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.ft2font import FT2Font

# Colours that people with any kind of colour vision tell apart (Okabe and Ito, https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, RED, GREEN, GREY, DARK = "#0072b2", "#e69f00", "#d55e00", "#009e73", "#8a8a8a", "#222222"
LIGHT_BLUE = "#9ccbe6"

DOTS_PER_INCH = 110

_FONT = "DejaVu Sans"  # comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian, Georgian and more
_MAX_LABEL_LETTERS = 22
_STYLE = {
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.labelcolor": DARK,
    "axes.edgecolor": "#bbbbbb",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": DARK,
    "text.parse_math": False,  # a label with dollar signs is a label, not a formula
    "xtick.color": DARK,
    "ytick.color": DARK,
    "figure.facecolor": "white",
}


@contextlib.contextmanager
def style(texts: Iterable[str] = ()) -> Iterator[None]:
    """Set matplotlib up, whatever a person's own matplotlibrc says, with fonts for some texts.

    Args:
        texts: What will be written that comes from the user, labels and takes, each through `short`.
    """
    families = dict.fromkeys([_FONT, *(_family_with(letter) or _FONT for letter in sorted(set("".join(texts))))])
    with matplotlib.style.context(["default", _STYLE | {"font.family": list(families)}]):
        yield


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty picture; what does not overlap is laid out by matplotlib."""
    figure = Figure(figsize=(width_inches, height_inches), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """Encode a picture; equal pictures give equal bytes, since neither a date nor a version is written."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None}, bbox_inches="tight", pad_inches=0.15)
    return content.getvalue()


def message(headline: str, text: str) -> bytes:
    """Return a PNG that says something good, where there is nothing to show.

    Args:
        headline: A few words.
        text: A sentence, which may have several lines.
    """
    with style([headline, text]):
        figure = new_figure(8, 3)
        figure.text(0.5, 0.78, "✓", ha="center", va="center", size=44, color=GREEN)
        figure.text(0.5, 0.45, headline, ha="center", va="center", size=16, weight="bold")
        figure.text(0.5, 0.22, text, ha="center", va="center", size=11, color=GREY)
        return to_png(figure)


def short(text: str, max_letters: int = _MAX_LABEL_LETTERS) -> str:
    r"""Return a name as pictures write it.

    A letter that no font of this machine has becomes an escape, `\u732b` for `猫`: a box tells nothing. A longer name
    loses its middle, since both ends tell names apart.

    Args:
        text: Any text.
        max_letters: How long it may be, as `num_letters` counts.
    """
    pieces = [letter if _family_with(letter) else _escape(letter) for letter in text]
    if num_letters("".join(pieces)) <= max_letters:
        return "".join(pieces)
    tail = (max_letters - 1) // 2
    head, end = _fitting(pieces, max_letters - 1 - tail), _fitting(pieces[::-1], tail)
    return "".join([*head, "…", *end[::-1]])


def letters_without_font(texts: Iterable[str]) -> str:
    """Return the letters that `short` escapes, each once."""
    return "".join(sorted(letter for letter in set("".join(texts)) if not _family_with(letter)))


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def num_letters(text: str) -> int:
    """Return how wide a text is, in Latin letters: Chinese, Japanese and Korean ones are twice as wide."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def _fitting(pieces: list[str], max_letters: int) -> list[str]:
    """Return as many of the first pieces as fit, but at least one."""
    num = next((num for num in range(len(pieces), 1, -1) if num_letters("".join(pieces[:num])) <= max_letters), 1)
    return pieces[:num]


@cache
def _family_with(letter: str) -> str | None:
    """Return the font that a letter is drawn in: the usual one, else the first of this machine that has it, if any."""
    if letter in _letters_of(_usual_font_file()):
        return _FONT
    entries = sorted(filter(_is_plain, fontManager.ttflist), key=lambda entry: entry.fname)
    return next((entry.name for entry in entries if letter in _letters_of(entry.fname)), None)


def _usual_font_file() -> str:
    return str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")


def _is_plain(entry: FontEntry) -> bool:
    return entry.style == "normal" and entry.weight in (400, "normal", "regular") and "Last Resort" not in entry.name


@cache
def _letters_of(file: str) -> frozenset[str]:
    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError):  # a font of a format that FreeType does not know
        return frozenset()
