import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError, ModelError
from pipeline.litert.flatbuffer import read_model, write_model
from pipeline.litert.head import append_head
from pipeline.litert.interpreter import Model
from pipeline.litert.measure import measure
from pipeline.litert.metadata import embed_labels, read_labels
from pipeline.litert.model_file import check_builtin, check_scheme, operators
from pipeline.litert.quantizer import quantize
from tests.conftest import PROJECT
from tests.tiny_models import NUM_FEATURES, PIXELS, SCHEMES, backbone, backbone_model, head, pictures

LABELS = ["ant", "café au lait", "日本"]


def classifier():
    return append_head(backbone(), *head())


def labelled(labels=LABELS):
    return embed_labels(classifier(), labels, name="tiny", description="For tests.")


# Model


def test_model_tells_its_sizes_and_gives_copies():
    model = Model(backbone())
    first = model(pictures(1)[0])
    kept = first.copy()
    model(np.zeros((PIXELS, PIXELS, 3), np.uint8))
    assert (model.input_pixels, model.output_length, first.dtype) == (PIXELS, NUM_FEATURES, np.dtype(np.float32))
    assert np.array_equal(first, kept)


def test_model_computes_normalization_convolutions_and_mean():
    # a flat picture of 127 is 0 after normalization: the stem gives relu6(bias), the same at every place
    model = backbone_model()
    flat = Model(write_model(model))(np.full((PIXELS, PIXELS, 3), 127, np.uint8))
    scale = next(t for t in model.subgraphs[0].tensors if t.name == b"scale")
    model.buffers[scale.buffer].data = np.frombuffer(np.float32(0).tobytes(), np.uint8)
    shift = next(t for t in model.subgraphs[0].tensors if t.name == b"shift")
    model.buffers[shift.buffer].data = np.frombuffer(np.float32(0).tobytes(), np.uint8)
    np.testing.assert_allclose(Model(write_model(model))(pictures(1)[0]), flat, rtol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (backbone(dtype="float32"), r"takes float32 \[1, 16, 16, 3\] and gives float32 \[1, 12\]\n.*expected: uint8"),
        (
            backbone(quantization=schema.QuantizationParametersT(scale=[0.99], zeroPoint=[0])),
            r"takes uint8 \[1, 16, 16, 3\] with scale 0.99 and gives(.|\n)*without quantization",
        ),
        (b"no model at all", r"LiteRT cannot load(.|\n)*`dvc repro`"),
        (backbone(extra_operator=("CUSTOM", b"FlexErf")), r"LiteRT cannot load(.|\n)*built-in operators"),
    ],
)
def test_model_refuses(content, message):
    with pytest.raises(ModelError, match=message):
        Model(content)


def test_model_refuses_a_picture_of_another_size():
    with pytest.raises(ValueError, match="Dimension mismatch"):
        Model(backbone())(np.zeros((PIXELS, PIXELS + 1, 3), np.uint8))


def test_loading_says_nothing_but_passes_on_what_others_say():
    code = (
        "import sys, os; sys.path[:0] = ['tests', '.']; from tiny_models import backbone\n"
        "from pipeline.litert.interpreter import Model, without_delegate_message\n"
        "with without_delegate_message(): os.write(2, b'other\\n')\n"
        "for _ in range(3): Model(backbone())\n"
        "print('last', file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert finished.stderr == "other\nlast\n"


# Files


def test_written_file_has_identifier_and_aligned_buffers():
    content = labelled()
    model = schema.Model.GetRootAs(content)
    begin = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    arrays = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength()) if model.Buffers(i).DataLength()]
    assert content[4:8] == b"TFL3"
    assert {(array.__array_interface__["data"][0] - begin) % 16 for array in arrays} == {0}


def test_reading_and_writing_changes_nothing():
    assert write_model(read_model(backbone())) == backbone()


def test_read_refuses_other_files():
    with pytest.raises(ModelError, match=r"a file that begins with b'PK(.|\n)*bytes 4 to 7 are TFL3"):
        operators(b"PK\3\4 a zip file")


def test_read_refuses_several_graphs():
    model = backbone_model()
    model.subgraphs = model.subgraphs * 2
    with pytest.raises(ModelError, match=r"a model with 2 graphs(.|\n)*with one graph"):
        operators(write_model(model))


def test_operators_are_counted():
    assert operators(backbone()) == {"CAST": 1, "MUL": 1, "ADD": 1, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 1, "MEAN": 1}


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (("CUSTOM", b"FlexErf"), "FlexErf"),
        (("CUSTOM", b"ADD"), "ADD"),
        (("READ_VARIABLE", None), "READ_VARIABLE"),
        (("STABLEHLO_ADD", None), "STABLEHLO_ADD"),
    ],
)
def test_operator_that_phones_lack_is_named(extra, name):
    content = backbone(extra_operator=extra)
    assert operators(content)[name] >= 1
    with pytest.raises(ModelError, match=f"tiny: operator 6 is {name}\n(.|\n)*`from_keras_model`"):
        check_builtin(content, "tiny")


