import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.bottlenecks import QUANTIZER_CODE, bottlenecks
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.config.quantization import QuantizationConfig
from pipeline.errors import PipelineError
from pipeline.files import layout, write_bytes
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.litert.quantizer import quantize
from pipeline.takes.cache import project_cache
from pipeline.takes.splits import Block, Take
from pipeline.takes.tables import FRAMES, read_parquet, to_parquet
from pipeline.takes.train_sample import sample_train_frames
from tests import tiny_models, tiny_project
from tests.conftest import PROJECT
from tests.test_contracts import all_imports_of
from tests.test_takes import damage


def run(scheme: str, resize: str = "stretch", **changes: str) -> None:
    quantization = replace(tiny_models.SCHEMES[scheme], **changes)
    bottlenecks(BottlenecksStage(resize, tiny_project.BACKBONE, quantization, "head"))


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


def test_takes_that_are_only_tested_need_no_bottlenecks(folder: Path) -> None:
    tiny_project.make()
    run("float32")
    written = {path.name for path in layout.bottlenecks("float32").rglob("*.parquet")}
    assert written == {"train.mp4.parquet", "validation.mp4.parquet"}


def test_a_second_run_reuses_all_and_another_resize_computes_all(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_project.make()
    for resize in ("stretch", "stretch", "crop"):
        run("float32", resize)
    lines = [line for line in capsys.readouterr().err.splitlines() if "computed" in line]
    assert [line.split(": ")[1] for line in lines] == [
        "6 takes computed, 0 reused",
        "0 takes computed, 6 reused",
        "6 takes computed, 0 reused",
    ]


def test_too_few_calibration_pictures(folder: Path) -> None:
    tiny_project.make()
    for path in list(layout.CALIBRATION.iterdir())[:10]:
        path.unlink()
    with pytest.raises(PipelineError, match="40 pictures in data/calibration/\n  expected: at least 50"):
        run("int8")
    assert not layout.bottlenecks("int8").exists()
    assert not layout.backbone("int8").exists()


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
    assert "0 takes computed, 6 reused" in capsys.readouterr().err
    assert np.array_equal(features("int8"), features("float32"))
    assert layout.backbone("int8").read_bytes() == quantized


def test_calibration_on_train_frames_records_them_and_needs_no_fixed_pictures(folder: Path) -> None:
    tiny_project.make()
    run("int8")
    fixed = layout.backbone("int8").read_bytes()
    assert not (layout.bottlenecks("int8") / "calibration.csv").exists()
    shutil.rmtree(layout.CALIBRATION)
    run("int8", calibration="train")
    assert layout.backbone("int8").read_bytes() != fixed
    assert (layout.bottlenecks("int8") / "calibration.csv").read_text(encoding="utf-8").splitlines() == [
        "take,frame_id",
        *(f"cup/train.mp4,0-{i}" for i in range(tiny_project.NUM_FRAMES)),
        *(f"rote Möhre/train.mp4,3-{i}" for i in range(tiny_project.NUM_FRAMES)),
    ]


def test_a_sample_takes_turns_over_labels_takes_and_time(folder: Path) -> None:
    takes = []
    for label, name, num_frames in [("a", "1", 2), ("a", "2", 9), ("b", "3", 9), ("b", "4", 9)]:
        ids = [f"{name}{i}" for i in range(num_frames)]
        table = pa.table([ids, [None] * num_frames, [b""] * num_frames], schema=FRAMES)
        takes.append(Take(label, name, Path(), "", (Block(label, name, "", "", "train", 0.0, 1.0),)))
        write_bytes(layout.FRAMES / takes[-1].table, to_parquet(table))
    takes.append(Take("b", "tested", Path(), "", (Block("b", "tested", "", "", "test", 0.0, 1.0),)))
    sample = sample_train_frames(takes, layout.FRAMES, 10)
    assert [frame.frame_id for frame in sample] == ["10", "11", "21", "24", "27", "31", "34", "37", "42", "46"]
    assert {frame.take for frame in sample} == {"a/1", "a/2", "b/3", "b/4"}
    assert len(sample_train_frames(takes, layout.FRAMES, 1000)) == 29


def test_a_sample_of_nothing(folder: Path) -> None:
    with pytest.raises(PipelineError, match=r"no train frame in data/frames/(.|\n)*choose calibration: fixed"):
        sample_train_frames([], layout.FRAMES, 10)


@pytest.fixture
def quantized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that gets the scheme of each backbone that is really quantized, not taken from the cache."""
    calls: list[str] = []

    def counted(content: bytes, config: QuantizationConfig, calibration: np.ndarray) -> bytes:
        calls.append(config.scheme)
        return quantize(content, config, calibration)

    monkeypatch.setattr("pipeline.litert.quantizer.quantize", counted)
    return calls


@pytest.mark.parametrize("how", ["nothing", "truncate", "flip", "empty", "folder"])
def test_a_backbone_is_quantized_once_and_is_the_same_whatever_the_cache_holds(
    folder: Path, quantized: list[str], how: str
) -> None:
    tiny_project.make()
    run("int8")
    content = layout.backbone("int8").read_bytes()
    if how != "nothing":
        damage(project_cache(), how)
    for _ in range(2):
        layout.backbone("int8").unlink()
        run("int8")
        assert layout.backbone("int8").read_bytes() == content
    assert quantized == ["int8"] * (1 if how == "nothing" else 2)


def other_picture() -> None:
    Image.fromarray(tiny_project.picture(0, seed=2000)).save(layout.CALIBRATION / "00.png")


def other_backbone() -> None:
    layout.CONVERTED_BACKBONE.write_bytes(tiny_models.backbone(depth=2))


@pytest.mark.parametrize("change", [other_picture, other_backbone])
def test_what_a_quantized_backbone_depends_on_quantizes_it_again(
    folder: Path, quantized: list[str], change: Callable[[], None]
) -> None:
    tiny_project.make()
    run("int8")
    change()
    run("int8")
    run("int8", resize="crop")
    run("int16")
    assert quantized == ["int8", "int8", "int8", "int16"]


def test_a_quantized_backbone_is_kept_under_the_hash_of_all_code_that_makes_it() -> None:
    code = PROJECT / "pipeline"
    used = all_imports_of(code / "litert/quantizer.py")
    assert {str(path.relative_to(code)) for path in used if path.parent.name not in ("config", "errors")} == {
        *QUANTIZER_CODE
    }
