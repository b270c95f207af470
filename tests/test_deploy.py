import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config.deploy import DeployStage
from pipeline.deploy import deploy
from pipeline.files import layout, write_text
from pipeline.images.codec import decode_jpeg, encode_png
from pipeline.images.model_input import to_model_input
from pipeline.images.yuv import rgb_of_i420
from pipeline.litert.golden import FLOOR, MAX_FACTOR, MISTAKES, choose_golden, largest_factor
from pipeline.litert.interpreter import Model
from pipeline.takes.single_frame import read_frame
from tests import tiny_project, tiny_results
from tests.tiny_project import BACKBONE, LABELS


def prepare(scheme: str, limits: dict[str, float] | None = None) -> None:
    if not layout.FRAMES.exists():
        tiny_project.make()
    tiny_results.write_scheme(scheme)
    write_text(layout.GATE, json.dumps({"scheme": scheme, "limits": limits or {}}))


def deploy_tiny(scheme: str, resize: str = "stretch", input_type: str = "uint8") -> dict[str, Any]:
    """Deploy a tiny model and return its manifest."""
    prepare(scheme)
    deploy(DeployStage(scheme, resize, input_type, BACKBONE.name))
    manifest: dict[str, Any] = json.loads((layout.DEPLOYED / "manifest.json").read_text())
    return manifest


def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((layout.DEPLOYED / "golden/golden.json").read_text())
    return found


def test_the_manifest_describes_input_and_labels(folder: Path) -> None:
    manifest = deploy_tiny("int8", "crop")
    assert manifest["format"] == 1
    assert manifest["labels"] == ["cup", "rote Möhre"]
    assert manifest["input"] == {
        "shape": [1, 16, 16, 3],
        "dtype": "uint8",
        "range": [0, 255],
        "colour_order": "RGB",
        "layout": "NHWC",
        "resize": "crop",
    }
    assert manifest["metrics"]["accuracy"] == 1
    assert json.loads(layout.DEPLOYED_METRICS.read_text())["scheme"] == "int8"


