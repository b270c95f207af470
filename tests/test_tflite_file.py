"""A backbone that came as a .tflite file: it is used bit for bit, or refused with what it takes and gives."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from pipeline.backbones.tflite_file import build, check_own_file
from pipeline.config.quantization import QuantizationConfig
from pipeline.errors import ConfigurationError, ModelError
from pipeline.files import sha256_of_bytes
from pipeline.litert.dequantized import dequantized, feature_error
from pipeline.litert.extractor import backbone_of
from pipeline.litert.flatbuffer import operator_name, read_model, write_model
from pipeline.litert.head import append_head
from pipeline.litert.input_type import with_float_input
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import check_scheme, is_float32, operators
from pipeline.litert.pointwise import with_fully_connected
from pipeline.litert.quantized import quantized_backbone
from pipeline.litert.quantizer import quantize
from pipeline.processes.silence import silenced
from tests.tiny_models import PIXELS, SCHEMES, backbone, backbone_model, head, pictures
from tests.tiny_project import BACKBONE

AS_IT_IS = replace(BACKBONE, mean=[0.0], std=[1.0])
AS_IS = QuantizationConfig("as_is", "as_is", 0, "own", 0, "no_quantize")
SCALE, ZERO = 1 / 128, 128


def plain(tensor):
    tensor.quantization = None


def integers(dtype="UINT8", output="INT8", scale=None):
    """A quantized extractor as other tools write it: integers in and out, with their scales.

    The pixel's own half of ours (CAST, and QUANTIZE) is cut off, and so is the last DEQUANTIZE.
    """
    model = read_model(quantize(backbone(), SCHEMES["int8"], pictures(8)))
    graph = model.subgraphs[0]
    kinds = [operator_name(model, operator) for operator in graph.operators]
    assert kinds[:2] == ["CAST", "QUANTIZE"]
    assert kinds[-1] == "DEQUANTIZE"
    image = graph.tensors[graph.operators[1].outputs[0]]
    assert image.type == schema.TensorType.INT8
    if scale:
        image.quantization.scale = np.array([scale], np.float32)
    graph.inputs = [graph.operators[1].outputs[0]]
    if output == "INT8":
        graph.outputs = [graph.operators[-1].inputs[0]]
        del graph.operators[-1]
    del graph.operators[:2]
    if dtype == "UINT8":
        unsigned = len(graph.tensors)
        shifted = schema.QuantizationParametersT(
            scale=image.quantization.scale, zeroPoint=np.asarray(image.quantization.zeroPoint) + 128
        )
        graph.tensors.append(
            schema.TensorT(
                shape=image.shape, type=schema.TensorType.UINT8, buffer=0, name=b"bytes", quantization=shifted
            )
        )
        code = schema.BuiltinOperator.QUANTIZE
        model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1))
        first = schema.OperatorT(
            opcodeIndex=len(model.operatorCodes) - 1,
            inputs=[unsigned],
            outputs=graph.inputs,
            builtinOptionsType=schema.BuiltinOptions.QuantizeOptions,
            builtinOptions=schema.QuantizeOptionsT(),
        )
        graph.operators.insert(0, first)
        graph.inputs = [unsigned]
    model.signatureDefs = []
    return write_model(model)


def run_file(content, numbers):
    """Run any file in LiteRT and return what its output stands for."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], numbers[np.newaxis].astype(given["dtype"]))
    interpreter.invoke()
    found = interpreter.get_tensor(answer["index"]).astype(np.float32)
    scale, zero = answer["quantization"]
    return (found if scale == 0 else (found - zero) * np.float32(scale)).reshape(-1)


def refusal(content, config=AS_IT_IS):
    with pytest.raises(ModelError) as caught:
        backbone_of(content, config, "theirs.tflite")
    return caught.value


@pytest.mark.parametrize("dtype", ["UINT8", "INT8"])
@pytest.mark.parametrize("output", ["INT8", "FLOAT32"])
def test_integers_are_fed_the_pixels_themselves_bit_for_bit(dtype, output):
    content = integers(dtype, output)
    model = read_model(content)
    stored = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].quantization
    low = 0 if dtype == "UINT8" else -128
    config = replace(BACKBONE, mean=[float(stored.zeroPoint[0] - low)], std=[1 / float(stored.scale[0])])
    made = backbone_of(content, config, "theirs.tflite")
    for picture in pictures(4):
        numbers = picture if dtype == "UINT8" else picture.astype(int) - 128
        np.testing.assert_array_equal(Model(made)(picture), run_file(content, numbers))