@pytest.mark.parametrize(
    ("made_as", "checked_as", "message"),
    [
        (
            "float32",
            "int8",
            "operator 1, MUL 'mul', has FLOAT32 tensors\n.*integers only, as the scheme int8",
        ),
        ("float32", "dynamic", "operator 3, CONV_2D 'stem', has FLOAT32 weights, .*\n.*INT8 weights, FLOAT32"),
        ("dynamic", "float32", "CONV_2D 'stem', has INT8 weights, FLOAT32 activations"),
        ("int8", "int4", "CONV_2D 'top', has INT8 weights, INT8 activations\n.*INT4 weights, INT8"),
        ("int16", "int8", "INT8 weights, INT16 activations\n.*INT8 weights, INT8 activations, as the scheme int8"),
        ("int8", "float32", "INT8 weights, INT8 activations\n.*FLOAT32 weights, FLOAT32 activations"),
        ("float32", "float16", "FLOAT32 weights, FLOAT32 activations\n.*FLOAT16 weights behind DEQUANTIZE"),
        ("int4_weights", "int4_dynamic", "INT8 weights behind DEQUANTIZE, .*\n.*INT8 weights, FLOAT32"),
        ("dynamic", "int4_dynamic", "CONV_2D 'top', has INT8 weights, .*\n.*INT4 weights"),
    ],
)
def test_broken_promise_is_named(made_as, checked_as, message):
    content = quantize(backbone(), SCHEMES[made_as], pictures(60))
    with pytest.raises(ModelError, match=message):
        check_scheme(content, SCHEMES[checked_as], "tiny")


def test_one_layer_left_in_float_is_found():
    model = read_model(quantize(backbone(), SCHEMES["int8"], pictures(60)))
    next(t for t in model.subgraphs[0].tensors if t.name == b"top/weights").type = schema.TensorType.FLOAT32
    with pytest.raises(ModelError, match="CONV_2D 'top', has FLOAT32 weights, INT8 activations"):
        check_scheme(write_model(model), SCHEMES["int8"], "tiny")


# Metadata


def parsed_metadata(content):
    """Parse with the generated schema inside MediaPipe, without importing MediaPipe."""
    package = importlib.util.find_spec("mediapipe")
    assert package
    assert package.origin
    path = Path(package.origin).with_name("tasks") / "metadata/metadata_schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("metadata_schema", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = read_model(content)
    entry = next(entry for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    data = bytes(model.buffers[entry.buffer].data)
    assert data[4:8] == b"M001"
    return module, module.ModelMetadataT.InitFromObj(module.ModelMetadata.GetRootAs(data))


def test_metadata_says_what_goes_in_and_comes_out():
    module, metadata = parsed_metadata(labelled())
    picture, output = (getattr(metadata.subgraphMetadata[0], f"{end}TensorMetadata")[0] for end in ("input", "output"))
    (file,) = output.associatedFiles
    normalization = picture.processUnits[0].options
    assert (metadata.name, metadata.description, metadata.minParserVersion) == (b"tiny", b"For tests.", b"1.0.0")
    assert picture.content.contentProperties.colorSpace == module.ColorSpaceType.RGB
    assert (list(normalization.mean), list(normalization.std)) == ([0], [1])
    assert (file.name, file.type) == (b"labels.txt", module.AssociatedFileType.TENSOR_AXIS_LABELS)


def test_labelled_model_is_a_zip_and_still_runs():
    content = labelled()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (member,) = archive.infolist()
        text = archive.read("labels.txt").decode()
    assert (member.filename, member.compress_type, member.date_time[0]) == ("labels.txt", zipfile.ZIP_STORED, 1980)
    assert text == "ant\ncafé au lait\n日本\n"
    picture = pictures(1)[0]
    assert np.array_equal(Model(content)(picture), Model(classifier())(picture))
    assert content == labelled()


one_line = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)


@settings(max_examples=30)
@given(st.lists(one_line, min_size=3, max_size=3))
def test_labels_come_back(labels):
    assert read_labels(labelled(labels)) == labels


@pytest.mark.parametrize("label", ["", "two\nlines", "two\r\nlines"])
def test_label_of_no_or_two_lines(label):
    with pytest.raises(InputError, match=r"label '(.|\n)*name of one line(.|\n)*rename its folder"):
        labelled(["a", label, "c"])


def test_too_few_labels():
    with pytest.raises(ValueError, match="2 labels for 3 outputs; expected one each"):
        labelled(["a", "b"])


def test_labels_twice():
    with pytest.raises(ValueError, match="has TFLITE_METADATA already"):
        embed_labels(labelled(), LABELS, name="tiny", description="For tests.")


def test_model_without_labels():
    with pytest.raises(ModelError, match=r"without an embedded labels.txt(.|\n)*`assemble` embeds them"):
        read_labels(classifier())


# Costs


def test_costs_are_ordered_and_memory_holds_the_weights(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(backbone(num_features=500_000))
    measured = measure(path, num_threads=1, num_warmup=1, num_runs=3)
    assert 0 < measured.latency_ms["p50"] <= measured.latency_ms["p90"] <= measured.latency_ms["p99"]
    assert path.stat().st_size < measured.peak_memory_bytes < 100 * path.stat().st_size
    assert measured.num_threads == 1


def test_memory_of_the_caller_is_not_the_models(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(backbone(num_features=500_000))
    alone = measure(path, num_threads=1, num_warmup=0, num_runs=1).peak_memory_bytes
    ballast = np.ones(60_000_000)  # 480 MB
    beside = measure(path, num_threads=1, num_warmup=0, num_runs=1).peak_memory_bytes
    assert ballast[-1] == 1
    assert beside == pytest.approx(alone, rel=0.2)


def test_measuring_ends_by_a_signal(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'CHECK failed: rows > 0' >&2\nkill -s ABRT $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ModelError, match=r"measures .*m.tflite was ended by SIGABRT; .*:\n    CHECK failed: rows > 0"):
        measure(Path("m.tflite"), num_threads=1, num_warmup=0, num_runs=1)


def test_measuring_what_is_no_model(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no model at all")
    with pytest.raises(ModelError, match=r"model.tflite cannot be measured: a model that LiteRT cannot load"):
        measure(path, num_threads=1, num_warmup=0, num_runs=1)
