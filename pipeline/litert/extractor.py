"""Makes a backbone of somebody else's .tflite file, every operator of which stays as it is.

Around them come those that turn a picture, uint8 0..255, into the numbers that the file takes, and what it gives into
one float32 vector.
"""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.config.backbone import BackboneConfig
from pipeline.errors import ModelError
from pipeline.litert.flatbuffer import METADATA_NAME, read_model, tensor_type_name, write_model
from pipeline.litert.metadata import read_normalization
from pipeline.litert.model_file import check_builtin, has_scale
from pipeline.litert.operators import add_operator, add_reshape, add_tensor, new_operator
from pipeline.litert.unused import drop_unused

_SIGNATURE, _INPUT, _OUTPUT = b"serving_default", b"image", b"features"
_LIMITS = {"UINT8": (0, 255), "INT8": (-128, 127)}  # of the numbers that a quantized picture is made of
_QUANTIZED = ("INT8", "UINT8", "INT16")
_MIN_LEVELS = 64  # of the 256 of a pixel; a file that would see fewer was meant for other numbers
_NUM_TENSORS_TOLD = 12


def backbone_of(content: bytes, config: BackboneConfig, name: str) -> bytes:
    """Put a feature extractor behind a picture and before a vector.

    An integer input takes (pixel - mean) / std by its own scale and zero point. Where that is within one step of the
    pixel itself (or of pixel - 128, for int8), it is the pixel itself, bit for bit.

    Args:
        content: A .tflite file.
        config: `input_pixels`, `mean`, `std`, `channels`, and in `features` the tensor with the features; empty for
            the file's only output.
        name: What to call the file in messages.

    Returns:
        A .tflite file from uint8 [1, input_pixels, input_pixels, 3], RGB 0..255, to float32 [1, num_features]. Feature
        maps are averaged over the picture.

    Raises:
        ModelError: If the file is no TensorFlow Lite model of one graph and built-in operators, takes no such picture,
            or gives no such features; the tensors that it has are named.
    """
    try:
        model = read_model(content)
    except ModelError as error:
        raise _unfit(name, f"is {error.found}", error.expected, "convert the feature extractor again") from error
    check_builtin(content, name)
    features = _features(model, config.features, name)
    _refuse_other_normalization(content, model, config, name)
    model.signatureDefs = []
    model.metadata = [entry for entry in model.metadata or [] if entry.name != METADATA_NAME]  # tells of the old ends
    model.subgraphs[0].outputs = [_as_vector(model, features, name)]
    _put_picture_before(model, config, name)
    graph = model.subgraphs[0]
    _name(graph)
    model.signatureDefs = [
        schema.SignatureDefT(
            inputs=[schema.TensorMapT(name=_INPUT, tensorIndex=graph.inputs[0])],
            outputs=[schema.TensorMapT(name=_OUTPUT, tensorIndex=graph.outputs[0])],
            signatureKey=_SIGNATURE,
        )
    ]
    return write_model(model)


def _features(model: Any, wanted: str, name: str) -> int:
    """Return the index of the tensor that holds the features."""
    graph = model.subgraphs[0]
    made = [int(index) for operator in graph.operators for index in operator.outputs]
    if wanted:
        found = [index for index in made if graph.tensors[index].name.decode() == wanted]
        if len(found) == 1:
            return found[0]
        reason = f"has {len(found) or 'no'} tensors called {wanted!r} (features, in the backbone's file)"
    elif len(graph.outputs) == 1:
        return int(graph.outputs[0])
    else:
        reason = f"gives {len(graph.outputs)} outputs"
    listed = "".join(f"\n    {_described(graph.tensors[index])}" for index in made[-_NUM_TENSORS_TOLD:])
    raise _unfit(name, reason, f"one of its tensors, the last of which are{listed}", "write features: with its name")


