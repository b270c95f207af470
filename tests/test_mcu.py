"""The microcontroller's model: what becomes of pixels and head, what TFLM says, and the firmware's files."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import yaml
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.special import softmax

from pipeline.config.gate import MicroLimits
from pipeline.errors import ConfigurationError, InputError, LimitError, MissingPackageError, ModelError
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.head_file import Head, read_head, to_bytes
from pipeline.heads.inputs import learned_rows
from pipeline.litert import micro_measure, tflm
from pipeline.litert.flatbuffer import operator_name, read_model, write_model
from pipeline.litert.foreign import output_operator
from pipeline.litert.golden import MISTAKES
from pipeline.litert.interpreter import load_interpreter
from pipeline.litert.micro import OUTPUT_SCALE, micro_classifier, micro_features, micro_operators
from pipeline.litert.micro_measure import Footprint, proven_answers
from pipeline.litert.multiply_adds import num_multiply_adds
from pipeline.litert.quantizer import quantize
from pipeline.litert.runtimes import open_classifier
from pipeline.litert.unused import drop_unused
from pipeline.metrics.probabilities import SLICED_SOFTMAX
from pipeline.shipping.firmware import Firmware, c_string, threshold_as_output
from pipeline.shipping.firmware_texts import MAKEFILE
from pipeline.shipping.self_test import candidates_of, choose_self_test
from pipeline.takes.splits import NONE
from pipeline.tools import mcu as tool
from pipeline.tools.cli import viewfinder
from pipeline.tools.mcu import FOLDER, mcu
from pipeline.video.decode import sample_frames
from tests import tiny_models, tiny_project
from tests.conftest import PROJECT
from tests.test_deploy import deploy_tiny
from tests.tiny_models import SCHEMES, backbone, head, pictures

needs_tflm = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="tflite-micro has wheels for Linux on x86-64"
)
DOCS = (PROJECT / "docs/pages/mcu.md").read_text(encoding="utf-8")
COMPILER = shutil.which("g++") or shutil.which("clang++")
RANGE = (-20.0, 20.0)


def calibration():
    """Pictures with a black and a white one, as data/calibration has them."""
    extremes = [np.full((1, tiny_models.PIXELS, tiny_models.PIXELS, 3), value, np.uint8) for value in (0, 255)]
    return np.concatenate([pictures(8), *extremes])


def int8_backbone(**changes):
    return quantize(backbone(**changes), SCHEMES["int8"], calibration())


def micro(num_outputs=3, num_labels=None, content=None):
    weights, bias = head(num_outputs)
    given = content or int8_backbone()
    return micro_classifier(given, weights, bias, num_labels=num_labels or num_outputs, logit_range=RANGE)


def run(content, picture, *, reference_kernels=True):
    """Run any model on a picture of bytes."""
    interpreter = load_interpreter(content, 1, reference_kernels=reference_kernels)
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    pixels = picture if given["dtype"] is np.uint8 else (picture.astype(int) - 128).astype(np.int8)
    interpreter.set_tensor(given["index"], pixels[np.newaxis])
    interpreter.invoke()
    return interpreter.get_tensor(answer["index"])[0]


def test_what_is_cut_off_makes_pixel_minus_128_of_every_byte():
    model = read_model(int8_backbone())
    graph = model.subgraphs[0]
    (quantize_pixels,) = [one for one in graph.operators if operator_name(model, one) == "QUANTIZE"]
    graph.outputs, model.signatureDefs = [int(quantize_pixels.outputs[0])], []
    drop_unused(model)
    every = np.arange(tiny_models.PIXELS**2 * 3).reshape(tiny_models.PIXELS, tiny_models.PIXELS, 3) % 256
    for kernels in (True, False):
        found = run(write_model(model), every.astype(np.uint8), reference_kernels=kernels)
        np.testing.assert_array_equal(found, every - 128)


def test_it_takes_and_gives_int8_and_has_neither_floats_nor_names():
    content = micro()
    interpreter = load_interpreter(content, 1)
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["dtype"], list(given["shape"]), given["quantization"]) == (np.int8, [1, 16, 16, 3], (1.0, -128))
    assert (answer["dtype"], list(answer["shape"]), answer["quantization"]) == (np.int8, [1, 3], (1 / 256, -128))
    model = read_model(content)
    assert {tensor.type for tensor in model.subgraphs[0].tensors} == {schema.TensorType.INT8, schema.TensorType.INT32}
    assert not any(tensor.name for tensor in model.subgraphs[0].tensors)
    assert len(model.operatorCodes) == len(micro_operators(content))
    assert len(model.buffers) == 1 + sum(tensor.buffer > 0 for tensor in model.subgraphs[0].tensors)
    assert content == micro()


def test_the_quantized_head_answers_nearly_as_in_float():
    quantized, (weights, bias) = int8_backbone(), head()
    content = micro(content=quantized)
    for picture in pictures(20, seed=5):
        expected = softmax(run(quantized, picture) @ weights + bias)
        found = (run(content, picture).astype(int) + 128) * OUTPUT_SCALE
        assert np.abs(found - expected).max() < 0.05  # a step of the logits is 0.16, and changes p by 0.04 at most
        assert found.argmax() == expected.argmax() or abs(np.diff(np.sort(expected)[-2:])[0]) < 0.1


def test_none_of_them_takes_part_in_the_softmax_and_is_left_out():
    whole, labels = micro(3), micro(3, num_labels=2)
    assert set(micro_operators(labels)) - set(micro_operators(whole)) == {"SLICE"}
    sums = []
    for picture in pictures(10, seed=6):
        found = run(labels, picture)
        np.testing.assert_array_equal(found, run(whole, picture)[:2])
        sums.append((found.astype(int) + 128).sum() / 256)
    assert min(sums) < 0.9  # of some pictures it is none


def test_a_bias_that_would_not_fit_gets_larger_steps():
    weights, bias = head()
    weights, bias = weights * np.float32(1e-9), bias * np.float32(10)
    content = micro_classifier(int8_backbone(), weights, bias, num_labels=3, logit_range=RANGE)
    found = (run(content, pictures(1)[0]).astype(int) + 128) / 256
    np.testing.assert_allclose(found, softmax(bias), atol=0.05)


def test_shapes_that_do_not_fit_are_a_mistake_in_the_code():
    with pytest.raises(ValueError, match=r"weights \(5, 3\), bias \(3,\) and 3 labels; 12 features"):
        micro_classifier(int8_backbone(), *head(num_features=5), num_labels=3, logit_range=RANGE)


def test_multiply_adds_are_those_of_the_layers():
    stem, depthwise, top = 8 * 8 * 8 * 27, 8 * 8 * 8 * 9, 8 * 8 * 12 * 8
    assert num_multiply_adds(backbone()) == stem + depthwise + top
    assert num_multiply_adds(micro()) == stem + depthwise + top + 12 * 3


def test_backbones_of_other_forms_are_refused():
    dark = quantize(backbone(), SCHEMES["int8"], pictures(8) // 2)
    for content, told in (
        (backbone(), r"pixels go into MUL, not into QUANTIZE alone"),
        (backbone(dtype="float32"), r"pixels go into MUL, not into CAST alone"),
        (dark, r"pixels become INT8 with scale 0\.\d+ and zero point -128(.|\n)*list int8 in params.yaml"),
        (quantize(backbone(), SCHEMES["int16"], calibration()), r"pixels become INT16"),
    ):
        with pytest.raises(ModelError, match=told):
            micro(content=content)


def changed(change):
    model = read_model(int8_backbone())
    change(model, model.subgraphs[0])
    return write_model(model)


def test_features_of_other_forms_are_refused():
    def integers_out(_, graph):
        graph.outputs = [graph.operators.pop().inputs[0]]

    def given_through(_, graph):
        graph.outputs = graph.inputs

    def features_as_bytes(_, graph):
        graph.tensors[graph.operators[-1].inputs[0]].type = schema.TensorType.UINT8

    def a_float_between(_, graph):
        graph.tensors[graph.operators[-3].outputs[0]].type = schema.TensorType.FLOAT32

    for change, told in (
        (integers_out, "a backbone that ends in MEAN"),
        (given_through, "a backbone that ends in nothing"),
        (features_as_bytes, "a backbone whose features are UINT8"),
        (a_float_between, r"a backbone in which CONV_2D computes with floats"),
    ):
        with pytest.raises(ModelError, match=told):
            micro(content=changed(change))


@needs_tflm
@pytest.mark.parametrize("num_labels", [3, 2])
def test_tflm_answers_bit_for_bit_as_the_reference_kernels(num_labels):
    content = micro(3, num_labels)
    images = list(pictures(12, seed=7))
    answers = proven_answers(content, tflm.smallest_arena_bytes(content), images)
    for answer, picture in zip(answers, images, strict=True):
        np.testing.assert_array_equal(answer, run(content, picture))
    assert len({answer.tobytes() for answer in answers}) > 1


@needs_tflm
def test_another_answer_of_tflm_is_an_error(monkeypatch):
    monkeypatch.setattr(micro_measure, "MicroInterpreter", lambda *_: lambda _: np.full(12, 99, np.int8))
    with pytest.raises(ModelError, match=r"TFLM and LiteRT's reference kernels differ in \d+ of 12 int"):
        proven_answers(micro(), 100_000, list(pictures(1)))


# x, sigmoid of x, and their product, as a swish of EfficientNet-B0 has them: scale and zero point
SWISH = ((0.0009194161393679678, 3), (1 / 256, -128), (0.00045820025843568146, -4))


def product_model():
    """A model of one MUL, of every pair of int8 numbers."""
    of_x, of_sigmoid, of_product = (
        schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero]) for scale, zero in SWISH
    )
    graph, shape = tiny_models.Graph(), (1, 256, 256, 1)
    x = graph.tensor("x", shape, "int8", quantization=of_x)
    sigmoid = graph.constant("sigmoid", np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 256, 1))
    graph.tensors[sigmoid].quantization = of_sigmoid
    product = graph.add("MUL", [x, sigmoid], "product", shape, schema.MulOptionsT())
    graph.tensors[product].type, graph.tensors[product].quantization = schema.TensorType.INT8, of_product
    return write_model(graph.model(x, product))


def product_by(dtype):
    """The same in numpy. What differs is the type in which the one multiplier of all products is computed."""
    (scale_x, zero_x), (scale_sigmoid, zero_sigmoid), (scale, zero) = SWISH
    fraction, exponent = np.frexp(np.float64(dtype(scale_x) * dtype(scale_sigmoid) / dtype(scale)))
    every = np.arange(-128, 128)
    products = np.outer(every - zero_x, every - zero_sigmoid) * int(np.rint(fraction * 2**31))
    high = (products + np.where(products >= 0, 1 << 30, 1 - (1 << 30))) / 2**31
    high = np.trunc(high).astype(np.int64)  # rounded for the first time, half away from 0
    steps = np.trunc(high / 2.0**-exponent + np.where(high >= 0, 0.5, -0.5))  # and for the second
    return np.clip(steps + zero, -128, 127).astype(np.int8)


def by_both(content, integers):
    """What TFLM and LiteRT's reference kernels make of int8 [height, width]."""
    given = integers[..., np.newaxis]
    interpreter = load_interpreter(content, 1, reference_kernels=True)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given[np.newaxis])
    interpreter.invoke()
    reference = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return tflm.MicroInterpreter(content, 1 << 20)(given)[..., 0], reference[0, ..., 0]


