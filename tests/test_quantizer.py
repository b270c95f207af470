import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import yaml
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given, settings
from hypothesis import strategies as st
from litert_quantizer import quantizer
from litert_quantizer.calibrator import CalibrationMode
from omegaconf import OmegaConf

from pipeline.config.quantization import ALGORITHMS, AS_IS, QuantizationConfig
from pipeline.errors import ConfigurationError, InputError, PipelineError
from pipeline.files import sha256_of_bytes
from pipeline.litert import quantizer as quantizer_module
from pipeline.litert.flatbuffer import constant, operator_name, read_model, set_constant, write_model
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import check_builtin, check_scheme, operators
from pipeline.litert.quantizer import quantize
from pipeline.litert.rounding import gptq, round_weights
from tests.conftest import PROJECT
from tests.tiny_models import NUM_FEATURES, SCHEMES, backbone, pictures

# Relative feature errors on this model: twice what was measured.
MAX_ERRORS = {
    "float32": 0.0,
    "float16": 0.0003,
    "int8": 0.010,
    "int16": 0.008,
    "int4": 0.063,
    "dynamic": 0.008,
    "int4_dynamic": 0.063,
    "int4_weights": 0.063,
}


def read_model_as_is(content):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))


def features(content, images):
    model = Model(content)
    return np.array([model(image) for image in images])


def relative_error(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


@pytest.fixture(scope="module")
def calibration():
    black_and_white = np.stack([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)])
    return np.concatenate([pictures(60), black_and_white])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scheme_keeps_its_promise(scheme, calibration):
    content = quantize(backbone(), SCHEMES[scheme], calibration)
    check_builtin(content, scheme)
    check_scheme(content, SCHEMES[scheme], scheme)
    model = Model(content)  # raises unless uint8 in, float32 out
    assert (model.input_pixels, model.output_length) == (16, NUM_FEATURES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_features_stay_close(scheme, calibration):
    images = pictures(20, seed=7)
    content = quantize(backbone(), SCHEMES[scheme], calibration)
    error = relative_error(features(content, images), features(backbone(), images))
    assert error <= MAX_ERRORS[scheme]


def test_none_returns_the_file_itself():
    assert quantize(backbone(), SCHEMES["float32"], []) == backbone()


def test_int8_is_computed_in_integers_throughout(calibration):
    content = quantize(backbone(), SCHEMES["int8"], calibration)
    counts = operators(content)
    assert counts["QUANTIZE"] == 1
    assert counts["DEQUANTIZE"] == 1
    assert operators(quantize(backbone(), SCHEMES["float16"], []))["QUANTIZE"] == 0


def test_buffers_are_inside_the_file():
    # from 256 KiB of weights on, the quantizer itself puts buffers behind the flatbuffer
    content = quantize(backbone(num_features=20_000), SCHEMES["float16"], [])
    buffers = read_model_as_is(content).buffers
    assert max(0 if buffer.data is None else buffer.data.size for buffer in buffers) == 8 * 20_000 * 2
    assert {buffer.offset for buffer in buffers} == {0}


def test_order_of_pictures_and_threads_do_not_matter(calibration):
    once = quantize(backbone(), SCHEMES["int8"], calibration)
    again = quantize(backbone(), SCHEMES["int8"], calibration[::-1], num_threads=3)
    assert once == again


def test_pictures_are_asked_for_one_by_one(calibration):
    from_generator = quantize(backbone(), SCHEMES["int8"], (picture for picture in calibration))
    assert from_generator == quantize(backbone(), SCHEMES["int8"], calibration)


def test_another_process_gives_the_same_bytes_and_says_nothing():
    # 40 layers: the quantizer draws its progress bars for 100 tensors or more
    code = (
        "import sys; sys.path[:0] = ['tests', '.']; from tiny_models import *\n"
        "from test_quantizer import quantize, sha256_of_bytes\n"
        "print(sha256_of_bytes(quantize(backbone(depth=40), SCHEMES['int8'], pictures(3))))"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    here = sha256_of_bytes(quantize(backbone(depth=40), SCHEMES["int8"], pictures(3)))
    assert (finished.stdout, finished.stderr) == (here + "\n", "")


def test_no_calibration_picture():
    with pytest.raises(InputError, match=r"no calibration picture(.|\n)*restore data/calibration/"):
        quantize(backbone(), SCHEMES["int8"], [])


def test_unknown_algorithm():
    with pytest.raises(ConfigurationError, match=r"quantization.algorithm: magic\n.*one of no_quantize, min_max_"):
        QuantizationConfig("mine", "dynamic", 8, "int", 32, "magic")


def test_algorithm_that_cannot_do_the_scheme(calibration):
    config = QuantizationConfig("mine", "static", 8, "int", 8, "dequantized_weight_recovery")
    with pytest.raises(ConfigurationError, match=r"scheme mine cannot be applied(.|\n)*min_max_uniform_quantize suits"):
        quantize(backbone(), config, calibration)


def test_algorithm_that_refuses_the_rule():
    config = QuantizationConfig("mine", "dynamic", 4, "int", 32, "float_casting")
    with pytest.raises(ConfigurationError, match=r"scheme mine cannot be applied(.|\n)*conf/quantization/mine.yaml"):
        quantize(backbone(), config, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "magic"}, "quantization.kind: magic\n.*one of none, weight_only, dynamic, static"),
        ({"weight_type": "real"}, "quantization.weight_type: real\n.*one of float, int"),
        ({"weight_bits": 5}, r"weight_bits: 5(.|\n)*\(int, 8, 8\) or \(int, 4, 8\)(.|\n)*conf/quantization/int8.yaml"),
        ({"rounding": "up"}, "quantization.rounding: up\n.*one of nearest, calibrated"),
        ({"features": "int4"}, "quantization.features: int4\n.*one of own, float32"),
        ({"calibration": "test"}, "quantization.calibration: test\n.*one of fixed, train"),
        (
            {"rounding": "calibrated", "algorithm": "MSE"},
            "rounding: calibrated with .*algorithm: MSE\n.*min_max_uniform",
        ),
        ({"pointwise": "magic"}, "quantization.pointwise: magic\n.*one of convolution, fully_connected"),
        (
            {"pointwise": "fully_connected"},
            r"pointwise: fully_connected with .*weight_bits: 8\n.*kind: static, weight_bits: 4(.|\n)*int8.yaml",
        ),
        ({"activation_bits": 32}, r"activation_bits: 32 with quantization.kind: static"),
    ],
)
def test_config_refuses_what_cannot_be(change, message):
    with pytest.raises(PipelineError, match=message):
        QuantizationConfig(**(vars(SCHEMES["int8"]) | change))


