import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.config.report import ReportConfig, ReportStage
from pipeline.errors import InputError, PipelineError
from pipeline.files import layout, write_bytes, write_text
from pipeline.metrics.predictions import read_predictions
from pipeline.pictures.contact_sheet import Thumbnail
from pipeline.pictures.recalls import advice, learning_curve
from pipeline.report import pictures, report, thumbnail
from pipeline.takes.single_frame import read_frame
from pipeline.takes.tables import FRAMES, read_parquet, to_parquet
from tests import tiny_project, tiny_results

CONFIG = ReportConfig(num_calibration_bins=10, num_thumbnails=4)
NAMES = (
    *("confusion.png", "learning_curve.png", "lost_to_quantization.png", "recalls.png", "reliability.png"),
    *("tradeoff.png", "training.png", "unknown.png", "worst_errors.png"),
)


def stage(deploy: str, *schemes: str) -> ReportStage:
    return ReportStage(deploy, list(schemes or ("float32", "int8")), CONFIG)


@pytest.fixture
def results(folder: Path) -> Path:
    tiny_project.make()
    tiny_results.write_scheme("float32", wrong=[1])
    tiny_results.write_scheme("int8", wrong=[1, 4, 8])
    return folder


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.size


def test_all_pictures_are_written_and_no_other_file(results: Path) -> None:
    layout.PICTURES.mkdir(parents=True)
    (layout.PICTURES / "old.png").write_bytes(b"of an earlier version")
    report(stage("int8"))
    assert sorted(path.name for path in layout.PICTURES.iterdir()) == list(NAMES)
    assert sorted(path.name for path in layout.PICTURES.parent.iterdir()) == [
        *("crossval", "evaluation", "finetune", "pictures", "training")
    ]


@pytest.mark.slow
def test_equal_results_give_equal_bytes(results: Path) -> None:
    assert pictures(stage("int8")) == pictures(stage("int8"))


@pytest.mark.slow
def test_float32_deployed_is_shown_alone(results: Path) -> None:
    alone, both = pictures(stage("float32")), pictures(stage("int8"))
    for name in ("confusion.png", "reliability.png"):
        assert size_of(alone[name])[0] < size_of(both[name])[0]


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, list[tuple[int, str]]]]:
    """What the contact sheets are told to show: the subtitle, and each frame's confidence in percent and note."""
    shown: dict[str, tuple[str, list[tuple[int, str]]]] = {}

    def sheet(title: str, subtitle: str, frames: list[Thumbnail]) -> bytes:
        shown[title] = subtitle, [(round(100 * frame.probability), frame.note) for frame in frames]
        return b""

    monkeypatch.setattr("pipeline.report.contact_sheet", sheet)
    return shown


Sheets = dict[str, tuple[str, list[tuple[int, str]]]]


def test_a_take_is_shown_once_by_its_surest_error_with_a_count(results: Path, sheets: Sheets) -> None:
    pictures(stage("int8"))  # wrong: 1 and 4 of one take, 8 of the other; the later, the less sure
    subtitle, frames = sheets["The worst errors of int8: surest and wrong"]
    assert frames == [(89, "int8 gets 2 of 5 frames wrong"), (82, "int8 gets 1 of 5 frames wrong")]
    assert subtitle == (
        "int8 gets 3 of 10 frames wrong, in 2 take(s)\n"
        "✗ what it says, ✓ what it is; the surest of each take, 2 of 2 shown"
    )


def test_frames_lost_to_quantization_are_those_that_float32_gets_right(results: Path, sheets: Sheets) -> None:
    pictures(stage("int8"))
    subtitle, frames = sheets["Right in float32, wrong in int8"]
    assert frames == [(86, "int8 loses 1 of 5 frames"), (82, "int8 loses 1 of 5 frames")]  # frames 4 and 8
    assert subtitle.startswith("int8 loses 2 of 10 frames, in 2 take(s)\n")


def test_if_float32_is_deployed_all_other_listed_schemes_are_shown_in_turns(results: Path, sheets: Sheets) -> None:
    tiny_results.write_scheme("int4", wrong=[0, 1, 2, 9])
    tiny_results.write_scheme("float16", wrong=[1])
    schemes = ["float32", "int8", "int4", "float16"]
    pictures(ReportStage("float32", schemes, ReportConfig(num_calibration_bins=10, num_thumbnails=3)))
    subtitle, frames = sheets["Right in float32, wrong in int8 or int4 or float16"]
    assert frames == [
        (90, "int4 loses 2 of 5 frames"),
        (86, "int8 loses 1 of 5 frames"),
        (82, "int8 loses 1 of 5 frames"),
    ]
    assert subtitle.splitlines() == [
        "int8 loses 2 of 10 frames, in 2 take(s)",
        "int4 loses 3 of 10 frames, in 2 take(s)",
        "float16 loses 0 of 10 frames, in 0 take(s)",
        "✗ what it says, ✓ what it is; the surest of each take, 3 of 4 shown",
    ]


def test_a_photo_has_no_count(results: Path, sheets: Sheets) -> None:
    for scheme in ("float32", "int8"):
        table = tiny_results.predictions([1] if scheme == "int8" else []).iloc[:2]
        names = table.assign(take=["cup/a.jpg", "cup/test.mp4"])
        write_text(layout.crossval_predictions(scheme), names.to_csv(index=False))
    pictures(stage("int8"))
    assert sheets["Right in float32, wrong in int8"][1] == [(89, "int8 loses it")]