@needs_tflm
def test_tflm_multiplies_by_another_last_digit_than_the_reference_kernels():
    every = np.repeat(np.arange(-128, 128, dtype=np.int8)[:, np.newaxis], 256, axis=1)
    found, reference = by_both(product_model(), every)
    np.testing.assert_array_equal(reference, product_by(np.float32))
    np.testing.assert_array_equal(found, product_by(np.float64))
    assert 0 < (found != reference).sum() < 100
    assert np.abs(found.astype(int) - reference).max() == 1


def sigmoid_model(scale):
    """A model of one LOGISTIC."""
    graph, shape = tiny_models.Graph(), (1, 16, 16, 1)
    x = graph.tensor("x", shape, "int8", quantization=schema.QuantizationParametersT(scale=[scale], zeroPoint=[0]))
    y = graph.add("LOGISTIC", [x], "y", shape)
    graph.tensors[y].type = schema.TensorType.INT8
    graph.tensors[y].quantization = schema.QuantizationParametersT(scale=[1 / 256], zeroPoint=[-128])
    return write_model(graph.model(x, y))


@needs_tflm
@pytest.mark.parametrize(("scale", "num_steps_off"), [(0.05, 0), (1.0, 0), (4.75, 2)])
def test_tflms_sigmoid_ends_too_early_at_coarse_steps(scale, num_steps_off):
    every = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    found, reference = by_both(sigmoid_model(scale), every)
    exact = np.clip(np.rint(256 / (1 + np.exp(-every.astype(float) * scale))) - 128, -128, 127)
    np.testing.assert_array_equal(reference, exact)
    off = np.abs(found.astype(int) - exact)
    assert off.max() == num_steps_off
    assert set(every[off > 0]) == ({-1, 1} if num_steps_off else set())


