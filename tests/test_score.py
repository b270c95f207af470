import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner, Result
from PIL import Image

from pipeline.config.evaluate import EvaluateStage
from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate
from pipeline.files import layout, write_bytes
from pipeline.heads.held_out import held_out_frames
from pipeline.images.model_input import to_model_input
from pipeline.litert.flatbuffer import read_model
from pipeline.litert.flatbuffer import write_model as packed
from pipeline.litert.foreign import AnsweringHead, embedded_labels, output_operator
from pipeline.litert.head import append_head
from pipeline.litert.measure import measure, measure_here
from pipeline.litert.runtimes import open_classifier, to_rectangle
from pipeline.metrics.probabilities import to_probabilities
from pipeline.takes.splits import read_takes
from pipeline.tools.cli import viewfinder
from pipeline.tools.score import labels_of_head
from tests import clips, tiny_models, tiny_project
from tests.test_evaluate import CONFIG, write_model

LABELS = tiny_project.LABELS


@pytest.fixture
def model(folder: Path) -> Path:
    """A classifier with embedded labels, and a photo of each label under data/."""
    write_model("float32")
    for number, label in enumerate(LABELS):
        write_photo(Path("data") / label / "photo.png", tiny_project.picture(number, seed=number))
    return layout.model("float32")


def write_photo(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)


def score(*arguments: object) -> Result:
    return CliRunner().invoke(viewfinder, ["score", *map(str, arguments)])


def run(*arguments: object) -> dict[str, Any]:
    done = score(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refusal(*arguments: object) -> str:
    """Return the message; nothing may be printed beside it."""
    done = score(*arguments, "--json")
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code != 0
    assert done.stdout == ""
    return done.stderr


def without_head_softmax(content: bytes) -> bytes:
    """The same classifier, giving logits."""
    found = read_model(content)
    graph = found.subgraphs[0]
    graph.outputs = graph.operators.pop().inputs[:1]
    return packed(found)


def quantized_output(content: bytes) -> bytes:
    """The same classifier, giving probabilities as uint8 with a step of 1/256."""
    found = read_model(content)
    graph = found.subgraphs[0]
    source = graph.tensors[graph.outputs[0]]
    scale = schema.QuantizationParametersT(scale=np.array([1 / 256], np.float32), zeroPoint=np.array([0], np.int64))
    graph.tensors.append(
        schema.TensorT(source.shape, schema.TensorType.UINT8, 0, b"quantized", quantization=scale, hasRank=True)
    )
    number = schema.BuiltinOperator.QUANTIZE
    found.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=number, builtinCode=number, version=1))
    graph.operators.append(
        schema.OperatorT(len(found.operatorCodes) - 1, list(graph.outputs), [len(graph.tensors) - 1])
    )
    graph.outputs = [len(graph.tensors) - 1]
    return packed(found)


def without_normalization(content: bytes) -> bytes:
    """The same classifier, its scale made 1 and its shift 0."""
    found = read_model(content)
    for tensor in found.subgraphs[0].tensors:
        if tensor.name in (b"scale", b"shift"):
            value = np.array([tensor.name == b"scale"], np.float32)
            found.buffers[tensor.buffer].data = np.frombuffer(value.tobytes(), np.uint8)
    return packed(found)


def classifier(**changes: Any) -> bytes:
    return append_head(tiny_models.backbone(**changes), *tiny_models.head(num_labels=2))