# The schemes of conf/quantization

CONF = {path.stem: path for path in sorted((PROJECT / "conf" / "quantization").glob("*.yaml")) if path.stem != AS_IS}
PROMISES = {  # kind, type and bits of weights, bits of activations
    "dynamic": ("dynamic", "int", 8, 32),
    "float16": ("weight_only", "float", 16, 32),
    "float32": ("none", "float", 32, 32),
    "int16x8": ("static", "int", 8, 16),
    "int4": ("static", "int", 4, 8),
    "int8": ("static", "int", 8, 8),
}


def conf(scheme):
    values = yaml.safe_load(CONF[scheme].read_text(encoding="utf-8"))
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(QuantizationConfig), values))


def test_conf_promises():
    configs = {name: conf(name) for name in CONF}
    found = {name: (c.kind, c.weight_type, c.weight_bits, c.activation_bits) for name, c in configs.items()}
    assert found == PROMISES
    assert {name: c.scheme for name, c in configs.items()} == {name: name for name in CONF}


@pytest.mark.parametrize("scheme", CONF)
def test_conf_file_says_when_to_choose_it_and_leaves_nothing_to_defaults(scheme):
    text = CONF[scheme].read_text(encoding="utf-8")
    assert text.startswith(f"# Choose {scheme} ")
    assert list(yaml.safe_load(text)) == [field.name for field in fields(QuantizationConfig)]