def test_the_features_are_those_of_the_backbone():
    quantized = int8_backbone()
    picture = pictures(1, seed=8)[0]
    integers = run(micro_features(micro(content=quantized)), picture).astype(int)
    (details,) = load_interpreter(micro_features(micro(content=quantized)), 1).get_output_details()
    scale, zero_point = details["quantization"]
    np.testing.assert_allclose((integers - zero_point) * scale, run(quantized, picture), rtol=1e-6)


def test_the_self_test_is_the_picture_that_leaves_most_in_doubt():
    sure, doubtful = np.array([127, -128], np.int8), np.array([-20, 0], np.int8)
    images = list(pictures(3))
    every = candidates_of(images)
    assert len(every) == 5
    np.testing.assert_allclose(every[3], (images[0].astype(float) + images[1]) / 2, atol=1)
    chosen = choose_self_test(every, [sure, sure, sure, doubtful, sure], lambda _: sure)
    assert chosen.pixels is every[3]
    assert chosen.output is doubtful
    assert chosen.changes == dict.fromkeys(set(MISTAKES) - {"sides cut off"}, 147)
    none = np.array([-128, -128], np.int8)  # with what they lack to 1, that is sure, too
    assert choose_self_test(images[:2], [none, doubtful], lambda _: doubtful).output is doubtful