def write_labels(*labels: str) -> Path:
    Path("labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return Path("labels.txt")


def test_score_equals_evaluate_on_the_same_frames(folder: Path) -> None:
    tiny_project.make()
    write_model("float32")
    evaluate(EvaluateStage("float32", "stretch", tiny_project.BACKBONE.name, CONFIG))
    for frame in held_out_frames(read_takes(layout.SPLITS)):
        write_bytes(Path("photos") / frame.take / f"{frame.frame_id}.jpg", frame.image)
    evaluated = json.loads(layout.evaluation("float32").read_text())
    scored = run(layout.model("float32"), "photos")
    measured = {"latency_ms", "num_threads", "peak_memory_bytes"}
    same = set(scored) & set(evaluated)
    assert set(scored) - set(evaluated) == {"model", "data", "resize", "outputs", *measured}
    assert {"accuracy", "take_accuracy", "macro_f1", "log_loss", "per_class", "size_bytes", "runtime"} <= same
    assert {key: scored[key] for key in same} == {
        key: pytest.approx(evaluated[key], abs=1e-6) if isinstance(evaluated[key], float) else evaluated[key]
        for key in same
    }


def quantized_input(content: bytes, kind: str, step: float, zero_point: int) -> bytes:
    """A classifier of float pixels that takes integers, each `step` apart."""
    found = read_model(content)
    graph = found.subgraphs[0]
    target = graph.tensors[graph.inputs[0]]
    scale = schema.QuantizationParametersT(
        scale=np.array([step], np.float32), zeroPoint=np.array([zero_point], np.int64)
    )
    type_ = {"int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8}[kind]
    graph.tensors.append(schema.TensorT(target.shape, type_, 0, b"integers", quantization=scale, hasRank=True))
    number = schema.BuiltinOperator.DEQUANTIZE
    found.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=number, builtinCode=number, version=2))
    graph.operators.insert(
        0, schema.OperatorT(len(found.operatorCodes) - 1, [len(graph.tensors) - 1], list(graph.inputs))
    )
    graph.inputs = [len(graph.tensors) - 1]
    return packed(found)


@pytest.mark.parametrize(
    ("kind", "step", "zero_point", "options"),
    [
        ("int8", 1.0, -128, []),  # 0..255
        ("int8", 1.0, -128, ["--mean", 0, "--std", 1]),
        ("int8", 2.0, -128, ["--mean", 0, "--std", 1]),  # 0..510: only half of it is ever given
        ("uint8", 1.0, 0, []),
        ("uint8", 2.0, 10, ["--mean", 0, "--std", 1]),
    ],
)
def test_integer_pixels_are_given_what_they_stand_for(
    model: Path, kind: str, step: float, zero_point: int, options: list[object]
) -> None:
    floats = classifier(dtype="float32")  # takes 0..255
    write_bytes(Path("float.tflite"), floats)
    labels = ["--labels", write_labels(*LABELS)]
    expected = run("float.tflite", "data", *labels, "--mean", 0, "--std", 1)
    write_bytes(Path("integers.tflite"), quantized_input(floats, kind, step, zero_point))
    found = run("integers.tflite", "data", *labels, *options)
    assert found["log_loss"] == pytest.approx(expected["log_loss"], abs=1e-6 if step == 1 else 0.02)
    assert found["accuracy"] == expected["accuracy"]


def test_int8_pixels_of_a_range_that_nothing_tells(model: Path) -> None:
    write_bytes(Path("integers.tflite"), quantized_input(classifier(dtype="float32"), "int8", 0.0187, -14))
    message = refusal("integers.tflite", "data", "--labels", write_labels(*LABELS))
    assert "the model takes int8 pixels in steps of 0.0187, and nothing tells what range" in message


@pytest.mark.parametrize("step", [1 / 127.5, 1 / 127, 1 / 128])
def test_int8_pixels_of_minus_1_to_1_are_pixels_minus_128(model: Path, step: float) -> None:
    write_bytes(Path("float.tflite"), without_normalization(classifier(dtype="float32")))
    labels = ["--labels", write_labels(*LABELS)]
    expected = run("float.tflite", "data", *labels, "--mean", 127.5, "--std", 127.5)
    write_bytes(Path("i.tflite"), quantized_input(Path("float.tflite").read_bytes(), "int8", step, 0))
    assert run("i.tflite", "data", *labels)["log_loss"] == pytest.approx(expected["log_loss"], abs=0.02)


@pytest.mark.parametrize(
    "lines", [["0 cup", "1 rote Möhre"], ["0  cup ", " 1 rote Möhre"], ["\ufeffcup", "rote Möhre "]]
)
def test_labels_as_others_write_them(model: Path, lines: list[str]) -> None:
    expected = run(model, "data")["per_class"]
    assert run(model, "data", "--labels", write_labels(*lines))["per_class"] == expected


