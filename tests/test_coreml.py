"""Packages for Core ML: each operator against LiteRT, what the package tells, and what is refused.

Core ML runs on macOS alone. Everywhere else the saved package is read back and computed in numpy, which is what the
command itself does; `test_core_ml_itself_answers_so` asks the real one where there is one.
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner
from PIL import Image

from pipeline.backbones.build import build_backbone, convert
from pipeline.coreml import arithmetic, package, saved
from pipeline.coreml.graph import Graph
from pipeline.coreml.library import coremltools
from pipeline.coreml.operators import OPERATORS
from pipeline.coreml.package import About, program_of, save_package
from pipeline.coreml.saved import SavedPackage
from pipeline.coreml.weights import WEIGHTS, weights_of
from pipeline.errors import ConfigurationError, MissingPackageError, ModelError
from pipeline.files import layout, write_bytes, write_text
from pipeline.litert.flatbuffer import write_model
from pipeline.litert.golden import largest_factor
from pipeline.litert.head import append_head
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import embed_labels
from pipeline.litert.none_row import with_none
from pipeline.litert.quantizer import quantize
from pipeline.tools import coreml
from pipeline.tools.cli import viewfinder
from tests import coreml_graphs, tiny_models, tiny_project
from tests.conftest import PROJECT
from tests.coreml_graphs import CASES, WHOLE, content_of
from tests.test_app_projects import faults
from tests.test_deploy import deploy_tiny

PAGE = (PROJECT / "docs/pages/coreml.md").read_text(encoding="utf-8")
ABOUT = About("what it is", "somebody", "some license", "1", {"key": "value"})
LABELS = [*tiny_project.LABELS]
THRESHOLD = 0.4
# What the networks of conf/backbone/ and heads are made of, as TensorFlow's converter writes them in float32.
OF_BACKBONES = {
    *("CAST", "MUL", "ADD", "SUB", "SQUARED_DIFFERENCE", "RSQRT", "MEAN", "CONV_2D", "DEPTHWISE_CONV_2D"),
    *("FULLY_CONNECTED", "GELU", "RESHAPE", "PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION", "LOGISTIC"),
    *("HARD_SWISH", "RELU", "STRIDED_SLICE", "SOFTMAX", "SLICE"),
}


def packaged(folder, content, weights="float32", classes=None):
    """Save a package and read it back."""
    graph = Graph(content)
    classes = classes or [f"class {number}" for number in range(graph.shapes[graph.output][-1])]
    path = folder / "Tiny.mlpackage"
    save_package(path, content, classes, WEIGHTS[weights], ABOUT)
    return SavedPackage(path)


def small_pictures(content, num=2):
    side = Model(content).input_pixels
    return np.random.default_rng(5).integers(0, 256, (num, side, side, 3), dtype=np.uint8)


def classifier(num_labels=2, **changes):
    """A tiny classifier that knows what is none of its labels, and whose backbone has two layers of some size."""
    backbone = tiny_models.backbone(**changes)
    weights, bias = tiny_models.head(3)
    return append_head(backbone, weights, bias, num_labels)


def deploy(resize="stretch", scheme="float32"):
    """Deploy the tiny classifier with its threshold, in float32 or int8."""
    manifest = deploy_tiny(scheme, resize)
    backbone = tiny_models.backbone()
    if scheme == "int8":
        backbone = quantize(backbone, tiny_models.SCHEMES[scheme], tiny_models.pictures(8))
    weights, bias = tiny_models.head(3)
    content = append_head(backbone, weights, bias, len(LABELS))
    write_bytes(
        layout.DEPLOYED / "model.tflite", embed_labels(content, LABELS, name="n", description="d", threshold=THRESHOLD)
    )
    return manifest


def kinds_in(folder):
    """Count the operators of a saved package."""
    specification = coremltools().utils.load_spec(str(folder / "Tiny.mlpackage"))
    (block,) = specification.mlProgram.functions["main"].block_specializations.values()
    return [operator.type for operator in block.operations]


def test_every_operator_of_backbones_is_translated():
    assert set(OPERATORS) >= OF_BACKBONES
    assert set(CASES) == set(OPERATORS)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a package of all cases answers, and what LiteRT does, by case; each array is [num_pictures, any]."""
    builds = {f"{kind}-{number}": build for kind, cases in CASES.items() for number, build in enumerate(cases)}
    content = content_of(*builds.values())
    package, model = packaged(tmp_path_factory.mktemp("operators"), content), Model(content)
    images = small_pictures(content)
    found, expected = (np.array([run(picture) for picture in images]) for run in (package, model))
    ends = np.cumsum([Model(content_of(build)).output_length for build in builds.values()])[:-1]
    parts = (np.split(every, ends, 1) for every in (found, expected))
    return dict(zip(builds, zip(*parts, strict=True), strict=True))