@needs_tflm
def test_the_smallest_arena_is_the_smallest():
    content = micro()
    smallest = tflm.smallest_arena_bytes(content)
    tflm.MicroInterpreter(content, smallest)
    with pytest.raises(ModelError, match=r"TFLM cannot run the model: .*[Ff]ailed to (resize|allocate)"):
        tflm.MicroInterpreter(content, smallest - tflm.ARENA_STEP_BYTES)
    assert smallest >= 8 * 8 * 8 * 2  # the largest two neighbours, of which an operator needs both


@needs_tflm
def test_what_tflm_cannot_run_is_told_in_its_words():
    with pytest.raises(ModelError, match=r"TFLM cannot run the model: .*[Ff]ailed to get registration"):
        tflm.smallest_arena_bytes(backbone(extra_operator=("CUSTOM", b"Mine")))
    refused_when_run = tflm.MicroInterpreter(int8_backbone(), 1 << 20)  # its first operator is a CAST of bytes
    with pytest.raises(ModelError, match=r"TFLM cannot run the model: .*UINT8.*not supported"):
        refused_when_run(pictures(1)[0])


def test_without_tflm_it_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    with pytest.raises(
        MissingPackageError, match=r"tflite-micro is not installed(.|\n)*pip install --pre tflite-micro"
    ):
        tflm.smallest_arena_bytes(micro())


@given(st.floats(0, 255 / 256))
def test_a_threshold_as_output_keeps_what_its_probability_keeps(threshold):
    as_output = threshold_as_output(threshold)
    for output in range(-128, 128):
        assert (output >= as_output) == ((output + 128) / 256 >= threshold)


def test_thresholds_at_the_ends():
    assert threshold_as_output(None) == threshold_as_output(0.0) == -128
    assert threshold_as_output(1.0) == 127  # the largest output there is


LABELS = ("rote Möhre", 'a "b" \\ ??/', "ünd")


