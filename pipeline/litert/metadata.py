"""Embeds labels and a threshold in a .tflite file, where MediaPipe Tasks on Android, iOS, Python and the web looks.

The format is TensorFlow Lite metadata: a flatbuffer in the model's buffer `TFLITE_METADATA` says which file names the
classes, and that file follows the model as an uncompressed zip. The numbers of fields and enumerations below are those
of the public schema metadata_schema.fbs, version 1.5.0. MediaPipe's own writer is not used: it needs TensorFlow and
system libraries for graphics.
"""

import contextlib
import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types
from flatbuffers.table import Table

from pipeline.errors import InputError, ModelError
from pipeline.litert.flatbuffer import METADATA_NAME, PROBABILITIES_NAME, read_model, write_model

LABELS_FILE = "labels.txt"

_FILE_IDENTIFIER = b"M001"
_MIN_PARSER_VERSION = "1.0.0"  # all fields used here are as old as the format
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the format's earliest, so that equal labels give equal bytes
_UNIX = 3  # in a zip's "made by", which says how to read the permissions
_LABELS_OF_AXIS = 2  # AssociatedFileType.TENSOR_AXIS_LABELS
_RGB = 1  # ColorSpaceType.RGB
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2  # ContentProperties
_NORMALIZATION_OPTIONS, _THRESHOLDING_OPTIONS = 1, 3  # ProcessUnitOptions
_INPUT_TENSORS, _OUTPUT_TENSORS = 2, 3  # fields of SubGraphMetadata
_OF_DAMAGED_METADATA = (struct.error, IndexError, TypeError, AttributeError)


@dataclass(frozen=True)
class Output:
    """What one output of a classifier says: the answer of one head.

    Attributes:
        name: Of the head; MediaPipe Tasks calls it `head_name`.
        labels: Names of the classes, in the order of the output.
        threshold: Score below which MediaPipe Tasks leaves a class out of its answer, unless the app sets another;
            None for none.
    """

    name: str
    labels: tuple[str, ...]
    threshold: float | None = None


FIRST_OUTPUT = PROBABILITIES_NAME.decode()  # the name of the first head, which asks what the takes' folders say


def labels_file_of(name: str) -> str:
    """Return the name of the file with the labels of an output."""
    return LABELS_FILE if name == FIRST_OUTPUT else f"labels_{name}.txt"


def embed_labels(
    content: bytes, labels: Sequence[str], *, name: str, description: str, threshold: float | None = None
) -> bytes:
    """Add labels and a description to a classifier with one output, and a threshold if it has one.

    See `embed_outputs`, which does it for several outputs.
    """
    output = Output(FIRST_OUTPUT, tuple(labels), threshold)
    return embed_outputs(content, [output], name=name, description=description)


def embed_outputs(content: bytes, outputs: Sequence[Output], *, name: str, description: str) -> bytes:
    """Add labels, thresholds and a description to a classifier.

    Args:
        content: A .tflite file with one picture as input and outputs [1, num_labels].
        outputs: What each says, in the order of the graph's outputs.
        name: What the model is called.
        description: What the model is for.

    Returns:
        A .tflite file that is also a zip archive; equal arguments give equal bytes.

    Raises:
        InputError: If a label is empty or has more than one line.
        ModelError: If the file is no TensorFlow Lite model.
        ValueError: If there are more or fewer labels than numbers in an output, or the file has metadata already.
    """
    model = read_model(content)
    graph = model.subgraphs[0]
    for output, tensor in zip(outputs, graph.outputs, strict=True):
        _check(output.labels, int(graph.tensors[tensor].shape[-1]))
    if any(entry.name == METADATA_NAME for entry in model.metadata or []):
        raise ValueError("the model has TFLITE_METADATA already; expected one without")
    model.buffers.append(schema.BufferT(data=np.frombuffer(_metadata(name, description, outputs), np.uint8)))
    model.metadata = [*(model.metadata or []), schema.MetadataT(name=METADATA_NAME, buffer=len(model.buffers) - 1)]
    return with_labels(write_model(model), outputs)


def with_labels(content: bytes, outputs: Sequence[Output]) -> bytes:
    """Append the labels of each output to a model whose metadata name the files."""
    for output in outputs:
        content = with_file(
            content, labels_file_of(output.name), "".join(f"{label}\n" for label in output.labels).encode()
        )
    return content