def test_numbers_that_do_not_count_belong_to_the_names(folder: Path) -> None:
    head = AnsweringHead("probabilities", None, None, "SOFTMAX", slice(None))
    assert labels_of_head(head, write_labels("1 cup", "2 pen"), 2) == ["1 cup", "2 pen"]
    assert labels_of_head(head, write_labels("0 cup", "pen"), 2) == ["0 cup", "pen"]


def test_float_pixels_with_mean_and_std_are_the_uint8_model(model: Path) -> None:
    write_bytes(Path("float.tflite"), without_normalization(classifier(dtype="float32")))
    expected = run(model, "data")
    found = run("float.tflite", "data", "--labels", write_labels(*LABELS), "--mean", 127, "--std", "128,128,128")
    for key in ("accuracy", "log_loss", "expected_calibration_error", "per_class"):
        assert found[key] == expected[key]


def test_logits_and_quantized_outputs_are_the_probabilities(model: Path) -> None:
    write_bytes(Path("logits.tflite"), without_head_softmax(classifier()))
    write_bytes(Path("quantized.tflite"), quantized_output(classifier()))
    labels, expected = write_labels(*LABELS), run(model, "data")
    logits = run("logits.tflite", "data", "--labels", labels)
    quantized = run("quantized.tflite", "data", "--labels", labels)
    assert logits["outputs"] == "logits"
    assert quantized["outputs"] == expected["outputs"] == "probabilities"
    assert logits["log_loss"] == pytest.approx(expected["log_loss"], rel=1e-5)
    assert quantized["expected_calibration_error"] == pytest.approx(expected["expected_calibration_error"], abs=1 / 256)


def test_videos_photos_and_folders_of_both_are_takes(model: Path) -> None:
    clips.write_clip(Path("data/cup/clip.mp4"), [clips.smooth(i) for i in range(8)])
    write_photo(Path("data/cup/group/one.png"), tiny_project.picture(0, seed=5))
    clips.write_clip(Path("data/cup/group/clip.mp4"), [clips.smooth(i) for i in range(8)])
    found = run(model, "data", "--per-second", 1000, "--runtime", "reference")
    assert (found["num_test_takes"], found["num_test_frames"]) == (4, 8 + 9 + 1 + 1)


def test_labels_without_pictures_do_not_count(model: Path) -> None:
    (Path("data/cup/photo.png")).unlink()
    Path("data/cup").rmdir()
    found = run(model, "data")
    assert list(found["per_class"]) == ["rote Möhre"]
    assert found["macro_f1"] == found["per_class"]["rote Möhre"]["f1"]


def test_the_table_tells_the_figures(model: Path) -> None:
    shown = score(model, "data", "--threads", 2).stdout
    assert f"accuracy           {run(model, 'data')['accuracy']:.3f}\n" in shown
    assert re.search(r"latency            \d+\.\d ms \(p90 \d+\.\d, p99", shown)
    assert "; 2 threads)" in shown
    for label in LABELS:
        assert label in shown


def test_help_explains() -> None:
    shown = score("--help").stdout
    for option in ("MODEL", "DATA", "--labels", "--mean", "--std", "--resize", "--runtime", "--per-second", "--json"):
        assert option in shown


def test_folders_that_are_not_labels(model: Path) -> None:
    write_photo(Path("data/Tasse/photo.png"), tiny_project.picture(0, seed=0))
    message = refusal(model, "data")
    assert "folders in data/ that are not named like exactly one label of the model: Tasse\n" in message
    assert "expected: the model's labels: cup, rote Möhre\n" in message


def test_one_name_for_two_outputs(model: Path) -> None:
    message = refusal(model, "data", "--labels", write_labels("cup", "cup"))
    assert "not named like exactly one label of the model: cup, rote Möhre" in message


def test_float_pixels_without_mean_and_std(model: Path) -> None:
    write_bytes(Path("float.tflite"), classifier(dtype="float32"))
    message = refusal("float.tflite", "data", "--labels", write_labels(*LABELS))
    assert "the model takes float32 pixels, and nothing tells what range" in message
    assert "give --mean and --std" in message