def _as_vector(model: Any, features: int, name: str) -> int:
    """Let float32 [1, num_features] come of the features, and return the index of the tensor."""
    tensor = model.subgraphs[0].tensors[features]
    shape, kind = [int(size) for size in tensor.shape], tensor_type_name(tensor)
    is_vector = bool(shape) and int(np.prod(shape)) == shape[-1]
    is_map = len(shape) == 4 and shape[0] == 1
    is_number = kind == "FLOAT32" or (kind in _QUANTIZED and has_scale(tensor))
    if not is_number or not (is_vector or is_map):
        expected = "float32 or quantized features: a vector [1, n] or maps [1, height, width, n]"
        raise _unfit(name, f"gives {_described(tensor)}", expected, "name the tensor with them: features: <tensor>")
    if kind != "FLOAT32":
        floats = add_tensor(model, b"features_as_float", shape)
        add_operator(model, "DEQUANTIZE", [features], floats, schema.DequantizeOptionsT())
        features = floats
    row = [1, shape[-1]]
    if shape == row:
        return features
    vector = add_tensor(model, _OUTPUT, row)
    if is_vector:
        add_reshape(model, features, vector, row, b"features_shape")
    else:
        axes = add_tensor(model, b"features_axes", [2], np.array([1, 2], np.int32))
        add_operator(model, "MEAN", [features, axes], vector, schema.ReducerOptionsT(keepDims=False))
    return vector


def _put_picture_before(model: Any, config: BackboneConfig, name: str) -> None:
    """Let the graph begin with a uint8 picture, and turn it into what the file takes."""
    graph, pixels = model.subgraphs[0], config.input_pixels
    tensor = graph.tensors[graph.inputs[0]] if len(graph.inputs) == 1 else None
    shape = [1, pixels, pixels, 3]
    if tensor is None or [int(size) for size in tensor.shape] != shape:
        found = " and ".join(_described(graph.tensors[index]) for index in graph.inputs)
        raise _unfit(name, f"takes {found}", f"one picture {shape}", "write its side in pixels as input_pixels")
    chain = _Chain(model, shape)
    if config.channels == "bgr":
        axis = add_tensor(model, b"channel_axis", [1], np.array([3], np.int32))
        chain.add("REVERSE_V2", [axis], schema.ReverseV2OptionsT(), dtype="uint8")
    kind = tensor_type_name(tensor)
    if kind == "UINT8" and not has_scale(tensor):
        if (config.mean, config.std) != ([0.0], [1.0]):
            found = f"takes bytes as they are, and the backbone's file says mean: {config.mean}, std: {config.std}"
            raise _unfit(name, found, "mean: [0.0], std: [1.0]", "write these")
    elif kind == "FLOAT32":
        chain.normalize(*_ordered(config))
    elif kind in _LIMITS and has_scale(tensor):
        chain.normalize(*_of_integers(tensor, config, name))
        chain.add("QUANTIZE", [], schema.QuantizeOptionsT())
    else:
        raise _unfit(name, f"takes {_described(tensor)}", "float32, or quantized int8 or uint8", "convert it otherwise")
    chain.close()


class _Chain:
    """Operators from the picture to a graph's input, which its last one becomes."""

    def __init__(self, model: Any, shape: list[int]) -> None:
        self._model, self._shape, self._operators = model, shape, list[Any]()
        self._start = self._end = add_tensor(model, _INPUT, shape, dtype="uint8")

    def add(self, kind: str, constants: list[int], options: Any, *, dtype: str = "float32") -> None:
        """Add an operator; what it makes of the picture so far is of this type."""
        result = add_tensor(self._model, f"picture_{kind.lower()}".encode(), self._shape, dtype=dtype)
        self._operators.append(new_operator(self._model, kind, [self._end, *constants], result, options))
        self._end = result

    def normalize(self, mean: list[float], std: list[float]) -> None:
        """Add (pixel - mean) / std, in float32."""
        self.add("CAST", [], schema.CastOptionsT())
        if any(mean):
            self.add("ADD", [self._constant(b"minus_mean", [-value for value in mean])], schema.AddOptionsT())
        if set(std) != {1.0}:
            self.add("MUL", [self._constant(b"one_by_std", [1 / value for value in std])], schema.MulOptionsT())

    def close(self) -> None:
        """Put the operators before all others."""
        graph = self._model.subgraphs[0]
        old = int(graph.inputs[0])
        if self._operators:
            self._operators[-1].outputs = [old]
            graph.operators[:0] = self._operators
            graph.inputs = [self._start]
        drop_unused(self._model)

    def _constant(self, name: bytes, values: list[float]) -> int:
        return add_tensor(self._model, name, [len(values)], np.array(values, np.float32))


