"""ONNX files: onnxruntime against LiteRT, what the file tells, and what is refused."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.backbones.build import build_backbone, convert
from pipeline.errors import InputError, MissingPackageError, ModelError
from pipeline.files import layout, write_bytes, write_text
from pipeline.litert.golden import largest_factor
from pipeline.litert.head import append_head
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import Output, embed_labels, embed_outputs
from pipeline.litert.quantizer import quantize
from pipeline.shipping.onnx_file import OnnxModel, to_onnx
from pipeline.tools import onnx as tool
from pipeline.tools.cli import viewfinder
from tests import tiny_models, tiny_project
from tests.conftest import PROJECT
from tests.test_architectures import small
from tests.test_deploy import deploy_tiny

pytestmark = pytest.mark.slow  # it brings TensorFlow
PAGE = (PROJECT / "docs/pages/onnx.md").read_text(encoding="utf-8")
LABELS = [*tiny_project.LABELS]
THRESHOLD = 0.4


def classifier(num_labels=2, **changes):
    """A tiny classifier that knows what is none of its labels."""
    weights, bias = tiny_models.head(3)
    return append_head(tiny_models.backbone(**changes), weights, bias, num_labels)


def int8_classifier():
    return append_head(
        quantize(tiny_models.backbone(), tiny_models.SCHEMES["int8"], tiny_models.pictures(8)), *tiny_models.head()
    )


def labelled(content):
    return embed_labels(content, LABELS, name="n", description="d", threshold=THRESHOLD)


def with_further_head(name="image"):
    weights, bias = tiny_models.head(3)
    content = append_head(classifier(), weights, bias, name=name, labels_exclude_each_other=False)
    outputs = [Output("probabilities", tuple(LABELS), THRESHOLD), Output(name, ("a", "b", "c"), 0.5)]
    return embed_outputs(content, outputs, name="n", description="d")


def deploy(content, scheme="float32", resize="stretch"):
    deploy_tiny(scheme, resize)
    write_bytes(layout.DEPLOYED / "model.tflite", content)


def start(*arguments):
    write_text(Path("dvc.yaml"), "")
    write_text(Path("params.yaml"), "")
    return CliRunner().invoke(viewfinder, ["onnx", *arguments])


def test_the_file_answers_as_litert_does():
    content = classifier()
    found, expected = OnnxModel(to_onnx(content, ["probabilities"], {"a": "ö"})), Model(content)
    for picture in tiny_models.pictures(4):
        np.testing.assert_allclose(found(picture), expected(picture), rtol=1e-5)
    assert found(tiny_models.pictures(1)[0]).sum() < 1  # what the labels lack to 1 is `none of them`


def test_a_model_that_takes_floats_keeps_them():
    content = embed_labels(classifier(dtype="float32"), LABELS, name="n", description="d")
    picture = tiny_models.pictures(1)[0]
    found = OnnxModel(to_onnx(content, ["probabilities"], {}))
    np.testing.assert_allclose(found(picture), Model(content)(picture), rtol=1e-5)


@pytest.mark.parametrize("name", ["material", "image"])
def test_several_heads_are_several_outputs(name):
    content = with_further_head(name)
    found = OnnxModel(to_onnx(content, ["probabilities", name], {}))
    assert found.output_names == ["probabilities", name]
    picture = tiny_models.pictures(1)[0]
    np.testing.assert_allclose(found(picture), Model(content)(picture), rtol=1e-5)


def test_a_network_of_keras_is_translated():
    content = convert(build_backbone(small("mobilenet_v3_small")))
    model = Model(content)
    picture = tiny_models.pictures(1, pixels=model.input_pixels)[0]
    features = model(picture)
    weights = np.random.default_rng(0).normal(0, 1, (len(features), 3)).astype(np.float32) / np.linalg.norm(features)
    whole = append_head(content, weights, -features @ weights)
    found, expected = OnnxModel(to_onnx(whole, ["probabilities"], {})), Model(whole)
    other = tiny_models.pictures(2, pixels=model.input_pixels)[1]
    assert largest_factor(found(other), expected(other)) < tool.MAX_FACTOR
    assert largest_factor(found(other), expected(picture)) > tool.MAX_FACTOR


def test_the_command_writes_what_it_proved(folder):
    deploy(labelled(classifier()))
    done = start()
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("models/onnx/model.onnx, from models/deployed/model.tflite\n")
    assert re.search(r"1\.0000\d\d +1\.001  8 of 8\n$", done.stdout)
    (head,) = json.loads(about()["heads"])
    assert head.pop("threshold") == pytest.approx(THRESHOLD)
    assert head == {"name": "probabilities", "labels": LABELS, "may_name_several": False}
    assert about()["resize"] == "stretch"
    assert about()["made_from"] == "models/deployed/model.tflite"
    again = json.loads(start("--json").stdout)
    assert again["holds"]
    assert again["num_same_answers"] == again["num_pictures"] == 8


def about():
    return onnxruntime.InferenceSession(tool.FILE).get_modelmeta().custom_metadata_map


def test_a_quantized_deployed_model_gives_way_to_the_float32_one(folder):
    deploy(int8_classifier(), "int8")
    refused = start()
    assert refused.exit_code == ModelError.exit_status
    assert "one of these: tf2onnx does not translate quantized numbers" in refused.stderr
    write_bytes(layout.model("float32"), labelled(classifier()))
    done = start()
    assert done.stdout.startswith("models/onnx/model.onnx, from models/classifiers/float32/model.tflite\n")


def test_a_file_that_answers_otherwise_is_not_kept(folder, monkeypatch):
    deploy(labelled(classifier()))
    assert start().exit_code == 0
    before = tool.FILE.read_bytes()
    answer = OnnxModel.__call__
    monkeypatch.setattr(OnnxModel, "__call__", lambda self, picture: answer(self, picture)[::-1])
    done = start()
    assert done.exit_code == ModelError.exit_status
    assert re.search(r"an ONNX file that answers as LiteRT does on \d of 8 golden pictures, by a", done.stderr)
    assert "what was there stays" in done.stderr
    assert tool.FILE.read_bytes() == before


def test_a_folder_without_golden_pictures_is_refused(folder):
    done = start("nowhere")
    assert done.exit_code == InputError.exit_status
    assert "no nowhere/golden/golden.json" in done.stderr


def test_what_cannot_be_translated_is_told_with_the_cause():
    with pytest.raises(ModelError, match=r"tf2onnx cannot translate the model \(\w+: (.|\n)*docs/pages/onnx.md"):
        to_onnx(int8_classifier(), ["probabilities"], {})


def test_what_onnxruntime_cannot_load_is_told():
    with pytest.raises(ModelError, match=r"onnxruntime cannot load what tf2onnx made \(.*\)\n"):
        OnnxModel(b"no file of ONNX")


def test_outputs_of_other_names_are_refused(folder, monkeypatch):
    deploy(labelled(classifier()))
    monkeypatch.setattr(OnnxModel, "output_names", ["a", "b"])
    done = start()
    assert "an ONNX file with the outputs a, b\n  expected: probabilities, in this order" in done.stderr


@pytest.mark.parametrize("name", ["tf2onnx", "onnxruntime"])
def test_a_missing_package_is_told_with_the_extra(name, folder, monkeypatch):
    deploy(labelled(classifier()))
    monkeypatch.setitem(sys.modules, name, None)
    done = start()
    assert done.exit_code == MissingPackageError.exit_status
    assert re.search(rf'{name} cannot be imported(.|\n)*pip install "\.\[onnx\]"', done.stderr)


def test_the_docs_lines_name_a_photo(folder, capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    deploy(labelled(classifier()))
    assert start().exit_code == 0
    Image.fromarray(np.full((40, 50, 3), 200, np.uint8)).save("photo.jpg")
    write_text(Path("ask.py"), snippet)
    capsys.readouterr()
    runpy.run_path("ask.py")
    told = capsys.readouterr().out
    pixels = np.asarray(Image.open("photo.jpg").resize((tiny_models.PIXELS,) * 2))
    probabilities = Model((layout.DEPLOYED / "model.tflite").read_bytes())(pixels)
    best = int(probabilities.argmax())
    name = LABELS[best] if probabilities[best] >= THRESHOLD else "none of them"
    assert told.startswith(f"probabilities: {name}")
