"""`viewfinder pretrained`: a classifier before anybody has filmed anything, in every scheme."""

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from click.testing import CliRunner, Result
from PIL import Image

from pipeline.backbones import imagenet_classifier
from pipeline.config.backbone import BackboneStage
from pipeline.config.backbone_names import overrides
from pipeline.config.composing import composed
from pipeline.config.plain import load
from pipeline.config.quantization import AS_IS
from pipeline.errors import ConfigurationError, InputError
from pipeline.files import layout, sha256_of_file, write_text
from pipeline.images.model_input import to_model_input
from pipeline.images.photos import read_photo
from pipeline.litert.golden import largest_factor
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import read_labels
from pipeline.tools.cli import viewfinder
from pipeline.tools.pretrained import _published_accuracy, class_names
from tests.conftest import PROJECT

SCHEMES = sorted(path.stem for path in (PROJECT / "conf/quantization").glob("*.yaml") if path.stem != AS_IS)
# int4 keeps the names, but is hardly sure of anything any more.
MIN_PROBABILITY = dict.fromkeys(SCHEMES, 0.5) | {"int4": 0.01}
KNOWN = {
    "espresso": skimage.data.coffee,
    "Egyptian cat": skimage.data.chelsea,
    "moped": lambda: skimage.data.stereo_motorcycle()[0],
}


@pytest.fixture
def project(folder: Path) -> Path:
    """A project without a video."""
    for name in ("dvc.yaml", "params.yaml"):
        write_text(Path(name), (PROJECT / name).read_text(encoding="utf-8"))
    layout.CALIBRATION.parent.mkdir()
    for path in (layout.CALIBRATION, layout.IMAGENET_CLASSES):
        path.symlink_to(PROJECT / path)
    return folder


@pytest.fixture(scope="module")
def logits() -> bytes:
    params = load(PROJECT / "params.yaml") | {"backbone": "efficientnet_lite0"}
    config = composed("backbone", BackboneStage, params, choices={"backbone": overrides}).backbone
    return imagenet_classifier.imagenet_classifier(config)


def start(*arguments: str) -> Result:
    return CliRunner().invoke(viewfinder, ["pretrained", *arguments])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_known_photographs_are_recognized(
    project: Path, logits: bytes, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet_classifier, "imagenet_classifier", lambda _config: logits)
    done = start("--scheme", scheme)
    assert (done.exit_code, done.stdout) == (0, "models/pretrained\n"), done.stderr
    content = (layout.PRETRAINED / "model.tflite").read_bytes()
    labels = read_labels(content)
    assert labels == list(class_names()) == (layout.PRETRAINED / "labels.txt").read_text().splitlines()
    model = Model(content)
    for name, photograph in KNOWN.items():
        probabilities = model(to_model_input(photograph(), model.input_pixels, "stretch"))
        assert labels[int(probabilities.argmax())] == name
        assert probabilities.max() > MIN_PROBABILITY[scheme]
        assert probabilities.sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_the_folder_is_what_an_app_gets(project: Path, logits: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet_classifier, "imagenet_classifier", lambda _config: logits)
    assert start().exit_code == 0
    manifest = json.loads((layout.PRETRAINED / "manifest.json").read_text())
    assert (manifest["scheme"], manifest["backbone"]) == ("int8", "efficientnet_lite0")
    assert manifest["output"]["threshold"] is None
    assert manifest["imagenet_top1_percent_float32"] == pytest.approx(75, abs=1)
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == sha256_of_file(layout.PRETRAINED / name)
    assert {"model.tflite", "labels.txt", "golden/golden.json"} <= set(manifest["files"])
    assert layout.PRETRAINED.joinpath("model.tflite").stat().st_size < 5.5e6
    golden = json.loads((layout.PRETRAINED / "golden/golden.json").read_text())
    model = Model((layout.PRETRAINED / "model.tflite").read_bytes())
    assert len(golden["pictures"]) == 8
    for entry in golden["pictures"]:
        assert "label" not in entry  # nobody has said what it shows
        rgb = read_photo(layout.PRETRAINED / "golden" / entry["file"], width_pixels=10**6)
        expected = np.array(list(entry["probabilities"].values()), np.float32)
        found = model(to_model_input(rgb, model.input_pixels, "stretch"))
        assert largest_factor(np.maximum(found, golden["floor"]), np.maximum(expected, golden["floor"])) < 1.01
        assert entry["answer"] == class_names()[int(expected.argmax())]
    Image.fromarray(skimage.data.chelsea()).save("cat.png")
    told = CliRunner().invoke(viewfinder, ["predict", "cat.png", "--model", str(layout.PRETRAINED / "model.tflite")])
    assert "Egyptian cat" in told.stdout


def test_an_accuracy_is_told_of_the_resolution_that_it_was_published_for() -> None:
    params = load(PROJECT / "params.yaml")
    for name, told in (("efficientnet_lite0", {"imagenet_top1_percent_float32"}), ("efficientnet_lite0_96", set())):
        config = composed(
            "backbone", BackboneStage, params | {"backbone": name}, choices={"backbone": overrides}
        ).backbone
        assert set(_published_accuracy(config)) == told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["mobilenet_v2"],
            "mobilenet_v2, of the family applications with the weights imagenet\n",
        ),
        (["--scheme", "int5"], f"--scheme int5\n  expected: one of {', '.join(SCHEMES)}"),
        (["nonsense"], "backbone: nonsense\n  expected: one of these"),
    ],
)
def test_what_there_is_no_classifier_of(project: Path, arguments: list[str], expected: str) -> None:
    done = start(*arguments)
    assert done.exit_code == ConfigurationError.exit_status
    assert expected in done.stderr
    assert not layout.PRETRAINED.exists()


def test_names_that_are_not_what_came_with_the_project(folder: Path) -> None:
    for text in (None, "a\nb\n", "a\n" * 1000):
        if text is not None:
            write_text(layout.IMAGENET_CLASSES, text)
        with pytest.raises(InputError, match=r"imagenet_classes.txt with \d names\n.*\n.*git checkout data/imagenet"):
            class_names()
