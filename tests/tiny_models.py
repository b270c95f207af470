"""Tiny .tflite models, put together with LiteRT's schema alone, so that tests need no TensorFlow."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.config.quantization import QuantizationConfig
from pipeline.litert.flatbuffer import write_model

PIXELS = 16
NUM_FEATURES = 12


MIN_MAX = "min_max_uniform_quantize"
SCHEMES = {
    "float32": QuantizationConfig("float32", "none", 32, "float", 32, "no_quantize"),
    "float16": QuantizationConfig("float16", "weight_only", 16, "float", 32, "float_casting"),
    "int8": QuantizationConfig("int8", "static", 8, "int", 8, MIN_MAX),
    "int16": QuantizationConfig("int16", "static", 8, "int", 16, MIN_MAX),
    "int4": QuantizationConfig("int4", "static", 4, "int", 8, MIN_MAX, pointwise="fully_connected"),
    "dynamic": QuantizationConfig("dynamic", "dynamic", 8, "int", 32, MIN_MAX),
    "int4_dynamic": QuantizationConfig("int4_dynamic", "dynamic", 4, "int", 32, MIN_MAX),
    "int4_weights": QuantizationConfig("int4_weights", "weight_only", 4, "int", 32, MIN_MAX),
}


class Graph:
    """Collects tensors and operators; every method returns the index of a tensor."""

    def __init__(self):
        self.tensors, self.operators, self.codes, self.buffers = [], [], [], [schema.BufferT()]

    def tensor(self, name, shape, dtype="float32", buffer=0, quantization=None):
        kind = getattr(schema.TensorType, np.dtype(dtype).name.upper())
        self.tensors.append(
            schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name.encode(), quantization=quantization)
        )
        return len(self.tensors) - 1

    def constant(self, name, array):
        self.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
        return self.tensor(name, array.shape, array.dtype, len(self.buffers) - 1)

    def add(self, kind, inputs, name, shape, options=None, custom_name=None):
        number = getattr(schema.BuiltinOperator, kind)
        code = schema.OperatorCodeT(
            deprecatedBuiltinCode=min(number, 127), builtinCode=number, version=1, customCode=custom_name
        )
        self.codes.append(code)
        output = self.tensor(name, shape)
        options_type = (
            0 if options is None else getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        )
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=len(self.codes) - 1,
                inputs=inputs,
                outputs=[output],
                builtinOptionsType=options_type,
                builtinOptions=options,
            )
        )
        return output

    def model(self, image, output):
        graph = schema.SubGraphT(
            tensors=self.tensors, inputs=[image], outputs=[output], operators=self.operators, name=b"main"
        )
        signature = schema.SignatureDefT(
            inputs=[schema.TensorMapT(name=b"image", tensorIndex=image)],
            outputs=[schema.TensorMapT(name=b"features", tensorIndex=output)],
            signatureKey=b"serving_default",
        )
        return schema.ModelT(
            version=3,
            operatorCodes=self.codes,
            subgraphs=[graph],
            buffers=self.buffers,
            signatureDefs=[signature],
        )


def backbone_model(dtype="uint8", extra_operator=None, quantization=None, num_features=NUM_FEATURES, depth=1):
    """A backbone as an object: normalization, three convolutions, mean; random but fixed weights."""
    draw = np.random.default_rng(0)
    graph = Graph()
    image = graph.tensor("image", (1, PIXELS, PIXELS, 3), dtype, quantization=quantization)
    shape = (1, PIXELS, PIXELS, 3)
    x = graph.add("CAST", [image], "cast", shape) if dtype != "float32" else image
    x = graph.add("MUL", [x, graph.constant("scale", np.float32(1 / 128))], "mul", shape, schema.MulOptionsT())
    x = graph.add("ADD", [x, graph.constant("shift", np.float32(-127 / 128))], "add", shape, schema.AddOptionsT())
    x = _convolution(graph, draw, x, "stem", PIXELS // 2, 3, 8, kernel=3, stride=2)
    for layer in range(depth):
        x = _depthwise(graph, draw, x, f"depthwise{layer}", PIXELS // 2, 8)
    x = _convolution(graph, draw, x, "top", PIXELS // 2, 8, num_features, kernel=1, stride=1)
    if extra_operator:
        kind, custom_name = extra_operator
        x = graph.add(kind, [x], "extra", (1, PIXELS // 2, PIXELS // 2, num_features), custom_name=custom_name)
    axes = graph.constant("axes", np.array([1, 2], np.int32))
    x = graph.add("MEAN", [x, axes], "mean", (1, num_features), schema.ReducerOptionsT(keepDims=False))
    return graph.model(image, x)


def backbone(**changes):
    """The same as a .tflite file: uint8 [1, 16, 16, 3] in, float32 [1, 12] out."""
    return write_model(backbone_model(**changes))


def pixel_model(pixels):
    """A classifier whose "probabilities" are the pixels it was given / 255, float32 [1, pixels * pixels * 3]."""
    graph, shape = Graph(), (1, pixels, pixels, 3)
    image = graph.tensor("image", shape, "uint8")
    x = graph.add("CAST", [image], "cast", shape)
    x = graph.add("MUL", [x, graph.constant("scale", np.float32(1 / 255))], "mul", shape, schema.MulOptionsT())
    flat = [1, pixels * pixels * 3]
    target = graph.constant("flat", np.array(flat, np.int32))
    x = graph.add("RESHAPE", [x, target], "probabilities", flat, schema.ReshapeOptionsT(newShape=flat))
    return write_model(graph.model(image, x))


def head(num_labels=3, num_features=NUM_FEATURES, depth=1):
    """Weights float32 [num_features, num_labels] and bias float32 [num_labels]."""
    draw = np.random.default_rng(1)
    weights = draw.normal(0, 2, (num_features, num_labels)).astype(np.float32)
    return weights, draw.normal(0, 1, num_labels).astype(np.float32)


def pictures(num: int, seed: int = 2, pixels: int = PIXELS) -> np.ndarray:
    """Blocky noise, uint8 [num, pixels, pixels, 3]."""
    blocks = np.random.default_rng(seed).integers(0, 256, (num, pixels // 4, pixels // 4, 3), dtype=np.uint8)
    return blocks.repeat(4, 1).repeat(4, 2)


def _convolution(graph, draw, x, name, out_pixels, in_channels, out_channels, *, kernel, stride):
    weights = draw.normal(0, 1 / np.sqrt(kernel * kernel * in_channels), (out_channels, kernel, kernel, in_channels))
    options = schema.Conv2DOptionsT(
        strideW=stride, strideH=stride, fusedActivationFunction=3
    )  # RELU6; padding 0 is SAME
    inputs = [x, *_weights_and_bias(graph, draw, name, weights, out_channels)]
    return graph.add("CONV_2D", inputs, name, (1, out_pixels, out_pixels, out_channels), options)


def _depthwise(graph, draw, x, name, pixels, channels):
    weights = draw.normal(0, 1 / 3, (1, 3, 3, channels))
    options = schema.DepthwiseConv2DOptionsT(strideW=1, strideH=1, depthMultiplier=1, fusedActivationFunction=3)
    inputs = [x, *_weights_and_bias(graph, draw, name, weights, channels)]
    return graph.add("DEPTHWISE_CONV_2D", inputs, name, (1, pixels, pixels, channels), options)


def _weights_and_bias(graph, draw, name, weights, num_channels):
    bias = draw.normal(0.3, 0.1, num_channels).astype(np.float32)
    return graph.constant(f"{name}/weights", weights.astype(np.float32)), graph.constant(f"{name}/bias", bias)
