import functools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.config.quantization import QuantizationConfig
from pipeline.config.quantize import QuantizeStage
from pipeline.errors import PipelineError
from pipeline.files import layout, write_bytes
from pipeline.litert.quantizer import quantize as quantized_by
from pipeline.quantize import quantize
from pipeline.takes.cache import project_cache
from pipeline.takes.splits import Block, Take
from pipeline.takes.tables import FRAMES, to_parquet
from pipeline.takes.train_sample import sample_train_frames
from tests import tiny_models, tiny_project
from tests.test_takes import damage


def run(scheme: str, resize: str = "stretch", **changes: Any) -> None:
    quantize(QuantizeStage(resize, replace(tiny_models.SCHEMES[scheme], **changes)))


def test_too_few_calibration_pictures(folder: Path) -> None:
    tiny_project.make()
    for path in list(layout.CALIBRATION.iterdir())[:10]:
        path.unlink()
    with pytest.raises(PipelineError, match="40 pictures in data/calibration/\n  expected: at least 50"):
        run("int8")
    assert not layout.backbone("int8").exists()


def test_calibration_on_train_frames_records_them_and_needs_no_fixed_pictures(folder: Path) -> None:
    tiny_project.make()
    run("int8")
    fixed = layout.backbone("int8").read_bytes()
    assert layout.calibration_record("int8").read_text(encoding="utf-8") == "take,frame_id\n"
    shutil.rmtree(layout.CALIBRATION)
    run("int8", calibration="train")
    assert layout.backbone("int8").read_bytes() != fixed
    assert layout.calibration_record("int8").read_text(encoding="utf-8").splitlines() == [
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

    @functools.wraps(quantized_by)
    def counted(content: bytes, config: QuantizationConfig, calibration: np.ndarray) -> bytes:
        calls.append(config.scheme)
        return quantized_by(content, config, calibration)

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
    layout.TUNED_BACKBONE.write_bytes(tiny_models.backbone(depth=2))


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