def test_conf_pays_for_calibrated_rounding_where_it_gains():
    assert [name for name in CONF if conf(name).rounding == "calibrated"] == ["int4"]


@pytest.mark.parametrize("scheme", CONF)
def test_conf_scheme_keeps_its_promise_in_all_kernels(scheme, calibration):
    content = quantize(backbone(), conf(scheme), calibration)
    check_builtin(content, scheme)
    check_scheme(content, conf(scheme), scheme)
    images = pictures(5, seed=7)
    with_delegate = features(content, images)
    for kernels in (OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
        interpreter.allocate_tensors()
        (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
        assert (given["dtype"], given["quantization"], answer["dtype"]) == (np.uint8, (0.0, 0), np.float32)
        for image, expected in zip(images, with_delegate, strict=True):
            interpreter.set_tensor(given["index"], image[np.newaxis])
            interpreter.invoke()
            assert relative_error(interpreter.get_tensor(answer["index"])[0], expected) < 0.02


@pytest.mark.parametrize("scheme", ["dynamic", "int4", "int8", "int16x8"])
def test_calibrated_rounding_is_closer_than_nearest(scheme, calibration):
    images = pictures(40, seed=7)
    errors = {}
    for rounding in ("nearest", "calibrated"):
        content = quantize(backbone(), replace(conf(scheme), rounding=rounding), calibration)
        errors[rounding] = relative_error(features(content, images), features(backbone(), images))
    assert errors["calibrated"] < 0.9 * errors["nearest"]


def test_calibrated_rounding_gives_equal_bytes_whatever_the_order(calibration):
    once = quantize(backbone(), conf("int4"), calibration)
    assert once == quantize(backbone(), conf("int4"), calibration[::-1], num_threads=3)


def test_calibrated_rounding_without_pictures():
    with pytest.raises(InputError, match=r"no calibration picture(.|\n)*restore data/calibration/"):
        quantize(backbone(), replace(conf("dynamic"), rounding="calibrated"), [])


def test_quantizer_finds_the_steps_of_rounded_weights_again(calibration):
    rounded = read_model(round_weights(backbone(), 4, list(calibration)))
    stored = read_model(quantize(backbone(), conf("int4"), calibration))
    (expected,), (tensor,) = (
        [t for t in m.subgraphs[0].tensors if t.name == b"top/weights"] for m in (rounded, stored)
    )
    low_first = np.asarray(stored.buffers[tensor.buffer].data, np.uint8)
    nibbles = np.stack([low_first & 15, low_first >> 4], 1).ravel().astype(np.int8)
    steps = np.where(nibbles > 7, nibbles - 16, nibbles).reshape(NUM_FEATURES, -1)
    values = steps * np.asarray(tensor.quantization.scale)[:, np.newaxis]
    truth = np.asarray(rounded.buffers[expected.buffer].data, np.uint8).view(np.float32).reshape(NUM_FEATURES, -1)
    np.testing.assert_allclose(values, truth, rtol=1e-6, atol=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 6), st.sampled_from([4, 8]))
def test_gptq_gives_steps_that_span_the_whole_range(seed, num_inputs, num_outputs, bits):
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(50, num_inputs)) @ draw.normal(size=(num_inputs, num_inputs))
    weights = draw.normal(size=(num_outputs, num_inputs)).astype(np.float32)
    rounded = gptq(weights, inputs.T @ inputs / 50, bits)
    largest_step = 2 ** (bits - 1) - 1
    steps = rounded / np.abs(rounded).max(1, keepdims=True) * largest_step
    assert np.abs(steps - np.rint(steps)).max() < 1e-3


def test_gptq_lets_an_input_make_up_for_its_twin():
    # the inputs are always equal, so only the sum of the two small weights counts: 0.6 + 0.6 of a step
    weights = np.array([[7.0, 0.6, 0.6]], np.float32)
    moments = np.array([[1.0, 0, 0], [0, 1, 1], [0, 1, 1]])
    rounded = gptq(weights, moments, 4)
    np.testing.assert_allclose(rounded / rounded.max() * 7, [[7, 1, 0]])


