import io
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from pipeline.config.choose import Targets
from pipeline.metrics.candidates import Candidate
from pipeline.pictures import canvas
from pipeline.pictures.canvas import letters_without_font, message, short, style, to_png
from pipeline.pictures.confusion import confusion_matrices
from pipeline.pictures.contact_sheet import Thumbnail, contact_sheet
from pipeline.pictures.reliability import _bins, reliability_diagrams
from pipeline.pictures.tradeoff import tradeoff

LABELS = ["chat tigré", "молоко", "a $x$ with dollars", "rote Möhre mit sehr langem Namen im Garten"]


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        return np.array(picture.convert("RGB")).astype(int)


def predictions(labels: list[str]) -> pd.DataFrame:
    """Each label twice: once right, once taken for the next one."""
    following = labels[1:] + labels[:1]
    rows = [(a, a, 0.9, True) for a in labels] + [(a, b, 0.6, False) for a, b in zip(labels, following, strict=True)]
    return pd.DataFrame(rows, columns=["actual", "predicted", "probability", "is_right"])


def is_blank(columns: np.ndarray) -> bool:
    return bool((columns == 255).all())


def assert_nothing_is_cut_off(png: bytes) -> None:
    """What is drawn keeps off all four edges."""
    found = pixels(png)
    assert not is_blank(found)
    assert all(map(is_blank, (found[:2], found[-2:], found[:, :2], found[:, -2:])))


def drawn(monkeypatch: pytest.MonkeyPatch, module: str) -> list[Figure]:
    """Collect the figures that a module of pictures encodes."""
    figures: list[Figure] = []

    def collect(figure: Figure) -> bytes:
        figures.append(figure)
        return to_png(figure)

    monkeypatch.setattr(f"pipeline.pictures.{module}.to_png", collect)
    return figures


def cells(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_confusion_counts_rows_by_what_a_frame_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch, "confusion")
    table = pd.DataFrame({"actual": ["a", "a", "b"], "predicted": ["a", "b", "b"]})
    confusion_matrices({"x": table}, ["a", "b", "c"])
    assert cells(figures[0]) == ["1\n50%", "1\n50%", "1\n100%"]
    ticks = figures[0].axes[0].get_yticklabels()
    assert [text.get_text() for text in ticks] == ["a", "b", "c"]


MANY_LABELS = pytest.param([f"label {i}" for i in range(40)], marks=pytest.mark.slow)


@pytest.mark.parametrize("labels", [LABELS[:2], LABELS, MANY_LABELS])
def test_confusion_matrices_fit_whatever_the_labels(labels: list[str]) -> None:
    tables = {"float32": predictions(labels), "int8 (deployed)": predictions(labels)}
    png = confusion_matrices(tables, labels)
    assert_nothing_is_cut_off(png)
    assert pixels(png).shape[1] <= 4200


def test_right_answers_are_blue_and_errors_red() -> None:
    found = pixels(confusion_matrices({"x": predictions(LABELS)}, LABELS)).reshape(-1, 3)
    red, blue = found[:, 0] - found[:, 2] > 60, found[:, 2] - found[:, 0] > 60
    assert 0.8 < red.sum() / blue.sum() < 1.2  # half of each row is right


def test_bins_are_worked_out_as_by_hand() -> None:
    table = pd.DataFrame({"probability": [0.95, 1.0, 0.35], "is_right": [True, False, True]})
    found = _bins(table, 10)
    assert found.index.tolist() == [3, 9]
    assert found["num_frames"].tolist() == [1, 2]
    assert found["accuracy"].tolist() == [1, 0.5]
    assert found["confidence"].tolist() == pytest.approx([0.35, 0.975])


def test_reliability_diagrams_fit() -> None:
    assert_nothing_is_cut_off(reliability_diagrams({"a": predictions(LABELS), "b": predictions(LABELS)}, num_bins=10))


def test_a_fully_right_bin_reads_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch, "reliability")
    table = pd.DataFrame({"probability": [0.68] * 20 + [0.95] * 4, "is_right": [True] * 20 + [True, False] * 2})
    reliability_diagrams({"a": table}, num_bins=10)
    above = figures[0].axes[0]
    assert [bar.get_height() for bar in above.patches if isinstance(bar, Rectangle)] == [
        1,
        0.5,
    ]  # one bar a bin, as high as what is right
    assert cells(figures[0]) == ["100%", "50%"]
    (sure,) = (lines.get_segments() for lines in above.collections if isinstance(lines, LineCollection))
    assert [segment[0][1] for segment in sure] == pytest.approx([0.68, 0.95])


MIB = 2**20
BIG = Candidate("net_big float32", 0.92, 20.0, 12 * MIB)
SMALL = Candidate("net_small float32", 0.90, 9.0, 8 * MIB)
INT8 = Candidate("net_small int8", 0.89, 4.0, 2 * MIB)
WORSE = Candidate("net_small float16", 0.89, 9.1, 4 * MIB)


def picture(candidates: Sequence[Candidate], chosen: int = 0, **options: Any) -> bytes:
    texts: Any = {"chosen_is": "deployed", "title": "Title", "accuracy_label": "accuracy, %"}
    return tradeoff(candidates, chosen=candidates[chosen], num_threads=1, **texts, **options)


def assert_names_are_apart(figure: Figure, expected: list[str]) -> None:
    names = [text for text in figure.axes[0].texts if "%" in text.get_text()]
    assert sorted(text.get_text() for text in names) == expected
    boxes = [Text.get_window_extent(text) for text in names]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_names_stand_beside_marks_without_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch, "tradeoff")
    assert_nothing_is_cut_off(picture([BIG, SMALL, INT8, WORSE], targets=Targets(latency_ms=5)))
    names = ["big float32  92.0%", "small float16  89.0%", "small float32  90.0%", "small int8  89.0%"]
    assert_names_are_apart(figures[0], names)
    assert figures[0].axes[0].texts[0].get_text() == " target 5 ms"