@pytest.mark.parametrize(
    "options", [("--mean", 1), ("--std", 1), ("--mean", 1, "--std", 0), ("--mean", "1,2", "--std", 1)]
)
def test_half_a_normalization(model: Path, options: tuple[object, ...]) -> None:
    assert "expected: both, each one number for all channels or three" in refusal(model, "data", *options)


def test_uint8_pixels_with_mean_and_std(model: Path) -> None:
    message = refusal(model, "data", "--mean", 127, "--std", 128)
    assert "a mean and a standard deviation for a model that takes uint8 pixels" in message
    assert "leave out --mean and --std" in message


def test_wrong_number_of_labels(model: Path) -> None:
    message = refusal(model, "data", "--labels", write_labels("cup", "rote Möhre", "rocket"))
    assert "3 labels in labels.txt: cup, rote Möhre, rocket\n  expected: 2, as many as the model has" in message


def test_a_model_without_labels(model: Path) -> None:
    write_bytes(Path("bare.tflite"), classifier())
    message = refusal("bare.tflite", "data")
    assert "a model without embedded labels\n  expected: names for its 2 outputs" in message
    assert "--labels FILE" in message


def test_a_label_file_that_is_not_there(model: Path) -> None:
    assert "names.txt cannot be read" in refusal(model, "data", "--labels", "names.txt")


def test_channels_first(model: Path) -> None:
    write_bytes(Path("nchw.tflite"), flattening((1, 3, 2, 4)))
    message = refusal("nchw.tflite", "data", "--labels", write_labels(*LABELS))
    assert "the model takes float32 [1, 3, 2, 4], channels first (NCHW)\n" in message
    assert "expected: one picture [1, height, width, 3] (NHWC)" in message


def test_integer_output_without_a_scale(model: Path) -> None:
    write_bytes(Path("no_scale.tflite"), flattening((1, 2, 4, 3), dtype="uint8"))
    message = refusal("no_scale.tflite", "data", "--labels", write_labels(*LABELS))
    assert "the model gives uint8 [1, 24]\n  expected: one number a label" in message


