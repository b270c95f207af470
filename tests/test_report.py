import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.config.report import ReportConfig, ReportStage
from pipeline.errors import InputError, PipelineError
from pipeline.files import layout
from pipeline.metrics.predictions import read_predictions
from pipeline.report import pictures, report, thumbnail
from pipeline.takes.single_frame import read_frame
from tests import tiny_project, tiny_results

CONFIG = ReportConfig(num_calibration_bins=10, num_thumbnails=4)
NAMES = ("confusion.png", "lost_to_quantization.png", "reliability.png", "tradeoff.png", "worst_errors.png")


def stage(deploy: str) -> ReportStage:
    return ReportStage(deploy, ["float32", "int8"], CONFIG)


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
    assert sorted(path.name for path in layout.PICTURES.parent.iterdir()) == ["evaluation", "pictures"]


def test_equal_results_give_equal_bytes(results: Path) -> None:
    assert pictures(stage("int8")) == pictures(stage("int8"))


def test_float32_deployed_is_shown_alone(results: Path) -> None:
    alone, both = pictures(stage("float32")), pictures(stage("int8"))
    for name in ("confusion.png", "reliability.png"):
        assert size_of(alone[name])[0] < size_of(both[name])[0]


def test_frames_lost_to_quantization_are_those_that_float32_gets_right(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, list[float]] = {}

    def sheet(title: str, subtitle: str, thumbnails: list[object]) -> bytes:
        shown[title] = [round(frame.probability, 2) for frame in thumbnails]  # type: ignore[attr-defined]
        return subtitle.encode()

    monkeypatch.setattr("pipeline.report.contact_sheet", sheet)
    made = pictures(stage("int8"))
    assert shown["What float32 gets right and int8 gets wrong"] == [0.86, 0.82]  # frames 4 and 8
    assert shown["The worst errors of int8: surest and wrong"] == [0.89, 0.82, 0.86]  # the surest of each take first
    assert b"3 of 10 test frames, 2 take(s)" in made["worst_errors.png"]


def test_a_sheet_says_how_many_there_are_more(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.contact_sheet", lambda _title, subtitle, frames: f"{subtitle}{len(frames)}")
    made = pictures("int8", ReportConfig(num_calibration_bins=10, num_thumbnails=2))
    assert str(made["worst_errors.png"]).endswith("2 shown2")


def test_nothing_wrong_is_said_in_a_friendly_way(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.report.message", lambda headline, text: f"{headline}: {text}")
    tiny_results.write_scheme("int8")
    made = pictures(stage("int8"))
    assert made["worst_errors.png"] == "int8 gets every test frame right: all 10 of them"
    assert str(made["lost_to_quantization.png"]).startswith("int8 loses nothing")
    assert str(pictures(stage("float32"))["lost_to_quantization.png"]).startswith("Nothing is lost")


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
