import hashlib
import json
from pathlib import Path

import pytest

from pipeline.config.deploy import DeployStage
from pipeline.deploy import deploy
from pipeline.files import layout, write_bytes, write_text
from tests.tiny_project import BACKBONE


def prepare(scheme: str, model: bytes) -> None:
    write_bytes(layout.model(scheme), model)
    write_text(layout.labels(scheme), "cup\nrote Möhre\n")
    write_text(layout.metrics(scheme), json.dumps({"accuracy": 0.9, "scheme": scheme}))


def test_the_manifest_describes_the_files_beside_it(folder: Path) -> None:
    prepare("int8", b"model")
    deploy(DeployStage("int8", "crop", BACKBONE))
    manifest = json.loads((layout.DEPLOYED / "manifest.json").read_text())
    assert {path.name for path in layout.DEPLOYED.iterdir()} == {"model.tflite", "labels.txt", "manifest.json"}
    assert manifest["format"] == 1
    assert manifest["files"]["model.tflite"] == {"size_bytes": 5, "sha256": hashlib.sha256(b"model").hexdigest()}
    assert manifest["labels"] == ["cup", "rote Möhre"]
    assert manifest["input"] == {
        "shape": [1, 16, 16, 3],
        "dtype": "uint8",
        "range": [0, 255],
        "colour_order": "RGB",
        "layout": "NHWC",
        "resize": "crop",
    }
    assert manifest["metrics"]["accuracy"] == 0.9
    assert json.loads(layout.DEPLOYED_METRICS.read_text()) == {"accuracy": 0.9, "scheme": "int8"}


def test_another_scheme_takes_the_place_of_the_old_one(folder: Path) -> None:
    prepare("float32", b"large model")
    prepare("int8", b"model")
    deploy(DeployStage("float32", "stretch", BACKBONE))
    deploy(DeployStage("int8", "stretch", BACKBONE))
    assert (layout.DEPLOYED / "model.tflite").read_bytes() == b"model"
    assert json.loads(layout.DEPLOYED_METRICS.read_text())["scheme"] == "int8"


def test_the_old_model_stays_if_anything_fails(folder: Path) -> None:
    prepare("float32", b"large model")
    deploy(DeployStage("float32", "stretch", BACKBONE))
    prepare("int8", b"model")
    layout.labels("int8").unlink()
    with pytest.raises(FileNotFoundError):
        deploy(DeployStage("int8", "stretch", BACKBONE))
    assert (layout.DEPLOYED / "model.tflite").read_bytes() == b"large model"
    assert [path.name for path in layout.DEPLOYED.parent.iterdir() if path.name.startswith(".")] == []
