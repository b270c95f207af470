"""Models that take their pixels as float32, for GPU delegates, and answer as those that take bytes."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner
from PIL import Image

from pipeline import deploy as stage
from pipeline.config.deploy import DeployStage
from pipeline.deploy import deploy, shipped_model
from pipeline.errors import ConfigurationError, ModelError
from pipeline.files import layout, write_bytes
from pipeline.litert.flatbuffer import operator_name, read_model, write_model
from pipeline.litert.head import append_head
from pipeline.litert.input_type import with_float_input
from pipeline.litert.interpreter import Model, load_interpreter
from pipeline.litert.metadata import embed_labels, read_labels, read_normalization, read_threshold
from pipeline.litert.quantizer import quantize
from pipeline.litert.runtimes import open_classifier
from pipeline.tools.cli import viewfinder
from tests import tiny_models, tiny_project
from tests.test_deploy import deploy_tiny, golden, prepare

LABELS = ["cup", "rote Möhre", "none"]


def labelled(threshold: float | None = None) -> bytes:
    content = append_head(tiny_models.backbone(), *tiny_models.head())
    return embed_labels(content, LABELS, name="n", description="d", threshold=threshold)


def operators(content: bytes) -> list[str]:
    model = read_model(content)
    return [operator_name(model, operator) for operator in model.subgraphs[0].operators]


@pytest.mark.parametrize("scheme", tiny_models.SCHEMES)
def test_answers_are_those_of_the_model_that_takes_bytes(scheme: str) -> None:
    backbone = quantize(tiny_models.backbone(), tiny_models.SCHEMES[scheme], tiny_models.pictures(60))
    content = embed_labels(append_head(backbone, *tiny_models.head()), LABELS, name="n", description="d")
    floats = with_float_input(content)
    assert operators(content) == ["CAST", *operators(floats)]
    assert (Model(content).input_type, Model(floats).input_type) == ("uint8", "float32")
    run, run_floats = Model(content), Model(floats)
    for picture in tiny_models.pictures(5):
        assert run_floats(picture).tolist() == run(picture).tolist()


def test_the_name_of_the_input_labels_and_threshold_stay() -> None:
    content = labelled(threshold=0.25)
    floats = with_float_input(content)
    assert with_float_input(content) == floats
    assert read_labels(floats) == LABELS
    assert read_threshold(floats) == 0.25
    graph, before = (read_model(one).subgraphs[0] for one in (floats, content))
    assert graph.tensors[graph.inputs[0]].name == before.tensors[before.inputs[0]].name
    for entry in read_model(floats).signatureDefs or []:
        assert entry.inputs[0].tensorIndex == graph.inputs[0]


def test_a_model_that_does_not_begin_with_a_cast_is_refused() -> None:
    model = read_model(labelled())
    cast = model.subgraphs[0].operators[0]
    model.subgraphs[0].tensors[cast.outputs[0]].type = schema.TensorType.FLOAT16
    with pytest.raises(ModelError, match=r"a model whose pixels do not become float32"):
        with_float_input(write_model(model))
    with pytest.raises(ModelError, match=r"pixels go into \w+\n(.|\n)*inference_input_type: uint8"):
        with_float_input(with_float_input(labelled()))


def test_it_is_deployed_with_the_same_golden_answers(folder: Path) -> None:
    version, expected = deploy_tiny("int8")["version"], golden()
    manifest = deploy_tiny("int8", input_type="float32")
    assert manifest["input"]["dtype"] == "float32"
    assert manifest["input"]["range"] == [0, 255]
    assert manifest["version"] != version
    assert golden() == expected
    content = (layout.DEPLOYED / "model.tflite").read_bytes()
    assert content == with_float_input(layout.model("int8").read_bytes())


def test_one_that_answers_otherwise_is_not_deployed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(content: bytes) -> bytes:
        return with_float_input(layout.model("float32").read_bytes())

    prepare("int8")
    prepare("float32")
    weights, bias = tiny_models.head(num_labels=2)
    spoilt = append_head(tiny_models.backbone(), weights, bias + np.array([0, 1], np.float32))
    write_bytes(layout.model("float32"), embed_labels(spoilt, LABELS[:2], name="n", description="d"))
    monkeypatch.setattr(stage, "with_float_input", other)
    config = DeployStage("int8", "stretch", "float32", tiny_project.BACKBONE.name)
    with pytest.raises(ModelError, match=r"answers otherwise with float32 pixels(.|\n)*bit for bit"):
        shipped_model(config)
    with pytest.raises(ModelError):
        deploy(config)
    assert not layout.DEPLOYED.exists()


def test_another_type_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"inference_input_type(.|\n)*uint8(.|\n)*float32"):
        DeployStage("int8", "stretch", "int8", "tiny")


def test_predict_reads_from_the_file_what_its_pixels_are(folder: Path) -> None:
    Image.fromarray(tiny_project.picture(0, 1)).save("a.png")
    said = []
    for input_type in ("uint8", "float32"):
        deploy_tiny("int8", input_type=input_type)
        done = CliRunner().invoke(viewfinder, ["predict", "a.png", "--json"])
        assert done.exit_code == 0, done.stderr
        said.append(json.loads(done.stdout))
    assert said[0] == said[1]


def test_a_normalization_in_the_metadata_is_used() -> None:
    """As of models that Model Maker made: float32 pixels, -1..1."""
    content = with_float_input(labelled())
    assert read_normalization(content) == ((0,), (1,))
    for old, new in ((0.0, 127.5), (1.0, 0.5)):
        place = struct.pack("<If", 1, old)
        assert content.count(place) == 1
        content = content.replace(place, struct.pack("<If", 1, new))
    assert read_normalization(content) == ((127.5,), (0.5,))
    with pytest.raises(ModelError, match=r"takes float32 \[1, 16, 16, 3\](.|\n)*mean 0 and deviation 1"):
        Model(content)
    picture = tiny_models.pictures(1)[0]
    given = ((picture - np.float32(127.5)) / np.float32(0.5))[np.newaxis]
    interpreter = load_interpreter(content, 1)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    assert open_classifier(content, runtime="litert", resize="stretch")(picture).tolist() == expected.tolist()
    assert Model(labelled())(picture).tolist() != expected.tolist()


def test_metadata_that_cannot_be_used_are_passed_over() -> None:
    plain = append_head(tiny_models.backbone(), *tiny_models.head())
    assert read_normalization(plain) is None
    content = with_float_input(labelled())
    without_deviation = content.replace(struct.pack("<If", 1, 1.0), struct.pack("<If", 1, 0.0))
    assert read_normalization(without_deviation) is None