@pytest.mark.parametrize(("every", "stay"), [(4, True), (25, False)])
def test_the_zeros_of_a_pruned_matrix_stay_but_not_a_few_that_weights_happen_to_have(every, stay):
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(200, 50)) @ draw.normal(size=(50, 50))
    weights = draw.normal(size=(4, 50)).astype(np.float32)
    weights[:, ::every] = 0
    rounded = gptq(weights, inputs.T @ inputs / 200, 4)
    changed = bool(rounded[:, ::every].any())
    assert changed != stay


def test_dead_channels_stay_dead():
    weights = np.zeros((2, 3), np.float32)
    weights[0] = (1, -2, 7)
    assert np.array_equal(gptq(weights, np.eye(3), 4), weights)
    assert np.array_equal(gptq(weights, np.zeros((3, 3)), 4), weights)


def test_the_algorithms_that_a_scheme_may_name_are_the_quantizers() -> None:
    assert tuple(algorithm.value for algorithm in quantizer.AlgorithmName) == ALGORITHMS


@pytest.mark.parametrize("scheme", ["int8", "int16"])
def test_the_profiler_tells_the_ranges_of_all_tensors(scheme, calibration, monkeypatch):
    """Quick calibration and that which looks at every tensor give the same bytes."""
    observed, modes = quantizer_module._observed, []

    def observe(content, recipe, shown, num_threads, mode):
        modes.append(mode)
        return observed(content, recipe, shown, num_threads, mode)

    monkeypatch.setattr(quantizer_module, "_observed", observe)
    quick = quantize(backbone(), SCHEMES[scheme], calibration)
    assert modes[-1] is CalibrationMode.CALIBRATION_PROFILER_BASED

    def observe_slowly(content, recipe, shown, num_threads, _mode):
        return observed(content, recipe, shown, num_threads, CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS)

    monkeypatch.setattr(quantizer_module, "_observed", observe_slowly)
    assert quantize(backbone(), SCHEMES[scheme], calibration) == quick


def test_a_tensor_that_the_profiler_does_not_see_is_looked_at(calibration, monkeypatch):
    observed, quick = quantizer_module._observed, quantize(backbone(), SCHEMES["int8"], calibration)
    modes = []

    def observe(content, recipe, shown, num_threads, mode):
        modes.append(mode)
        found = observed(content, recipe, shown, num_threads, mode)
        if mode is CalibrationMode.CALIBRATION_PROFILER_BASED:
            found.popitem()
        return found

    monkeypatch.setattr(quantizer_module, "_observed", observe)
    assert quantize(backbone(), SCHEMES["int8"], calibration) == quick
    assert modes[-1] is CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS


@pytest.mark.parametrize("scheme", ["int8", "int4", "int16"])
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_a_dead_channel_keeps_its_bias(kind, scheme, calibration):
    """Its weights are next to nothing, so in their unit the bias has more than 32 bits."""
    model = read_model(backbone())
    operator = next(one for one in model.subgraphs[0].operators if operator_name(model, one) == kind)
    weights, bias = constant(model, operator.inputs[1]).copy(), constant(model, operator.inputs[2]).copy()
    weights[(0, ...) if kind == "CONV_2D" else (..., 0)] = 1e-12
    bias[0] = 2.5
    set_constant(model, operator.inputs[1], weights)
    set_constant(model, operator.inputs[2], bias)
    content = write_model(model)
    quantized = quantize(content, SCHEMES[scheme], calibration)
    with_kernels = read_model(quantized)
    found = next(one for one in with_kernels.subgraphs[0].operators if operator_name(with_kernels, one) == kind)
    tensor = with_kernels.subgraphs[0].tensors[found.inputs[2]]
    integers = np.asarray(with_kernels.buffers[tensor.buffer].data, np.uint8).view("<i4")
    assert integers[0] * tensor.quantization.scale[0] == pytest.approx(2.5, rel=1e-3)
    assert relative_error(features(quantized, pictures(20)), features(content, pictures(20))) < 2 * MAX_ERRORS[scheme]