@pytest.mark.parametrize("scale", [1 / 128, 1 / 127.5, 0.0186584])
@pytest.mark.parametrize("zero", [0, 114, 128, 255])
def test_every_pixel_reaches_an_integer_input_as_it_is(scale, zero):
    """With any scale and zero point: rounding must not move one of the 256."""
    model = read_model(integers("UINT8"))
    graph = model.subgraphs[0]
    image = graph.tensors[graph.inputs[0]]
    image.quantization.scale, image.quantization.zeroPoint = np.array([scale], np.float32), np.array([zero], np.int64)
    content = write_model(model)
    config = replace(BACKBONE, mean=[float(zero)], std=[1 / scale])
    made = read_model(backbone_of(content, config, "theirs.tflite"))
    (before,) = [
        operator.outputs[0]
        for operator in made.subgraphs[0].operators
        if operator_name(made, operator) == "QUANTIZE"
        and made.subgraphs[0].tensors[operator.outputs[0]].name == b"bytes"
    ]
    made.subgraphs[0].outputs, made.signatureDefs = [before], []
    interpreter = Interpreter(model_content=write_model(made))
    interpreter.allocate_tensors()
    every = np.arange(PIXELS * PIXELS * 3, dtype=np.uint8).reshape(1, PIXELS, PIXELS, 3)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], every)
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(before), every)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_a_float_file_gets_normalized_pixels_in_its_own_order(channels):
    content = backbone(dtype="float32")
    config = replace(BACKBONE, mean=[120.0, 115.0, 100.0], std=[60.0, 57.0, 50.0], channels=channels)
    made = backbone_of(content, config, "theirs.tflite")
    for picture in pictures(3):
        numbers = (picture - np.array(config.mean)) / np.array(config.std)
        numbers = numbers[..., ::-1] if channels == "bgr" else numbers
        np.testing.assert_allclose(Model(made)(picture), run_file(content, numbers), rtol=1e-5, atol=1e-6)
    assert is_float32(made)


def test_a_file_that_takes_bytes_as_they_are_stays_as_it_is():
    content = backbone()
    made = backbone_of(content, AS_IT_IS, "theirs.tflite")
    for picture in pictures(3):
        np.testing.assert_array_equal(Model(made)(picture), Model(content)(picture))
    assert len(read_model(made).subgraphs[0].operators) == len(read_model(content).subgraphs[0].operators)


def test_bytes_go_in_the_files_own_order():
    made = backbone_of(backbone(), replace(AS_IT_IS, channels="bgr"), "theirs.tflite")
    for picture in pictures(2):
        np.testing.assert_array_equal(Model(made)(picture), Model(backbone())(np.ascontiguousarray(picture[..., ::-1])))


def test_feature_maps_are_averaged_and_what_comes_behind_the_tensor_is_cut_off():
    content = backbone()
    made = backbone_of(content, replace(AS_IT_IS, features="top"), "theirs.tflite")
    for picture in pictures(3):
        np.testing.assert_allclose(Model(made)(picture), Model(content)(picture), rtol=1e-5)
    stem = backbone_of(content, replace(AS_IT_IS, features="stem"), "theirs.tflite")
    assert Model(stem).output_length == 8
    assert len(stem) < len(content)
    names = [operator_name(read_model(stem), operator) for operator in read_model(stem).subgraphs[0].operators]
    assert names == ["CAST", "MUL", "ADD", "CONV_2D", "MEAN"]


def test_the_tensors_are_told_where_the_name_is_wrong():
    error = refusal(backbone(), replace(AS_IT_IS, features="pool"))
    assert "has no tensors called 'pool'" in error.found
    assert "\n    top float32 [1, 8, 8, 12]\n    mean float32 [1, 12]" in error.expected


def test_two_outputs_need_a_name():
    model = backbone_model()
    model.subgraphs[0].outputs = [*model.subgraphs[0].outputs, model.subgraphs[0].operators[3].outputs[0]]
    assert "gives 2 outputs" in refusal(write_model(model)).found
    model.subgraphs[0].outputs = [0]
    assert "gives image uint8 [1, 16, 16, 3]" in refusal(write_model(model)).found