def firmware_of(content, **changes):
    made = Firmware(
        model=content,
        backbone="tiny",
        resize="stretch",
        input_pixels=tiny_models.PIXELS,
        labels=LABELS,
        threshold=0.6,
        arena_bytes=20480,
        operators=micro_operators(content),
        golden_pixels=pictures(1)[0],
        golden_output=np.array([-128, 5, 100], np.int8),
    )
    return replace(made, **changes)


def bytes_in(text, array):
    """Return the numbers of an array in C."""
    (body,) = re.findall(rf"{array}\[?\w*\]? = \{{(.*?)\}};", text, re.DOTALL)
    return [int(number, 0) for number in body.replace("\n", "").split(",") if number.strip()]


def test_the_arrays_hold_the_files_bytes():
    content = micro()
    files = firmware_of(content).files()
    assert bytes(bytes_in(files["model.cc"], "g_model_data")) == content
    assert bytes(bytes_in(files["golden.cc"], "g_golden_pixels")) == pictures(1)[0].tobytes()
    assert bytes_in(files["golden.cc"], "g_golden_output") == [-128, 5, 100]


def test_the_example_registers_the_models_operators_and_no_other():
    content = micro(3, 2)
    text = firmware_of(content).files()["main.cc"]
    names = {"AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected", "AddMean", "AddMul", "AddAdd"}
    assert set(re.findall(r"resolver\.(\w+)\(\)", text)) == names | {"AddSlice", "AddSoftmax"}
    assert "MicroMutableOpResolver<8>" in text
    with pytest.raises(ModelError, match=r"cannot register with TFLM: TILE(.|\n)*SOFTMAX"):
        firmware_of(content, operators=["ADD", "TILE"]).files()


def test_a_label_is_a_string_of_c():
    assert c_string("a b") == '"a b"'
    assert c_string('é"') == '"\\303\\251\\042"'