def read_outputs(content: bytes) -> list[Output]:
    """Return what each output of a .tflite file says, as its metadata have it.

    Args:
        content: A .tflite file that `embed_labels` or `embed_outputs` made.

    Raises:
        ModelError: If it has no labels.
    """
    names = [FIRST_OUTPUT]
    with contextlib.suppress(*_OF_DAMAGED_METADATA):
        described = [_text(output, 0) for output in _described(content, _OUTPUT_TENSORS)]
        names = described if len(described) > 1 else names
    return [
        Output(name, tuple(read_labels(content, name)), read_threshold(content, number))
        for number, name in enumerate(names)
    ]


def read_labels(content: bytes, output: str = FIRST_OUTPUT) -> list[str]:
    """Return the labels of an output of a .tflite file.

    Raises:
        ModelError: If it has none.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(labels_file_of(output)).decode().splitlines()
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(
            found=f"a model without an embedded {labels_file_of(output)}",
            expected="a classifier with labels as TensorFlow Lite metadata",
            remedy="run `dvc repro`: the stage `assemble` embeds them",
        ) from error


def read_threshold(content: bytes, output: int = 0) -> float | None:
    """Return the score below which a model names nothing, as MediaPipe Tasks reads it from the metadata of its output.

    Args:
        content: Any .tflite file.
        output: Number of the output.

    Returns:
        The threshold; None if there is none, or no metadata that can be read.
    """
    with contextlib.suppress(*_OF_DAMAGED_METADATA):
        options = _process_unit(content, _OUTPUT_TENSORS, _THRESHOLDING_OPTIONS, output)
        if options is not None:
            place = options.Offset(_slot(0))
            return float(options.Get(number_types.Float32Flags, place + options.Pos)) if place else 0.0
    return None


def read_normalization(content: bytes) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and the standard deviation of a model's pixels 0..255, as MediaPipe Tasks reads them.

    Args:
        content: Any .tflite file.

    Returns:
        One or three numbers each; None if there are none that can be used, or no metadata that can be read.
    """
    with contextlib.suppress(*_OF_DAMAGED_METADATA):
        options = _process_unit(content, _INPUT_TENSORS, _NORMALIZATION_OPTIONS)
        if options is not None:
            mean, std = _floats(options, 0), _floats(options, 1)
            if {len(mean), len(std)} <= {1, 3} and all(std):
                return mean, std
    return None


def _process_unit(content: bytes, tensors: int, kind: int, number: int = 0) -> Table | None:
    """Return the options of that kind of an input or output, if the metadata have them."""
    for unit in (unit for one in _described(content, tensors)[number : number + 1] for unit in _tables(one, 4)):
        place, options = unit.Offset(_slot(0)), unit.Offset(_slot(1))
        if place and options and unit.Get(number_types.Uint8Flags, place + unit.Pos) == kind:
            return Table(unit.Bytes, unit.Indirect(options + unit.Pos))
    return None


def _described(content: bytes, tensors: int) -> list[Any]:
    """Return the TensorMetadata of a model's inputs or outputs; none if it has no metadata."""
    model = schema.Model.GetRootAs(content)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    for entry in (entry for entry in entries if entry.Name() == METADATA_NAME):
        metadata = bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
        (root,) = struct.unpack_from("<I", metadata)
        graphs = _tables(Table(metadata, root), 3)
        if graphs:
            return _tables(graphs[0], tensors)
    return []


def _text(parent: Table, number: int) -> str:
    """Return a text that a table's field of that number holds; empty if it holds none."""
    place = parent.Offset(_slot(number))
    return parent.String(place + parent.Pos).decode() if place else ""


def _floats(parent: Table, number: int) -> tuple[float, ...]:
    """Return a vector of numbers that a table's field of that number holds."""
    place = parent.Offset(_slot(number))
    if not place:
        return ()
    start, length = parent.Vector(place), parent.VectorLen(place)
    return tuple(float(parent.Get(number_types.Float32Flags, start + 4 * index)) for index in range(length))


def _tables(parent: Any, number: int) -> list[Any]:
    """Return the tables of a vector that a table's field of that number holds."""
    place = parent.Offset(_slot(number))
    if not place:
        return []
    start, length = parent.Vector(place), parent.VectorLen(place)
    return [Table(parent.Bytes, parent.Indirect(start + 4 * index)) for index in range(length)]


def _slot(number: int) -> int:
    """Return where a table's field of that number stands in its vtable."""
    return 4 + 2 * number