def test_nothing_wrong_is_said_in_a_friendly_way(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.message", lambda headline, text: f"{headline}: {text}".encode())
    tiny_results.write_scheme("int8")
    made = pictures(stage("int8"))
    assert made["worst_errors.png"] == b"int8 gets every frame right: all 10 of them"
    lost = b"Nothing is lost: Every frame that float32 gets right is right in int8, too."
    assert made["lost_to_quantization.png"] == pictures(stage("float32"))["lost_to_quantization.png"] == lost
    lost = b"Nothing to compare: `quantization` in params.yaml lists float32 alone."
    assert pictures(stage("float32", "float32"))["lost_to_quantization.png"] == lost


def test_a_tuned_backbone_has_its_curve(results: Path) -> None:
    assert "finetuning.png" not in pictures(stage("float32"))
    write_text(layout.FINETUNE_CURVES, "epoch,train_loss,validation_loss\n1,0.5,0.6\n2,0.4,0.5\n")
    assert "finetuning.png" in pictures(stage("float32"))


def test_without_cross_validation_the_test_takes_are_shown(results: Path, sheets: Sheets) -> None:
    for scheme in ("float32", "int8"):
        empty = tiny_results.predictions().iloc[:0]
        write_text(layout.crossval_predictions(scheme), empty.to_csv(index=False))
    pictures(stage("int8"))
    assert sheets["The worst errors of int8: surest and wrong"][0].startswith("int8 gets 3 of 10 frames wrong")


CURVE = pd.DataFrame(
    [
        (50, 6.0, "", 0.7, 0.6, 0.8),
        (50, 6.0, "cup", 0.8, 0.6, 1),
        (50, 6.0, "pen", 0.6, 0.5, 0.7),
        (100, 12.0, "", 0.85, 0.8, 0.9),
        (100, 12.0, "cup", 0.75, 0.7, 0.8),
        (100, 12.0, "pen", 0.95, 0.9, 1.0),
    ],
    columns=["percent", "num_takes", "label", "recall", "low", "high"],
)


def test_the_learning_curve_says_whether_more_takes_would_help() -> None:
    assert advice(CURVE) == "6 to 12 takes: +15.0 points; more takes would help, most of all of cup (75%)"
    flat = CURVE.assign(recall=0.85)
    assert advice(flat) == "6 to 12 takes: +0.0 points; more takes of the same kind will hardly help"
    assert advice(CURVE[CURVE["percent"] == 100]) == "Too few takes to tell how it grows"
    assert size_of(learning_curve(CURVE, title="int8"))[0] > 600


def test_a_photo_in_a_folder_is_found_by_its_place(results: Path) -> None:
    frames = read_parquet(layout.FRAMES / "cup/test.mp4.parquet")
    ids = pa.array([f"abc-{i:06d}" for i in range(tiny_project.NUM_FRAMES)])
    photos = pa.table([ids, pa.nulls(len(ids), pa.float64()), frames["image"]], schema=FRAMES)
    for name in ("set", "a.jpg"):
        write_bytes(layout.FRAMES / "cup" / f"{name}.parquet", to_parquet(photos))
    row = tiny_results.predictions().to_dict("records")[0]
    assert thumbnail(row | {"take": "cup/set", "frame_id": "abc-000002"}).origin == "set/, photo 3 by name"
    assert thumbnail(row | {"take": "cup/a.jpg", "frame_id": "abc-000000"}).origin == "a.jpg"


def test_letters_that_no_font_has_are_told(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tiny_results.predictions().replace("rote Möhre", "\U0010fffd", regex=True)  # private use: no font has it
    monkeypatch.setattr("pipeline.report.pictures", lambda *_: {})
    write_text(layout.crossval_predictions("int8"), table.to_csv(index=False))
    report(stage("int8"))
    assert r"so pictures show \U0010fffd and the like" in capsys.readouterr().err


def test_a_thumbnail_shows_the_frame_that_the_row_is_about(results: Path) -> None:
    found = thumbnail(tiny_results.predictions([8]).to_dict("records")[8])
    assert (found.actual, found.predicted, found.origin) == ("rote Möhre", "cup", "test.mp4 at 0.8 s")
    difference = found.image.astype(int) - tiny_project.picture(1, 503)
    assert np.abs(difference).mean() < 15  # JPEG; another frame's noise differs by 28


def test_a_frame_that_is_not_there(results: Path) -> None:
    with pytest.raises(PipelineError, match=r"no frame 9-9 in data.frames.cup.test\.mp4\.parquet"):
        read_frame("cup/test.mp4", "9-9")


def test_predictions_keep_names_that_look_like_something_else(folder: Path) -> None:
    table = pd.DataFrame(
        [("007", "NA/x.mp4", "NA", "None", 0.5, False)], columns=tiny_results.predictions().columns.tolist()
    )
    table.to_csv("p.csv", index=False)
    pd.testing.assert_frame_equal(read_predictions(Path("p.csv")).astype(object), table.astype(object))


def test_predictions_that_are_missing_or_something_else(folder: Path) -> None:
    Path("p.csv").write_text(f"a,b{os.linesep}1,2{os.linesep}")
    for name in ("p.csv", "missing.csv"):
        with pytest.raises(InputError, match=rf"{name} cannot be read"):
            read_predictions(Path(name))


@pytest.mark.parametrize(
    ("bins", "thumbnails", "key"), [(1, 4, "report.num_calibration_bins"), (10, 0, "report.num_thumbnails")]
)
def test_values_out_of_range(bins: int, thumbnails: int, key: str) -> None:
    with pytest.raises(PipelineError, match=rf"{key}: \d"):
        ReportConfig(num_calibration_bins=bins, num_thumbnails=thumbnails)
