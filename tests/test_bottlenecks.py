from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.files import layout
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.takes.tables import read_parquet
from tests import tiny_models, tiny_project


def run(scheme: str, resize: str = "stretch", **changes: Any) -> None:
    tiny_project.make_bottlenecks(replace(tiny_models.SCHEMES[scheme], **changes), resize)


def features(scheme: str) -> np.ndarray:
    table = read_parquet(layout.bottlenecks(scheme) / "frames/cup/train.mp4.parquet")
    return np.stack(table["feature"].to_numpy())


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_bottlenecks_are_what_the_schemes_own_backbone_makes_of_the_frames(folder: Path, scheme: str) -> None:
    tiny_project.make()
    run(scheme)
    model = Model(layout.backbone(scheme).read_bytes())
    frames = read_parquet(layout.AUGMENTED / "cup/train.mp4.parquet")
    table = read_parquet(layout.bottlenecks(scheme) / "augmented/cup/train.mp4.parquet")
    expected = [model(to_model_input(decode_jpeg(image), 16, "stretch")) for image in frames["image"].to_pylist()]
    assert np.array_equal(np.stack(table["feature"].to_numpy()), np.stack(expected))
    assert table["frame_id"].equals(frames["frame_id"])
    assert table["copy"].to_pylist() == [1] * tiny_project.NUM_FRAMES


def test_all_takes_have_bottlenecks_since_each_is_trained_on_in_some_fold(folder: Path) -> None:
    tiny_project.make()
    run("float32")
    for kind in ("frames", "augmented"):
        written = {path.name for path in (layout.bottlenecks("float32") / kind).rglob("*.parquet")}
        assert written == {"train.mp4.parquet", "validation.mp4.parquet", "test.mp4.parquet"}


def test_a_second_run_reuses_all_and_another_resize_computes_all(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_project.make()
    for resize in ("stretch", "stretch", "crop"):
        run("float32", resize)
    lines = [line for line in capsys.readouterr().err.splitlines() if "computed" in line]
    assert [line.split(": ")[1] for line in lines] == [
        "13 takes computed, 0 reused",
        "0 takes computed, 13 reused",
        "13 takes computed, 0 reused",
    ]


def test_a_head_may_be_trained_on_float_features_which_are_not_computed_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_project.make()
    run("float32")
    run("int8")
    own, quantized = features("int8"), layout.backbone("int8").read_bytes()
    assert not np.array_equal(own, features("float32"))
    capsys.readouterr()
    run("int8", features="float32")
    assert "0 takes computed, 13 reused" in capsys.readouterr().err
    assert np.array_equal(features("int8"), features("float32"))
    assert layout.backbone("int8").read_bytes() == quantized