@pytest.mark.parametrize("case", [f"{kind}-{number}" for kind, cases in CASES.items() for number in range(len(cases))])
def test_an_operator_gives_what_litert_gives(case, answers):
    found, expected = answers[case]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_a_case_is_about_its_operator():
    for kind, builds in CASES.items():
        for build in builds:
            assert kind in {node.kind for node in Graph(content_of(build)).nodes}


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_kind_of_weights_keeps_its_limit(name, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "_MIN_WEIGHTS_IN_8_BITS", 1)
    content = with_none(classifier())
    assert content is not None
    found, expected = packaged(tmp_path, content, name), Model(content)
    factors = [largest_factor(found(picture), expected(picture)) for picture in tiny_models.pictures(6)]
    assert max(factors) < WEIGHTS[name].max_factor
    assert (max(factors) > 1.0001) == (name != "float32")  # the weights are other ones
    assert found.specification_version == {15: 6, 16: 7}[WEIGHTS[name].ios]


@pytest.mark.parametrize(
    ("name", "operator"), [("int8", "constexpr_affine_dequantize"), ("palette8", "constexpr_lut_to_dense")]
)
def test_8_bits_are_for_large_layers_of_the_backbone(name, operator, tmp_path, monkeypatch):
    content = classifier()
    packaged(tmp_path / "small", content, name)
    assert operator not in kinds_in(tmp_path / "small")
    monkeypatch.setattr(package, "_MIN_WEIGHTS_IN_8_BITS", 12)  # more than a bias has, and fewer than the head's 36
    packaged(tmp_path / "all", content, name)
    assert kinds_in(tmp_path / "all").count(operator) == 3  # three convolutions, not the head


def test_the_row_of_none_is_a_class(tmp_path):
    content = classifier()
    whole = with_none(content)
    assert whole is not None
    found, model = packaged(tmp_path, whole, classes=[*LABELS, "_none"]), Model(content)
    assert found.classes == [*LABELS, "_none"]
    for picture in tiny_models.pictures(3):
        probabilities = found(picture)
        np.testing.assert_allclose(probabilities[:2], model(picture), rtol=1e-4)
        assert probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert with_none(classifier(num_labels=3)) is None


def test_what_is_computed_is_the_file_on_the_disk(tmp_path):
    content = classifier()
    picture = tiny_models.pictures(1)[0]
    before = packaged(tmp_path, content)(picture)
    (weights,) = tmp_path.rglob("weight.bin")
    stored = weights.read_bytes()
    head = tiny_models.head(3)[0].T.tobytes()
    assert stored.count(head) == 1
    weights.write_bytes(stored.replace(head, bytes(len(head))))
    after = SavedPackage(tmp_path / "Tiny.mlpackage")(picture)
    assert np.abs(after - before).max() > 0.01