def test_a_mean_that_an_integer_input_cannot_hold_is_refused_with_one_that_it_can():
    model = read_model(integers("UINT8"))
    image = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
    image.quantization.scale, image.quantization.zeroPoint = np.array([SCALE], np.float32), np.array([ZERO], np.int64)
    error = refusal(write_model(model))
    assert (
        "cannot hold pixels of mean [0.0], std [1.0]: it takes bytes uint8 [1, 16, 16, 3], scale 0.0078125"
        in error.found
    )
    assert "mean: [128.0], std: [128.0]" in error.expected
    backbone_of(write_model(model), replace(BACKBONE, mean=[127.5], std=[127.5]), "theirs.tflite")
    too_few = refusal(write_model(model), replace(BACKBONE, mean=[127.5], std=[2000.0]))
    assert "cannot hold pixels" in too_few.found


def test_a_mean_for_bytes_as_they_are_is_refused():
    error = refusal(backbone(), BACKBONE)
    assert "takes bytes as they are" in error.found
    assert "mean: [0.0], std: [1.0]" in error.expected


def test_metadata_that_say_another_mean_are_heard():
    from pipeline.litert.metadata import embed_labels  # noqa: PLC0415

    labelled = embed_labels(backbone(), [f"label {n}" for n in range(12)], name="theirs", description="")
    theirs = with_float_input(labelled)  # mean 0, std 1
    error = refusal(theirs, BACKBONE)
    assert "says in its metadata mean [0.0], std [1.0]; the backbone's file says [127.0], [128.0]" in error.found
    made = backbone_of(theirs, AS_IT_IS, "theirs.tflite")
    for picture in pictures(2):
        np.testing.assert_array_equal(Model(made)(picture), Model(backbone())(picture))


def test_another_size_of_picture_is_refused():
    error = refusal(backbone(dtype="float32"), replace(BACKBONE, input_pixels=32))
    assert "takes image float32 [1, 16, 16, 3]" in error.found
    assert "one picture [1, 32, 32, 3]" in error.expected


def test_pixels_of_another_type_are_refused():
    model = read_model(integers("INT8"))
    plain(model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]])
    error = refusal(write_model(model))
    assert re.search(r"takes .* int8 \[1, 16, 16, 3\]", error.found)
    assert "float32, or quantized int8 or uint8" in error.expected


@pytest.mark.parametrize("content", [b"PK\x03\x04 no model", b""])
def test_what_is_no_model_is_refused(content):
    error = refusal(content)
    assert error.found == f"theirs.tflite is a file that begins with {content[:8]!r}"
    assert error.remedy == "convert the feature extractor again"


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_came_half_is_refused(share):
    content = integers()
    error = refusal(content[: max(int(share * len(content)), 9)])
    assert error.found.startswith("theirs.tflite is a damaged TensorFlow Lite model: ")
    assert error.expected == "the whole file, as it was made"


@pytest.mark.parametrize("name", sorted(set(SCHEMES) - {"float32", "int16"}))
def test_the_float_twin_holds_the_very_weights(name):
    """Weights of both are equal where they are stored, and so the features differ by rounded activations alone."""
    quantized = quantize(backbone(), SCHEMES[name], pictures(8))
    twin = dequantized(quantized)
    assert is_float32(twin)
    as_written = with_fully_connected(backbone()) if SCHEMES[name].pointwise == "fully_connected" else backbone()
    assert operators(twin) == operators(as_written)
    # weight-only schemes compute in float32 with these weights: the same but for the order of additions
    limit = 1e-5 if SCHEMES[name].kind == "weight_only" else 0.25
    assert feature_error(twin, quantized) < limit


def test_a_file_that_relies_on_the_limits_of_its_integers_has_no_float_twin():
    model = read_model(quantize(backbone(), SCHEMES["int8"], pictures(8)))
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if operator_name(model, operator) == "CONV_2D":
            operator.builtinOptions.fusedActivationFunction = 0  # RELU6, which the range of the output still does
    for tensor in graph.tensors:
        if tensor.name == b"top":
            tensor.quantization.scale = tensor.quantization.scale / 40
    with pytest.raises(ModelError) as caught:
        dequantized(write_model(model))
    assert "as float32 gives features that are" in caught.value.found
    assert caught.value.expected == "at most 0.5"


def own_file(tmp_path, content, **changes):
    path = tmp_path / "theirs.tflite"
    path.write_bytes(content)
    return replace(AS_IT_IS, weights=str(path), weights_sha256=sha256_of_bytes(content), **changes)


def test_the_file_is_held_to_its_hash_and_its_length(tmp_path):
    config = own_file(tmp_path, integers(scale=1))
    assert Model(build(config)).output_length == 12
    with pytest.raises(ModelError, match="has SHA-256"):
        build(replace(config, weights_sha256="0" * 64))
    with pytest.raises(ConfigurationError, match="write feature_length: 12"):
        build(replace(config, feature_length=1280))