def test_not_a_tflite_file(model: Path) -> None:
    Path("model.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    message = refusal("model.onnx", "data")
    assert "model.onnx is no TensorFlow Lite model: it begins with b'\\x08\\x07\\x12\\x07pyto'" in message
    assert "no.tflite cannot be read (No such file or directory)" in refusal("no.tflite", "data")


def test_a_model_that_litert_lacks_operators_for(model: Path) -> None:
    write_bytes(Path("flex.tflite"), classifier(extra_operator=("CUSTOM", b"FlexErf")))
    message = refusal("flex.tflite", "data")
    assert "flex.tflite does not load" in message
    assert "convert it again with built-in operators only" in message


def test_no_files(model: Path) -> None:
    Path("empty").mkdir()
    assert "no photos and no videos in empty/\n" in refusal(model, "empty")
    assert "there is no folder nowhere/\n" in refusal(model, "nowhere")


def test_damaged_photos_are_all_told(model: Path) -> None:
    for name in ("one.jpg", "two.jpg"):
        Path("data/cup", name).write_bytes(b"no picture")
    message = refusal(model, "data")
    assert "2 takes cannot be used" in message
    assert "data/cup/one.jpg is not a picture" in message
    assert "data/cup/two.jpg is not a picture" in message


def test_a_number_that_is_none(model: Path) -> None:
    assert "'loud' is neither a number nor three with commas between them" in refusal(model, "data", "--mean", "loud")


@pytest.mark.parametrize(("option", "number", "range_"), [("--per-second", 0, "x>0"), ("--width", 0, "x>=16")])
def test_no_frames_and_no_pixels(model: Path, option: str, number: int, range_: str) -> None:
    assert f"Invalid value for '{option}': {number}" in refusal(model, "data", option, number)
    assert range_ in refusal(model, "data", option, number)


def test_labels_may_begin_with_a_mark_of_utf_8(model: Path) -> None:
    Path("labels.txt").write_text("\ufeff" + "".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    assert list(run(model, "data", "--labels", "labels.txt")["per_class"]) == list(LABELS)


def test_a_model_that_cannot_be_measured(folder: Path) -> None:
    Path("bad.tflite").write_bytes(b"1234TFL3")
    with pytest.raises(PipelineError, match=r"bad.tflite cannot be measured: "):
        measure(Path("bad.tflite"), num_threads=1, num_warmup=0, num_runs=1)


def test_what_is_measured(folder: Path) -> None:
    write_bytes(Path("float.tflite"), classifier(dtype="float32"))
    found = measure_here(Path("float.tflite"), num_threads=2, num_warmup=1, num_runs=5)
    assert found.num_threads == 2
    assert 0 < found.latency_ms["p50"] <= found.latency_ms["p90"] <= found.latency_ms["p99"]


def test_the_operator_that_makes_the_outputs() -> None:
    assert output_operator(classifier()) == "SOFTMAX"
    assert output_operator(quantized_output(classifier())) == "SOFTMAX"
    assert output_operator(without_head_softmax(classifier())) == "FULLY_CONNECTED"
    assert output_operator(tiny_models.pixel_model(2)) == "MUL"


def test_labels_are_found_whatever_their_file_is_called(folder: Path) -> None:
    write_model("float32")
    content = layout.model("float32").read_bytes()
    assert embedded_labels(content) == list(LABELS)
    assert embedded_labels(content.replace(b"labels.txt", b"classe.txt")) == list(LABELS)
    assert embedded_labels(classifier()) is None


@pytest.mark.parametrize(
    ("outputs", "made_by", "step", "expected", "kind"),
    [
        ([[0.75, 0.25]], "MUL", 0, [[0.75, 0.25]], "probabilities"),
        ([[np.log(3), 0.0]], "ADD", 0, [[0.75, 0.25]], "logits"),
        ([[0.5, 0.5], [np.log(3), 0.0]], "ADD", 0, [[0.5, 0.5], [0.75, 0.25]], "logits"),
        ([[0.9, 0.3]], "LOGISTIC", 0, [[0.75, 0.25]], "scores"),
        ([[0.0, 0.0]], "SOFTMAX", 1 / 256, [[0.5, 0.5]], "probabilities"),
        ([[255 / 256, 0.0]], "SOFTMAX", 1 / 256, [[510 / 511, 1 / 511]], "probabilities"),
    ],
)
def test_probabilities(outputs: Any, made_by: str, step: float, expected: Any, kind: str) -> None:
    found, found_kind = to_probabilities(np.array(outputs, np.float32), made_by=made_by, step=step)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found_kind == kind


def test_rectangles_are_cut_out_of_what_squares_get() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    assert np.array_equal(to_rectangle(rgb, 16, 16, "pad"), to_model_input(rgb, 16, "pad"))
    # of a picture that is twice as wide as the square, every second column of the stretched square is the same
    assert np.array_equal(to_rectangle(rgb, 32, 16, "stretch"), to_model_input(rgb, 32, "stretch")[:, ::2])
    assert np.array_equal(to_rectangle(rgb, 30, 80, "crop"), rgb[15:45])
    padded = to_rectangle(rgb, 60, 100, "pad")
    assert np.array_equal(padded[:, 10:90], rgb)
    assert not padded[:, :10].any()
    assert not padded[:, 90:].any()


def test_rectangular_inputs_are_scored() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    found = open_classifier(flattening((1, 2, 4, 3), dtype="uint8", to="float32"), runtime="litert", resize="stretch")
    np.testing.assert_array_equal(found(rgb).reshape(2, 4, 3), to_rectangle(rgb, 2, 4, "stretch"))


def flattening(shape: tuple[int, ...], dtype: str = "float32", to: str = "") -> bytes:
    """A model that gives its input as a vector, as it is or cast to floats."""
    graph = tiny_models.Graph()
    x = image = graph.tensor("image", shape, dtype)
    if to:
        x = graph.add("CAST", [image], "cast", shape)
    flat = [1, int(np.prod(shape))]
    target = graph.constant("flat", np.array(flat, np.int32))
    output = graph.add("RESHAPE", [x, target], "vector", flat, schema.ReshapeOptionsT(newShape=flat))
    graph.tensors[output].type = graph.tensors[x].type
    return packed(graph.model(image, output))