def test_a_model_that_takes_floats_is_the_same(tmp_path):
    content = append_head(tiny_models.backbone(dtype="float32"), *tiny_models.head())
    labelled = embed_labels(content, list("abc"), name="n", description="d")
    found = packaged(tmp_path, labelled)
    np.testing.assert_allclose(
        found(tiny_models.pictures(1)[0]), Model(labelled)(tiny_models.pictures(1)[0]), rtol=1e-4
    )


def test_what_leaves_float16s_range_is_no_number(tmp_path):
    def build(graph, x):
        for _ in range(2):
            x = graph.add("MUL", [x, graph.constant("large", np.float32(1000))], "m", WHOLE, schema.MulOptionsT())
        return graph.add("SOFTMAX", [x], "softmax", WHOLE, schema.SoftmaxOptionsT(beta=1.0)), WHOLE

    content = content_of(build)
    assert np.isfinite(packaged(tmp_path / "32", content)(small_pictures(content)[0])).all()
    assert np.isnan(packaged(tmp_path / "16", content, "float16")(small_pictures(content)[0])).any()


def extra(kind, options=None, outputs=WHOLE):
    return content_of(lambda graph, x: (graph.add(kind, [x], "extra", outputs, options), outputs))


def test_operators_that_are_not_translated_are_named(tmp_path):
    told = r"the model's CUMSUM, FLOOR: not translated to Core ML(.|\n)*a model of ABS, ADD(.|\n)*another backbone"

    def build(graph, x):
        axis = graph.constant("axis", np.int32(1))
        x = graph.add("CUMSUM", [x, axis], "sums", WHOLE, schema.CumsumOptionsT())
        return graph.add("FLOOR", [x], "floor", WHOLE), WHOLE

    with pytest.raises(ModelError, match=told):
        packaged(tmp_path, content_of(build))


def computed_weights(graph, x):
    options = schema.Conv2DOptionsT(strideW=1, strideH=1)
    options.dilationHFactor = options.dilationWFactor = 1
    return graph.add("CONV_2D", [x, x, graph.constant("bias", np.zeros(1, np.float32))], "c", (1, 6, 6, 1), options), (
        1,
        6,
        6,
        1,
    )


def cast_again(graph, x):
    return graph.add("CAST", [x], "again", WHOLE), WHOLE


def shrunken(graph, x):
    ends = [graph.constant("ends", np.array(values, np.int32)) for values in ([0] * 4, [1, 6, 6, 3], [1] * 4)]
    options = schema.StridedSliceOptionsT(shrinkAxisMask=1)
    return graph.add("STRIDED_SLICE", [x, *ends], "s", WHOLE[1:], options), WHOLE[1:]


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (computed_weights, r"operator 3 of the graph for Core ML is a CONV_2D whose input 1 is computed"),
        (cast_again, "is a CAST of something else than the picture"),
        (shrunken, "is a STRIDED_SLICE that adds or drops dimensions, or runs backwards"),
        (
            coreml_graphs.convolution(0, 1, fused=coreml_graphs.TANH),
            r"is a CONV_2D with the fused activation 4(.|\n)*from other layers",
        ),
    ],
)
def test_what_an_operator_does_otherwise_is_told(build, told):
    with pytest.raises(ModelError, match=told):
        program_of(Graph(content_of(build)))


def test_other_numbers_than_float32_are_told():
    model = tiny_models.backbone_model()
    tensor = next(one for one in model.subgraphs[0].tensors if one.name == b"top/bias")
    tensor.type = schema.TensorType.FLOAT16
    with pytest.raises(ModelError, match=r"a constant of FLOAT16 numbers, 'top/bias'(.|\n)*list float32 under"):
        Graph(write_model(model))


def test_as_many_classes_as_probabilities(tmp_path):
    with pytest.raises(ValueError, match="1 classes for 2 probabilities; expected one each"):
        packaged(tmp_path, classifier(), classes=["cup"])


def test_an_operator_that_cannot_be_proved_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(saved, "OPERATORS", {"add": None})
    with pytest.raises(ModelError, match=r"the package's operator \w+ \(.*which cannot be computed to prove it"):
        packaged(tmp_path, classifier())