PROGRAM = """
#include <cstdio>
#include "golden.h"
#include "model.h"
int main() {
  for (const char* label : kLabels) std::printf("%s\\n", label);
  unsigned long sum = 0;
  for (unsigned int i = 0; i < g_model_data_size; ++i) sum += (i % 251 + 1) * g_model_data[i];
  std::printf("%u %lu %d %d %d %d %d\\n", g_model_data_size, sum, kArenaBytes, kThreshold, kInputBytes,
              g_golden_pixels[kInputBytes - 1], g_golden_output[0]);
  return reinterpret_cast<std::uintptr_t>(g_model_data) % 16 != 0;
}
"""


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")
def test_header_and_arrays_compile_and_say_what_the_file_says(folder):
    content = micro()
    for name, text in firmware_of(content).files().items():
        write_text(folder / name, text)
    write_text(folder / "program.cc", PROGRAM)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unused-variable", "-o", "program"]
    subprocess.run([str(COMPILER), *flags, "program.cc", "model.cc", "golden.cc"], check=True)
    told = subprocess.run(["./program"], capture_output=True, encoding="utf-8", check=True).stdout.splitlines()
    assert tuple(told[:3]) == LABELS
    numbers = np.frombuffer(content, np.uint8).astype(np.int64)
    summed = int(((np.arange(len(numbers)) % 251 + 1) * numbers).sum())
    golden = pictures(1)[0].reshape(-1)
    assert told[3] == f"{len(content)} {summed} 20480 26 {16 * 16 * 3} {golden[-1]} -128"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_the_makefile_asks_for_tflm(folder, monkeypatch):
    monkeypatch.delenv("TFLM", raising=False)
    write_text(folder / "Makefile", MAKEFILE)
    for arguments, told in (
        ([], "Say where TFLM lies: make TFLM="),
        (["TFLM=/nowhere"], "is no checkout of tflite-micro"),
    ):
        done = subprocess.run(["make", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert told in done.stderr


def write_head(path, num_outputs=3, threshold=0.4):
    weights, bias = head(num_outputs)
    write_bytes(path, to_bytes(Head(weights, bias, tiny_project.LABELS, threshold)))


@pytest.fixture
def project(folder):
    """What a finished run leaves of the tiny project, as far as it is read here."""
    tiny_project.make()
    for value in (0, 255):
        Image.fromarray(np.full((24, 32, 3), value, np.uint8)).save(layout.CALIBRATION / f"{value}.png")
    tiny_project.make_bottlenecks(SCHEMES["int8"])
    deploy_tiny("int8")
    write_head(layout.head("int8"))
    write_head(layout.held_out_head("int8"))
    write_text(Path("dvc.yaml"), "stages: {}\n")
    write_params()
    return folder


def write_params(**changes):
    params = {"backbone": "tiny", "resize": "stretch", "quantization": ["float32", "int8"]} | changes
    write_text(Path("params.yaml"), yaml.safe_dump(params))


@needs_tflm
def test_the_command_writes_what_a_firmware_takes(project):
    done = CliRunner().invoke(viewfinder, ["mcu"])
    assert done.exit_code == 0, done.stderr
    measured = json.loads((FOLDER / "measured.json").read_text(encoding="utf-8"))
    content = (FOLDER / "model.tflite").read_bytes()
    assert {path.name for path in FOLDER.iterdir()} == {
        *("model.tflite", "model.cc", "model.h", "golden.cc", "golden.h", "main.cc", "Makefile", "measured.json")
    }
    assert measured["flash_bytes"] == len(content)
    assert measured["threshold"] == threshold_as_output(0.4)
    assert measured["test"]["num_frames"] == 2 * tiny_project.NUM_FRAMES
    assert measured["test"]["is_shipped_head"]
    text = (FOLDER / "golden.cc").read_text(encoding="utf-8")
    golden = np.array(bytes_in(text, "g_golden_pixels"), np.uint8).reshape(16, 16, 3)
    assert bytes_in(text, "g_golden_output") == run(content, golden).tolist()
    assert f"arena          {measured['arena_bytes']:,} bytes\n" in done.stdout
    assert "leaves out" not in done.stderr
    assert "of the shipped head, on 10 frames of 2 test takes" in done.stdout


@needs_tflm
def test_heads_that_are_left_out_are_named(project):
    path = layout.DEPLOYED / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["output"]["heads"] = [{"name": "material"}, {"name": "parts"}]
    write_text(path, json.dumps(manifest))
    done = CliRunner().invoke(viewfinder, ["mcu", "--frames", "2"])
    assert "mcu: takes the first head alone, and leaves out: material, parts\n" in done.stderr


@needs_tflm
def test_the_score_is_that_of_the_head_that_has_not_seen_the_test_takes(project):
    weights, bias = head(3)
    swap = [1, 0, 2]
    write_bytes(layout.held_out_head("int8"), to_bytes(Head(weights[:, swap], bias[swap], tiny_project.LABELS, 0.4)))
    done = CliRunner().invoke(viewfinder, ["mcu", "--json", "--frames", "7"])
    assert done.exit_code == 0, done.stderr
    test = json.loads(done.stdout)["test"]
    assert (test["num_frames"], test["is_shipped_head"]) == (7, False)
    assert test["agreement_with_phones"] > 0.8  # the int8 model with the same head
    shipped = mcu(MicroLimits(), 7)["test"]
    assert test == shipped
    assert "a head that has not seen the test takes" in tool.table(json.loads(done.stdout))


@needs_tflm
def test_a_head_without_none_needs_no_slice_and_names_always(project):
    for path in (layout.head("int8"), layout.held_out_head("int8")):
        write_head(path, num_outputs=2, threshold=None)
    measured = mcu(MicroLimits(), None)
    assert measured["threshold"] is None
    assert "SLICE" not in measured["operators"]
    header = (FOLDER / "model.h").read_text(encoding="utf-8")
    assert "This model always names one." in header
    assert "kThreshold = -128;" in header


@needs_tflm
def test_a_limit_that_is_broken_leaves_what_was_there(project):
    mcu(MicroLimits(), 1)
    before = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    write_head(layout.head("int8"), num_outputs=2, threshold=None)
    arguments = ["mcu", "--max-flash-bytes", "100", "--max-arena-bytes", "1000"]
    done = CliRunner().invoke(viewfinder, arguments)
    assert done.exit_code == LimitError.exit_status
    assert re.search(r"the model needs [\d,]+ bytes of flash and [\d,]+ bytes of arena", done.stderr)
    assert "at most 100 (--max-flash-bytes) and at most 1,000 (--max-arena-bytes)" in done.stderr
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == before
    found = Footprint(100, 1000, 5)
    tool.refuse(found, MicroLimits(100, 1000), MicroLimits())
    with pytest.raises(LimitError, match="1,000 bytes of arena"):
        tool.refuse(found, MicroLimits(100, 999), MicroLimits())


@needs_tflm
def test_the_limits_of_the_gate_hold_unless_an_option_says_otherwise(project):
    write_params(gate={"max_arena_bytes": 1000})
    with pytest.raises(LimitError, match=r"bytes of arena\n  expected: at most 1,000 \(gate.max_arena_bytes in params"):
        mcu(MicroLimits(), 1)
    assert not FOLDER.exists()
    done = CliRunner().invoke(viewfinder, ["mcu", "--max-arena-bytes", "1000000", "--frames", "1"])
    assert done.exit_code == 0, done.stderr


def test_a_project_without_int8_is_told_so(project):
    write_params(quantization=["float32"])
    with pytest.raises(
        ConfigurationError, match=r"`quantization: \['float32'\]` in params.yaml(.|\n)*add int8 to the list"
    ):
        mcu(MicroLimits(), None)
    write_params()
    layout.backbone("int8").unlink()
    with pytest.raises(InputError, match=r"no models/backbone/int8.tflite: the scheme int8 was not made"):
        mcu(MicroLimits(), None)
    shutil.rmtree(layout.DEPLOYED)
    with pytest.raises(InputError, match=r"no models/deployed/manifest.json, beside which the golden pictures lie"):
        mcu(MicroLimits(), None)
    assert not FOLDER.exists()


def test_settings_that_were_edited_since_the_run_are_refused(project):
    write_params(resize="crop")
    with pytest.raises(
        ConfigurationError, match=r"`resize: crop` in params.yaml, and models/deployed/ was made with str"
    ):
        mcu(MicroLimits(), None)


def test_files_of_two_runs_are_refused(project):
    weights, bias = head(3, num_features=5)
    write_bytes(layout.head("int8"), to_bytes(Head(weights, bias, tiny_project.LABELS, 0.4)))
    with pytest.raises(
        ModelError, match=r"backbone, head and bottlenecks of int8 have 5, 12 features(.|\n)*files of one run"
    ):
        mcu(MicroLimits(), None)


@needs_tflm
def test_nothing_to_score_on_is_an_error(project, monkeypatch):
    monkeypatch.setattr(tool, "held_out_frames", lambda _: iter(()))
    with pytest.raises(InputError, match="nothing to score the microcontroller's model on"):
        mcu(MicroLimits(), None)
    assert not FOLDER.exists()


def test_the_logits_range_is_not_that_of_test_frames(project):
    rows, _ = learned_rows("int8", "learned")
    assert any(unit.label == NONE for unit in rows.units)
    far = replace(rows, features=np.where(rows.are_for_training[:, np.newaxis], rows.features, 1e6).astype(np.float32))
    content, known = layout.backbone("int8").read_bytes(), read_head(layout.head("int8"))
    assert tool.quantized_classifier(content, known, far) == tool.quantized_classifier(content, known, rows)


needs_checkout = pytest.mark.skipif("TFLM" not in os.environ, reason="TFLM names no checkout of tflite-micro")


@pytest.mark.slow
@needs_checkout
def test_the_example_runs_in_tflm(project):
    mcu(MicroLimits(), 1)
    arguments = ["make", "-C", str(FOLDER), f"TFLM={os.environ['TFLM']}", "run"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the golden picture's answer, bit for bit" in done.stdout + done.stderr


@pytest.mark.slow
@needs_checkout
@pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-g++") and shutil.which("qemu-system-arm")), reason="no compiler or emulator here"
)
def test_the_docs_commands_run_the_example_on_an_emulated_cortex_m55(project):
    mcu(MicroLimits(), 1)
    (project / "examples").symlink_to(PROJECT / "examples")
    (block,) = [text for text in re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL) if "qemu-system-arm" in text]
    commands = "".join(line for line in block.splitlines(keepends=True) if not line.startswith("apt-get"))
    done = subprocess.run(["bash", "-ec", commands], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the golden picture's answer, bit for bit" in done.stdout


def test_the_docs_commands_make_pictures_grey(folder, monkeypatch):
    (command,) = re.findall(r"^ffmpeg .*$", DOCS, re.MULTILINE)
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    shutil.copy(PROJECT / "data/videos/hammer/IMG_0412.mov", "colours.mp4")
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([ffmpeg, "-v", "error", *command.split()[1:]], check=True)
    images = [frame.image for frame in sample_frames(Path("grey.mp4"), per_second=1, width_pixels=160)]
    for kind in ("strangers", "calibration"):
        for path in [*sorted((PROJECT / "data" / kind).glob("*.jpg"))[:2], PROJECT / "data/calibration/black.png"]:
            write_bytes(Path("data") / kind / path.name, path.read_bytes())
    before = [path.name for path in sorted(Path("data").glob("*/*"))]
    exec(snippet, {})
    assert [path.name for path in sorted(Path("data").glob("*/*"))] == before
    images += [np.asarray(Image.open(path)) for path in Path("data").glob("*/*")]
    assert len(images) > len(before)
    for image in images:
        assert image.shape[2] == 3
        np.testing.assert_allclose(image.min(axis=2), image.max(axis=2), atol=1)


def test_score_and_predict_read_the_file_as_it_is():
    content = micro(3, 2)
    assert output_operator(content) == SLICED_SOFTMAX
    classifier = open_classifier(content, runtime="reference", resize="stretch")
    for picture in pictures(3):
        np.testing.assert_array_equal(classifier(picture), (run(content, picture).astype(np.float32) + 128) / 256)


def test_the_files_of_backbones_tell_what_the_docs_table_says_fits():
    """Of each width, up to which size."""
    rows = re.findall(r"^\| (\w+)_(\d{3}) \| (\d+) \|.*\| yes \|$", DOCS, re.MULTILINE)
    largest = dict[tuple[str, str], int]()
    for base, width, pixels in rows:
        largest[base, width] = max(largest.get((base, width), 0), int(pixels))
    told = dict[str, set[str]]()
    for path in (PROJECT / "conf/backbone").glob("*.yaml"):
        for line in re.findall(r"^# On a microcontroller, .* hold (.*) \(docs", path.read_text("utf-8"), re.MULTILINE):
            told[path.stem] = set(re.findall(r"\d\.\d+|(?<!\.)\b\d{2,3}\b", line))
    expected = dict[str, set[str]]()
    for (base, width), pixels in largest.items():
        expected.setdefault(base, set()).update((f"{int(width) / 100:g}", str(pixels)))
    assert told == expected != {}


@pytest.mark.slow  # it brings TensorFlow
def test_the_benchmark_tells_the_smallest_memory():
    bench = importlib.import_module("bench.mcu")
    assert [bench.room(num_bytes) for num_bytes in (1, 65536, 65537, 1 << 20, (1 << 20) + 1)] == [
        *("64 kB", "64 kB", "128 kB", "1 MB", "2 MB")
    ]


@pytest.mark.slow
@needs_tflm
def test_the_benchmark_builds_measures_and_tells_what_fails(monkeypatch, capfd):
    bench = importlib.import_module("bench.mcu")
    monkeypatch.setattr(sys, "argv", ["mcu.py", "mobilenet_v1_025", "--pixels", "96"])
    bench.main()
    printed = capfd.readouterr().out
    assert all(line in DOCS for line in printed.splitlines())  # its row in the table, and the table's head
    (found,) = re.findall(r"\| mobilenet_v1_025 \| 96 \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) M \|.*\| yes \|", printed)
    flash, _, multiply_adds = (float(number.replace(",", "")) for number in found)
    # published for 128 x 128 pixels: 14 M multiply-adds, 0.47 M parameters, of which the classifier has 0.26 M
    assert multiply_adds == pytest.approx(14 * (96 / 128) ** 2, rel=0.1)
    assert 210_000 < flash < 320_000
    assert "fails: backbone: mobile" in bench.row("mobile", 32)
    assert {"mobilenet_v2_035", "efficientnet_lite0", "xception"} <= set(bench.names())
    assert "own_model" not in bench.names()