def test_names_of_coinciding_schemes_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch, "tradeoff")
    assert_nothing_is_cut_off(picture([Candidate(f"scheme{i}", 1.0, 5.0, 1000) for i in range(5)]))
    assert_names_are_apart(figures[0], [f"scheme{i}  100.0%" for i in range(5)])


def test_twelve_models_in_one_place_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch, "tradeoff")
    picture([Candidate(f"net int8 (trial {i})", 0.8 + i / 1000, 10 + i / 50, MIB) for i in range(12)])
    assert_names_are_apart(figures[0], sorted(f"net int8 (trial {i})  {80 + i / 10:.1f}%" for i in range(12)))


def test_a_name_without_room_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch, "tradeoff")
    picture([INT8, Candidate("x" * 300, 0.9, 9.0, MIB)])
    assert cells(figures[0]) == ["net_small int8  89.0%"]


def test_a_crowd_is_not_named_but_for_the_front_and_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch, "tradeoff")
    crowd = [Candidate(f"net_{i} float32", 0.8, 10.0 + i, 5 * MIB) for i in range(30)]
    picture([*crowd, BIG], chosen=3)
    assert sorted(cells(figures[0])) == ["0 float32  80.0%", "3 float32  80.0%", "big float32  92.0%"]


def test_the_chosen_one_is_orange_even_where_another_lies() -> None:
    found = pixels(picture([Candidate("a", 0.9, 5.0, 1000), Candidate("b", 0.9, 5.0, 1000)])).reshape(-1, 3)
    assert (np.abs(found - [0xE6, 0x9F, 0x00]).sum(1) == 0).sum() > 500


def test_equal_candidates_give_equal_bytes() -> None:
    assert picture([BIG, SMALL, INT8]) == picture([BIG, SMALL, INT8])


@pytest.mark.parametrize("num", [1, 7])
@pytest.mark.parametrize("shape", [(120, 90, 3), (90, 160, 3)])
def test_contact_sheets_fit(num: int, shape: tuple[int, int, int]) -> None:
    image = np.full(shape, (10, 200, 30), np.uint8)
    frames = [Thumbnail(image, LABELS[3], LABELS[1], 0.999, "IMG_0412.mov at 12.5 s", "loses 3 of 24 frames")] * num
    png = contact_sheet("Title", "subtitle", frames)
    assert_nothing_is_cut_off(png)
    assert (np.abs(pixels(png) - [10, 200, 30]).sum(2) < 6).sum() > 2000 * num


def test_a_message_is_deterministic_and_holds_no_version() -> None:
    png = message("int8 loses nothing", "Every frame is right.")
    assert png == message("int8 loses nothing", "Every frame is right.")
    assert b"matplotlib" not in png.lower()


def test_a_persons_own_settings_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = message("a", "b")
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 30)
    assert message("a", "b") == expected


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FontEntry]]:
    """This machine's fonts besides the usual one: none, unless a test adds some."""
    entries = [entry for entry in fontManager.ttflist if entry.name == canvas._FONT]
    monkeypatch.setattr(fontManager, "ttflist", entries)
    canvas._family_with.cache_clear()
    yield entries
    canvas._family_with.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("猫", r"\u732b"),
        ("é 猫", r"é \u732b"),
        ("𠮷", r"\U00020bb7"),
        ("日本の犬と猫の写真", r"\u65e5…\u771f"),
        ("猫" * 3 + "cup", r"\u732b\u732b\u732bcup"),
    ],
)
def test_letters_that_no_font_has_are_escapes(fonts: list[FontEntry], text: str, expected: str) -> None:
    assert short(text) == expected


def test_letters_that_no_font_has_are_told(fonts: list[FontEntry]) -> None:
    assert letters_without_font(["日 cup", "本 日", "rote Möhre"]) == "日本"


def test_escapes_are_drawn_without_a_warning(fonts: list[FontEntry]) -> None:
    labels = ["日本", "cup"]
    assert_nothing_is_cut_off(confusion_matrices({"x": predictions(labels)}, labels))
    frame = Thumbnail(np.zeros((9, 9, 3), np.uint8), "日本", "cup", 0.9, "日本.mov at 1.0 s")
    assert_nothing_is_cut_off(contact_sheet("Title", "subtitle", [frame]))


def test_a_font_of_the_machine_is_used_for_letters_that_the_usual_one_lacks(
    fonts: list[FontEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    fonts.append(FontEntry(fname="cjk.ttc", name="Some CJK", style="normal", weight=400))
    letters = canvas._letters_of
    monkeypatch.setattr(canvas, "_letters_of", lambda file: frozenset("日本") if file == "cjk.ttc" else letters(file))
    assert short("é日本") == "é日本"
    assert short("日本" * 4, 9) == "日本…日本"  # each as wide as two Latin letters
    with style(["é日本"]):
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans", "Some CJK"]


def test_a_file_that_is_no_font_has_no_letters(tmp_path: object) -> None:
    assert canvas._letters_of(__file__) == frozenset()


@pytest.mark.parametrize(("text", "expected"), [("short", "short"), ("abcdefghij", "abc…hij"), ("abcdefg", "abcdefg")])
def test_long_names_lose_their_middle(text: str, expected: str) -> None:
    assert short(text, 7) == expected