def _name(graph: Any) -> None:
    """Call both ends what every backbone calls them, and no two tensors alike: the quantizer knows them by name."""
    ends = {int(graph.inputs[0]): _INPUT, int(graph.outputs[0]): _OUTPUT}
    taken = set(ends.values())
    for index, tensor in enumerate(graph.tensors):
        name = tensor.name or b""
        if index in ends:
            name = ends[index]
        elif name in taken:
            name += b"_%d" % index
        tensor.name = name
        taken.add(name)


def _ordered(config: BackboneConfig) -> tuple[list[float], list[float]]:
    """Return mean and std in the order of the file's channels."""
    step = -1 if config.channels == "bgr" else 1
    return list(config.mean)[::step], list(config.std)[::step]


def _of_integers(tensor: Any, config: BackboneConfig, name: str) -> tuple[list[float], list[float]]:
    """Return mean and std of what a quantized picture stands for, so that whole pixels stay whole if they can."""
    scale, zero = float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])
    low, high = _LIMITS[tensor_type_name(tensor)]
    pixels = np.arange(256)[:, np.newaxis]
    steps = (pixels - np.array(config.mean)) / np.array(config.std) / scale + zero
    as_it_is = [float(zero - low)], [1 / scale]  # the pixel itself; for int8, less 128
    if np.abs(steps - (pixels + low)).max() <= 1:
        return as_it_is
    num_levels = len(np.unique(np.clip(steps.round(), low, high)[:, 0]))
    if steps.min() < low - 1 or steps.max() > high + 1 or num_levels < _MIN_LEVELS:
        found = f"cannot hold pixels of mean {config.mean}, std {config.std}: it takes {_described(tensor)}"
        numbers = [[float(f"{value:.6g}") for value in values] for values in as_it_is]
        expected = f"for pixels as they are, mean: {numbers[0]}, std: {numbers[1]}"
        raise _unfit(name, found, expected, "write these, or what the file was trained with, in the backbone's file")
    return _ordered(config)


def _refuse_other_normalization(content: bytes, model: Any, config: BackboneConfig, name: str) -> None:
    """Refuse a mean and a std that are not those in the metadata of a file that takes floats, for MediaPipe obeys."""
    graph = model.subgraphs[0]
    if any(tensor_type_name(graph.tensors[index]) != "FLOAT32" for index in graph.inputs):
        return
    told = read_normalization(content)
    said = config.mean, config.std
    if told and not all(np.allclose(np.array(one), np.array(other)) for one, other in zip(told, said, strict=True)):
        found = f"says in its metadata mean {list(told[0])}, std {list(told[1])}; the backbone's file says"
        expected = f"mean: {list(told[0])}, std: {list(told[1])}"
        raise _unfit(name, f"{found} {config.mean}, {config.std}", expected, "write these in the backbone's file")


def _described(tensor: Any) -> str:
    """Return a tensor's name, type and shape, and its scale if it has one."""
    shape = [int(size) for size in ([] if tensor.shape is None else tensor.shape)]
    told = f"{tensor.name.decode()} {tensor_type_name(tensor).lower()} {shape}"
    if not has_scale(tensor):
        return told
    return f"{told}, scale {tensor.quantization.scale[0]:.6g}, zero point {tensor.quantization.zeroPoint[0]}"


def _unfit(name: str, found: str, expected: str, remedy: str) -> ModelError:
    return ModelError(found=f"{name} {found}", expected=expected, remedy=remedy)