def _check(labels: Sequence[str], num_outputs: int) -> None:
    for label in labels:
        if label.splitlines() != [label]:
            raise InputError(
                found=f"label {label!r}",
                expected="a name of one line, with at least one letter",
                remedy="rename its folder in data/videos/ or data/photos/",
            )
    if len(labels) != num_outputs:
        raise ValueError(f"{len(labels)} labels for {num_outputs} outputs; expected one each")


def with_file(content: bytes, name: str, file_content: bytes) -> bytes:
    """Append a file to a model, as a zip archive whose offsets count from the begin of the whole file."""
    stream = io.BytesIO(content)
    member = zipfile.ZipInfo(name, _ZIP_DATE)
    member.compress_type = zipfile.ZIP_STORED  # as the format demands
    member.create_system = _UNIX
    member.external_attr = 0o644 << 16
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(member, file_content)
    return stream.getvalue()


def _metadata(name: str, description: str, outputs: Sequence[Output]) -> bytes:
    """Return the ModelMetadata flatbuffer of a picture classifier."""
    builder = flatbuffers.Builder(1024)
    tensors = {
        2: _vector(builder, [_input(builder)]),
        3: _vector(builder, [_output(builder, output) for output in outputs]),
    }
    graph = _table(builder, 4, tensors)  # SubGraphMetadata: name, description, input_tensor_, output_tensor_metadata
    strings = {0: name, 1: description, 7: _MIN_PARSER_VERSION}
    fields = {slot: builder.CreateString(text) for slot, text in strings.items()}
    # ModelMetadata: name, description, version, subgraph_metadata, author, license, associated_files,
    # min_parser_version
    root = _table(builder, 8, fields | {3: _vector(builder, [graph])})
    builder.Finish(root, file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


def _input(builder: Any) -> int:
    """Describe a picture whose bytes go into the model as they are: (pixel - 0) / 1."""
    mean, std = (builder.CreateNumpyVector(np.array([value], np.float32)) for value in (0, 1))
    options = _table(builder, 2, {0: mean, 1: std})  # NormalizationOptions: mean, std
    unit = _table(builder, 2, {1: options}, {0: _NORMALIZATION_OPTIONS})  # ProcessUnit: options
    image = _table(builder, 2, {}, {0: _RGB})  # ImageProperties: color_space, default_size
    content = _content(builder, image, _IMAGE_PROPERTIES)
    return _tensor(builder, "image", "RGB picture, 0..255", {3: content, 4: _vector(builder, [unit])})


def _output(builder: Any, output: Output) -> int:
    """Describe probabilities that a file of labels names, and below which of them nothing is named."""
    file_name = labels_file_of(output.name)
    strings = {0: builder.CreateString(file_name), 1: builder.CreateString("Names of the classes, one a line.")}
    file = _table(builder, 5, strings, {2: _LABELS_OF_AXIS})  # AssociatedFile: name, description, type, locale, version
    content = _content(builder, _table(builder, 0, {}), _FEATURE_PROPERTIES)
    fields = {3: content, 6: _vector(builder, [file])}
    if output.threshold is not None:
        builder.StartObject(1)  # ScoreThresholdingOptions: global_score_threshold
        builder.PrependFloat32Slot(0, output.threshold, 0.0)
        options = builder.EndObject()
        unit = _table(builder, 2, {1: options}, {0: _THRESHOLDING_OPTIONS})  # ProcessUnit: options
        fields[4] = _vector(builder, [unit])
    return _tensor(builder, output.name, "Probability of each class", fields)


def _tensor(builder: Any, name: str, description: str, fields: Mapping[int, int]) -> int:
    """Write TensorMetadata: name, description, dimension_names, content, process_units, stats, associated_files."""
    strings = {0: builder.CreateString(name), 1: builder.CreateString(description)}
    return _table(builder, 7, strings | dict(fields))


def _content(builder: Any, properties: int, kind: int) -> int:
    """Write Content: content_properties (a union, so its type comes first), range."""
    return _table(builder, 3, {1: properties}, {0: kind})


def _table(builder: Any, num_slots: int, offsets: Mapping[int, int], numbers: Mapping[int, int] | None = None) -> int:
    """Write a table whose fields are offsets of things written before, or one-byte numbers."""
    builder.StartObject(num_slots)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, number_types.UOffsetTFlags.py_type(offset), 0)
    for slot, number in (numbers or {}).items():
        builder.PrependUint8Slot(slot, number, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(number_types.UOffsetTFlags.bytewidth, len(offsets), number_types.UOffsetTFlags.bytewidth)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