def test_without_coremltools_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingPackageError, match=r'coremltools cannot be imported(.|\n)*pip install "\.\[coreml\]"'):
        coremltools()


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
def test_palettes_below_8_bits_are_refused_with_the_reason(bits):
    told = rf"--weights palette{bits}: with a palette of {bits} bits answers were off by more than the limit of 1.5"
    with pytest.raises(ConfigurationError, match=rf"{told}(.|\n)*one of float32, float16, int8, palette8"):
        weights_of(f"palette{bits}")


@pytest.mark.parametrize("name", ["palette16", "palette", "int4"])
def test_other_weights_are_no_choice(name):
    with pytest.raises(ConfigurationError, match=rf"--weights {name}\n"):
        weights_of(name)


def start(*arguments):
    write_text(Path("dvc.yaml"), "")
    write_text(Path("params.yaml"), "")
    return CliRunner().invoke(viewfinder, ["coreml", *arguments])


def metadata():
    return SavedPackage(coreml.PACKAGE).description.metadata


def test_the_deployed_float32_model_becomes_a_package(folder):
    deploy()
    done = start("--weights", "float32", "--author", "Ada", "--license", "MIT")
    assert done.exit_code == 0, done.stderr
    first, columns, row = done.stdout.splitlines()
    assert first == "models/coreml/Viewfinder.mlpackage, from models/deployed/model.tflite"
    assert re.split(r"  +", columns.strip())[-2:] == ["limit", "same answer"]
    assert re.search(r"float32  iOS 15  0\.0\d .* 1\.0000\d\d +1\.001  8 of 8$", row)
    found = metadata()
    assert (found.author, found.license) == ("Ada", "MIT")
    assert found.shortDescription == "Image classifier made by Viewfinder. Input: the whole picture, RGB."
    assert re.fullmatch("[0-9a-f]{16}", found.versionString)
    more = dict(found.userDefined)
    assert json.loads(more["labels"]) == LABELS
    assert float(more["threshold"]) == pytest.approx(THRESHOLD)
    assert (more["none"], more["weights"]) == ("_none", "float32")
    assert (more["resize"], more["imageCropAndScaleOption"]) == ("stretch", "scaleFill")


@pytest.mark.parametrize(("resize", "option"), [("crop", "centerCrop"), ("pad", "scaleFit")])
def test_the_package_tells_vision_how_a_picture_becomes_square(resize, option, folder):
    deploy(resize)
    assert start().exit_code == 0
    assert dict(metadata().userDefined)["imageCropAndScaleOption"] == option


def test_a_quantized_deployed_model_gives_way_to_the_float32_one(folder):
    deploy(scheme="int8")
    refused = start()
    assert refused.exit_code == ModelError.exit_status
    told = "models/deployed/model.tflite is not float32, and models/classifiers/float32/model.tflite is missing"
    assert told in refused.stderr
    assert not coreml.PACKAGE.parent.exists()
    deploy_tiny("float32")  # makes the float32 classifier, too
    deploy(scheme="int8")
    done = start("--json")
    assert done.exit_code == 0, done.stderr
    proof = json.loads(done.stdout)
    assert proof["source"] == "models/classifiers/float32/model.tflite"
    assert (proof["weights"], proof["holds"], proof["num_pictures"]) == ("float16", True, proof["num_same_answers"])


def test_another_folders_model_must_be_float32(folder):
    deploy(scheme="int8")
    layout.DEPLOYED.rename(layout.PRETRAINED)
    done = start("models/pretrained")
    assert done.exit_code == ModelError.exit_status
    assert "models/pretrained/model.tflite has quantized numbers, or is missing" in done.stderr
    assert "viewfinder pretrained --scheme float32" in done.stderr


def test_without_golden_pictures_nothing_is_proved(folder):
    done = start()
    assert "no models/deployed/golden/golden.json" in done.stderr


