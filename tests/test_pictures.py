import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

from pipeline.pictures import canvas
from pipeline.pictures.canvas import message, new_figure, short, style, to_png
from pipeline.pictures.confusion import _counts, confusion_matrices
from pipeline.pictures.contact_sheet import Thumbnail, contact_sheet
from pipeline.pictures.reliability import _bins, reliability_diagrams
from pipeline.pictures.tradeoff import SchemeCosts, tradeoff

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


def test_confusion_counts_rows_by_what_a_frame_shows() -> None:
    table = pd.DataFrame({"actual": ["a", "a", "b"], "predicted": ["a", "b", "b"]})
    assert _counts(table, ["a", "b", "c"]).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("labels", [LABELS[:2], LABELS, [f"a rather long label {i}" for i in range(30)]])
def test_confusion_matrices_fit_whatever_the_labels(labels: list[str]) -> None:
    tables = {"float32": predictions(labels), "int8 (deployed)": predictions(labels)}
    png = confusion_matrices(tables, labels)
    assert_nothing_is_cut_off(png)
    assert pixels(png).shape[1] <= 4000


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


def test_names_of_coinciding_schemes_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr("pipeline.pictures.tradeoff.to_png", lambda figure: figures.append(figure) or to_png(figure))
    schemes = [SchemeCosts(f"scheme{i}", 1.0, 1000, 5.0, i == 0) for i in range(5)]
    assert_nothing_is_cut_off(tradeoff(schemes, num_frames=10, num_threads=1))
    for axes in figures[0].axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        assert len(boxes) == len(schemes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_the_deployed_scheme_is_orange_even_where_another_lies() -> None:
    schemes = [SchemeCosts("a", 0.9, 1000, 5.0, True), SchemeCosts("b", 0.9, 1000, 5.0, False)]
    found = pixels(tradeoff(schemes, num_frames=10, num_threads=1)).reshape(-1, 3)
    assert (np.abs(found - [0xE6, 0x9F, 0x00]).sum(1) == 0).sum() > 200


@pytest.mark.parametrize("num", [1, 7])
@pytest.mark.parametrize("shape", [(120, 90, 3), (90, 160, 3)])
def test_contact_sheets_fit(num: int, shape: tuple[int, int, int]) -> None:
    image = np.full(shape, (10, 200, 30), np.uint8)
    frames = [Thumbnail(image, LABELS[3], LABELS[1], 0.999, "IMG_0412.mov at 12.5 s")] * num
    png = contact_sheet("Title", "subtitle", frames)
    assert_nothing_is_cut_off(png)
    assert (np.abs(pixels(png) - [10, 200, 30]).sum(2) < 6).sum() > 2000 * num


def test_a_message_is_deterministic_and_holds_no_version() -> None:
    png = message("int8 loses nothing", "Every frame is right.")
    assert png == message("int8 loses nothing", "Every frame is right.")
    assert b"matplotlib" not in png.lower()


def test_a_persons_own_settings_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = message("a", "b")
    monkeypatch.setitem(canvas.matplotlib.rcParams, "font.size", 30)
    assert message("a", "b") == expected


def test_letters_that_no_font_has_are_told_once_and_do_not_stop_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canvas.fontManager, "ttflist", [])
    with style(["日本"]):
        figure = new_figure(2, 1)
        figure.text(0.1, 0.5, "日本")
        assert not is_blank(pixels(to_png(figure)))
    assert "no font on this machine has 日 本" in capsys.readouterr().err


def test_a_font_of_the_machine_is_used_for_letters_that_the_usual_one_lacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = canvas.FontEntry(fname="cjk.ttc", name="Some CJK", style="normal", weight=400)
    monkeypatch.setattr(canvas.fontManager, "ttflist", [entry])
    letters = canvas._letters_of
    monkeypatch.setattr(canvas, "_letters_of", lambda file: frozenset("日本") if file == "cjk.ttc" else letters(file))
    assert canvas._further_fonts(frozenset("é日本")) == ["Some CJK"]
    assert capsys.readouterr().err == ""


def test_a_file_that_is_no_font_has_no_letters(tmp_path: object) -> None:
    assert canvas._letters_of(__file__) == frozenset()


@pytest.mark.parametrize(("text", "expected"), [("short", "short"), ("abcdefghij", "abc…hij"), ("abcdefg", "abcdefg")])
def test_long_names_lose_their_middle(text: str, expected: str) -> None:
    assert short(text, 7) == expected