def test_a_quantized_file_is_not_quantized_again(tmp_path):
    config = own_file(tmp_path, integers(scale=1))
    check_own_file(config, [SCHEMES["float32"], AS_IS], "head")
    with pytest.raises(ConfigurationError, match="the scheme int8 for a backbone that came quantized"):
        check_own_file(config, [SCHEMES["float32"], SCHEMES["int8"]], "head")
    made = build(config)
    assert quantized_backbone(made, AS_IS, pictures(0)) == made
    check_scheme(append_head(made, *head()), AS_IS, "the classifier")  # as the stage `assemble` asks
    assert quantized_backbone(made, SCHEMES["float32"], pictures(0)) == dequantized(made)


def test_a_float_file_is_quantized_as_any_other(tmp_path):
    config = own_file(tmp_path, backbone(dtype="float32"), mean=[127.0], std=[128.0])
    check_own_file(config, [SCHEMES["float32"], SCHEMES["int8"]], "head")
    with pytest.raises(ConfigurationError, match="the scheme as_is for a backbone that computes in float32"):
        check_own_file(config, [SCHEMES["float32"], AS_IS], "head")
    made = build(config)
    assert feature_error(quantized_backbone(made, SCHEMES["int8"], pictures(8)), made) < 0.2


def test_what_only_a_tflite_file_has_is_refused_elsewhere(tmp_path):
    with pytest.raises(ConfigurationError, match=r"training\.mode: finetune with weights"):
        check_own_file(own_file(tmp_path, integers(scale=1)), [SCHEMES["float32"]], "finetune")
    with pytest.raises(ConfigurationError, match=r"features: top with weights: random(.|\n)*leave it empty"):
        check_own_file(replace(BACKBONE, features="top"), [SCHEMES["float32"]], "head")
    with pytest.raises(ConfigurationError, match="`quantization` lists as_is, and weights: random"):
        check_own_file(BACKBONE, [SCHEMES["float32"], AS_IS], "head")


def test_tensorflow_is_never_imported_for_it(tmp_path):
    config = own_file(tmp_path, integers(scale=1))
    code = (
        "import sys; from tests.test_tflite_file import AS_IT_IS, replace\n"
        "from pipeline import backbone; from pipeline.config.backbone import BackboneStage\n"
        f"config = replace(AS_IT_IS, weights={config.weights!r}, weights_sha256={config.weights_sha256!r})\n"
        "backbone.tflite_file.build(config)\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs were expected:UserWarning")
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_a_file_of_tensorflows_converter_gives_the_same_as_it_is(dtype):
    """Of another maker than ours: integers in and out, a batch of any size, a classifier behind the features."""
    from pipeline.backbones.quiet_tensorflow import keras, tensorflow  # noqa: PLC0415 - another test is without it

    keras.utils.set_random_seed(0)
    image = keras.Input((PIXELS, PIXELS, 3))
    x = keras.layers.Conv2D(12, 3, 2, padding="same", activation="relu6")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(
        keras.Model(image, keras.layers.Dense(5, activation="softmax")(x))
    )
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    seen = [*pictures(8), *(np.full((PIXELS, PIXELS, 3), value) for value in (0, 255))]
    converter.representative_dataset = lambda: ([(one / 127.5 - 1)[None].astype(np.float32)] for one in seen)
    converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tensorflow, dtype)
    with silenced():
        content = converter.convert()
    config = replace(BACKBONE, mean=[127.5], std=[127.5])
    made = backbone_of(content, config, "theirs.tflite")
    for picture in pictures(4):
        numbers = picture if dtype == "uint8" else picture.astype(int) - 128
        np.testing.assert_array_equal(Model(made)(picture), run_file(content, numbers))
    error = refusal(content, replace(config, features="?"))
    (name,) = re.findall(r"\n    (\S+) int8 \[1, 12\]", error.expected)
    features = backbone_of(content, replace(config, features=name), "theirs.tflite")
    assert Model(features).output_length == 12
    assert feature_error(dequantized(features), features) < 0.05


def test_features_that_are_all_zero_have_no_float_twin():
    model = read_model(quantize(backbone(), SCHEMES["int8"], pictures(8)))
    last = model.subgraphs[0].operators[-1]
    model.subgraphs[0].tensors[last.inputs[0]].quantization.scale = np.array([1e30], np.float32)
    with pytest.raises(ModelError, match=r"features that are inf of their size away"):
        dequantized(write_model(model))