def test_a_package_that_answers_otherwise_replaces_nothing(folder, monkeypatch):
    deploy()
    write_bytes(coreml.PACKAGE.parent / "before", b"it")
    broken = {**arithmetic.OPERATORS, "relu6": lambda x, **_: x}
    monkeypatch.setattr(saved, "OPERATORS", broken)
    done = start("--weights", "float32", "--json")
    assert done.exit_code == ModelError.exit_status
    assert re.search(r"a package with float32 weights that answers as LiteRT does on \d of", done.stderr)
    assert json.loads(done.stdout)["holds"] is False
    assert [path.name for path in coreml.PACKAGE.parent.iterdir()] == ["before"]
    assert [path.name for path in coreml.PACKAGE.parent.parent.glob(".*")] == []


@pytest.mark.parametrize(("factor", "num_same"), [(1.6, 8), (float("nan"), 8), (1.0, 7)])
def test_a_proof_fails_by_its_factor_by_what_is_no_number_and_by_an_answer(factor, num_same):
    proof = coreml.Proof("package", "source", "int8", 16, 3.5, 8, num_same, 0.1, factor, 1.5)
    assert coreml.to_json(proof)["holds"] is False
    assert json.loads(json.dumps(coreml.to_json(proof), allow_nan=False))["weights"] == "int8"
    with pytest.raises(ModelError, match=r"a package with int8 weights(.|\n)*what was there stays(.|\n)*float16$"):
        coreml.refuse_broken(proof)
    with pytest.raises(ModelError, match="choose --weights float32: activations may leave float16's range"):
        coreml.refuse_broken(replace(proof, weights="float16"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "convnext_tiny"])
def test_networks_of_keras_are_translated(name, tmp_path):
    from tests.test_architectures import small  # noqa: PLC0415 - TensorFlow's seconds

    backbone = convert(build_backbone(small(name)))
    assert {node.kind for node in Graph(backbone).nodes} <= OF_BACKBONES
    model = Model(backbone)
    images = tiny_models.pictures(2, pixels=model.input_pixels)
    features = model(images[0])
    weights = np.random.default_rng(0).normal(0, 1, (len(features), 3)).astype(np.float32)
    weights /= np.linalg.norm(features)
    content = append_head(backbone, weights, -features @ weights)
    found, expected = packaged(tmp_path, content), Model(content)
    for picture in images:
        assert largest_factor(found(picture), expected(picture)) < WEIGHTS["float32"].max_factor


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on macOS alone")
@pytest.mark.parametrize("name", WEIGHTS)
def test_core_ml_itself_answers_so(name, tmp_path):
    content = with_none(classifier())
    assert content is not None
    packaged(tmp_path, content, name, classes=[*LABELS, "_none"])
    model = coremltools().models.MLModel(str(tmp_path / "Tiny.mlpackage"))
    for picture in tiny_models.pictures(3):
        answer = model.predict({"image": Image.fromarray(picture)})
        found = np.array([answer["classLabel_probs"][one] for one in (*LABELS, "_none")], np.float32)
        assert largest_factor(found, Model(content)(picture)) < WEIGHTS[name].max_factor


def test_the_docs_swift_parses_and_reads_what_packages_tell(folder):
    snippets = re.findall(r"```swift\n(.*?)```", PAGE, re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        assert faults(snippet.encode(), ".swift") == []
        assert faults(snippet.replace("}", "", 1).encode(), ".swift")  # it would be noticed
    deploy()
    assert start().exit_code == 0
    keys = set(re.findall(r'metadata\["(\w+)"\]', PAGE))
    assert {"threshold", "none"} <= keys <= set(dict(metadata().userDefined))
    assert {"image", "classLabel_probs"} <= set(re.findall(r'"(\w+)"', "".join(snippets)))
    for option in coreml.VISION_OPTIONS.values():
        assert f"`.{option}`" in PAGE
