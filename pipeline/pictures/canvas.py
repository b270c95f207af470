"""What all pictures share: style, fonts that have the labels' letters, PNG files that depend on the content alone."""

import contextlib
import io
import sys
import warnings
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
LIGHT_BLUE, LIGHT_RED = "#9ccbe6", "#f3b893"

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
        texts: What will be written that comes from the user: labels and takes.
    """
    families = [_FONT, *_further_fonts(frozenset("".join(texts)))]
    with matplotlib.style.context(["default", _STYLE | {"font.family": families}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # was told once, by _further_fonts
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
    """Return a name with its middle left out if it is longer than `max_letters`: both ends tell names apart."""
    if len(text) <= max_letters:
        return text
    tail = (max_letters - 1) // 2
    return f"{text[: max_letters - 1 - tail]}…{text[-tail:]}"


def _further_fonts(letters: frozenset[str]) -> list[str]:
    """Return families of this machine's fonts that have the letters which the usual font lacks; tell what none has."""
    missing = {letter for letter in letters if letter.isprintable()} - _letters_of(_usual_font_file())
    families: list[str] = []
    if missing:
        for entry in sorted(filter(_is_plain, fontManager.ttflist), key=lambda entry: entry.fname):
            found = missing & _letters_of(entry.fname)
            if found:
                families.append(entry.name)
                missing -= found
    if missing:
        sys.stderr.write(
            f"report: no font on this machine has {' '.join(sorted(missing))} (boxes in the pictures instead); "
            "one of the family Noto Sans would\n"
        )
    return families


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
