import subprocess
import sys

import numpy as np
import pytest
import yaml
from ai_edge_litert import schema_py_generated as schema
from conftest import PROJECT
from omegaconf import OmegaConf
from tiny_models import NUM_FEATURES, SCHEMES, backbone, pictures

from pipeline.config.quantization import QuantizationConfig
from pipeline.errors import PipelineError
from pipeline.files import sha256_of_bytes
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import check_builtin, check_scheme, operators
from pipeline.litert.quantizer import quantize

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
    with pytest.raises(PipelineError, match=r"no calibration picture(.|\n)*restore data/calibration/"):
        quantize(backbone(), SCHEMES["int8"], [])


def test_unknown_algorithm():
    config = QuantizationConfig("mine", "dynamic", 8, "int", 32, "magic")
    with pytest.raises(PipelineError, match=r"quantization.algorithm: magic\n.*one of no_quantize, min_max_uniform"):
        quantize(backbone(), config, [])


def test_algorithm_that_cannot_do_the_scheme(calibration):
    config = QuantizationConfig("mine", "static", 8, "int", 8, "OCTAV")
    with pytest.raises(PipelineError, match=r"scheme mine cannot be applied(.|\n)*min_max_uniform_quantize suits"):
        quantize(backbone(), config, calibration)


def test_algorithm_that_refuses_the_rule():
    config = QuantizationConfig("mine", "dynamic", 4, "int", 32, "float_casting")
    with pytest.raises(PipelineError, match=r"scheme mine cannot be applied(.|\n)*conf/quantization/mine.yaml"):
        quantize(backbone(), config, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "magic"}, "quantization.kind: magic\n.*one of none, weight_only, dynamic, static"),
        ({"weight_type": "real"}, "quantization.weight_type: real\n.*one of float, int"),
        ({"weight_bits": 5}, r"weight_bits: 5(.|\n)*\(int, 8, 8\) or \(int, 4, 8\)(.|\n)*conf/quantization/int8.yaml"),
        ({"activation_bits": 32}, r"activation_bits: 32 with quantization.kind: static"),
    ],
)
def test_config_refuses_what_cannot_be(change, message):
    with pytest.raises(PipelineError, match=message):
        QuantizationConfig(**(vars(SCHEMES["int8"]) | change))


@pytest.mark.parametrize("scheme", ["float32", "float16", "int8"])
def test_conf_file_holds_the_scheme(scheme):
    values = yaml.safe_load((PROJECT / "conf" / "quantization" / f"{scheme}.yaml").read_text(encoding="utf-8"))
    merged = OmegaConf.merge(OmegaConf.structured(QuantizationConfig), values)
    assert OmegaConf.to_object(merged) == SCHEMES[scheme]