def test_the_manifest_lists_every_other_file_with_size_and_hash(folder: Path) -> None:
    manifest = deploy_tiny("int8")
    files = {path.relative_to(layout.DEPLOYED).as_posix() for path in layout.DEPLOYED.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json"}
    assert {"model.tflite", "labels.txt", "golden/golden.json", "golden/0.png"} <= files
    for name, entry in manifest["files"].items():
        content = (layout.DEPLOYED / name).read_bytes()
        assert entry == {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_manifest_tells_the_limits_that_the_model_keeps(folder: Path) -> None:
    prepare("int8", {"min_accuracy": 0.9})
    deploy(DeployStage("int8", "stretch", "uint8", BACKBONE.name))
    assert json.loads((layout.DEPLOYED / "manifest.json").read_text())["limits"] == {"min_accuracy": 0.9}


def test_the_version_follows_what_the_app_ships_and_feeds_and_nothing_else(folder: Path) -> None:
    version = deploy_tiny("int8")["version"]
    assert len(version) == 16
    assert deploy_tiny("float32")["version"] == version  # the same bytes under another name
    assert deploy_tiny("int8", "crop")["version"] != version
    prepare("int8")
    write_text(layout.labels("int8"), "Cup\nrote Möhre\n")
    deploy(DeployStage("int8", "stretch", "uint8", BACKBONE.name))
    assert json.loads((layout.DEPLOYED / "manifest.json").read_text())["version"] != version


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_golden_pictures_are_test_frames_with_the_deployed_models_answers(folder: Path, resize: str) -> None:
    deploy_tiny("int8", resize)
    model = Model(layout.model("int8").read_bytes())
    frames = {
        decode_jpeg(read_frame(row["take"], row["frame_id"])[0]).tobytes(): row["actual"]
        for row in tiny_results.predictions().to_dict("records")
    }
    content = golden()
    assert len(content["pictures"]) == 8
    assert {entry["label"] for entry in content["pictures"]} == set(LABELS)
    for entry in content["pictures"]:
        with Image.open(layout.DEPLOYED / "golden" / entry["file"]) as picture:
            rgb = np.array(picture)
        assert frames[rgb.tobytes()] == entry["label"]
        answers = dict(zip(LABELS, model(to_model_input(rgb, 16, resize)), strict=True))
        assert entry["probabilities"] == pytest.approx(answers, rel=1e-5)
    assert set(content["mistakes"]) == set(MISTAKES)
    camera = content["camera"]
    assert (camera["layout"], camera["matrix"], camera["range"]) == ("I420", "BT.601", "full")
    assert len(camera["pictures"]) == 3
    for entry, same in zip(camera["pictures"], content["pictures"], strict=False):
        frame = (layout.DEPLOYED / "golden" / entry["file"]).read_bytes()
        rgb = rgb_of_i420(frame, entry["height"], entry["width"])
        answers = dict(zip(LABELS, model(to_model_input(rgb, 16, resize)), strict=True))
        assert entry["probabilities"] == pytest.approx(answers, rel=1e-5)
        assert entry["label"] == same["label"]
    assert (content["max_factor"], content["floor"]) == (MAX_FACTOR, FLOOR)


def test_golden_pictures_are_those_on_which_mistakes_show_best() -> None:
    """The model tells red from blue, so that only the colourful picture shows swapped colours."""

    def answer(rgb: np.ndarray) -> np.ndarray:
        mean = rgb.reshape(-1, 3).mean(0) + 1
        corner = float(rgb[0, 0].sum()) + 1  # another answer for turned and cut pictures
        weights = np.array([mean[0], mean[2], corner / 3], np.float32)
        shares: np.ndarray = weights / weights.sum()
        return shares

    grey = np.tile(np.linspace(20, 240, 12, dtype=np.uint8)[None, :, None], (8, 1, 3))
    colourful = grey.copy()
    colourful[..., 2] //= 4
    chosen = choose_golden([("a", grey), ("a", colourful), ("b", grey)], answer, 2)
    assert [golden.label for golden in chosen] == ["a", "b"]  # one of each label before a second one
    assert np.array_equal(chosen[0].image, colourful)
    assert chosen[0].factors["red and blue swapped"] > 2
    assert chosen[1].factors["red and blue swapped"] == pytest.approx(1)
    assert len(choose_golden([("a", grey), ("a", colourful)], answer, 8)) == 2


def test_factors_of_a_case_worked_out_by_hand() -> None:
    expected = np.array([0.9, 0.1, 0.0], np.float32)
    assert largest_factor(np.array([0.8, 0.2, 0.0], np.float32), expected) == pytest.approx(2)
    assert largest_factor(np.array([0.9, 0.1, 1e-9], np.float32), expected) == pytest.approx(1)


def test_png_keeps_every_pixel() -> None:
    rgb = tiny_project.picture(0, 1)
    with Image.open(io.BytesIO(encode_png(rgb))) as picture:
        assert np.array_equal(np.array(picture), rgb)


def test_another_scheme_takes_the_place_of_the_old_one(folder: Path) -> None:
    deploy_tiny("float32")
    (layout.DEPLOYED / "golden/old.png").write_bytes(b"")
    assert deploy_tiny("int8")["scheme"] == "int8"
    assert not (layout.DEPLOYED / "golden/old.png").exists()
    assert json.loads(layout.DEPLOYED_METRICS.read_text())["scheme"] == "int8"


def test_the_old_model_stays_if_anything_fails(folder: Path) -> None:
    deploy_tiny("float32")
    prepare("int8")
    layout.labels("int8").unlink()
    with pytest.raises(FileNotFoundError):
        deploy(DeployStage("int8", "stretch", "uint8", BACKBONE.name))
    assert json.loads((layout.DEPLOYED / "manifest.json").read_text())["scheme"] == "float32"
    assert [path.name for path in layout.DEPLOYED.parent.iterdir() if path.name.startswith(".")] == []
