"""Writes convolutions of one pixel as fully connected layers, which is the same arithmetic under another name.

With weights of 4 bits the name matters. XNNPACK has kernels of 8-bit activations and 4-bit weights for FULLY_CONNECTED
and none for CONV_2D (`VisitFullyConnectedNode` and `VisitConv2DNode` in LiteRT's xnnpack_delegate.cc). LiteRT's own
kernels run that instead. They take several times as long, and do not round alike on all processors: a sum of products
is multiplied by a fraction and shifted to the right to become 8 bits again, and x86 rounds after both, ARM64 (ruy's
kernel_arm64.cc) and XNNPACK once. Steps of 4 bits are 18 times as large as those of 8, so the shift is shorter, and
the first rounding coarser: in some layers every eighth number is one step off. See docs/pages/arm64.md.
"""

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from pipeline.litert.flatbuffer import operator_name, read_model, write_model
from pipeline.litert.operators import new_operator

# That of TensorFlow Lite 2.17, whose converter makes such layers with a scale for each output channel. Older runtimes
# may take the first scale for all, so they shall refuse the model.
_VERSION = 12


def with_fully_connected(content: bytes) -> bytes:
    """Write each convolution of one pixel and stride 1 as FULLY_CONNECTED.

    One with an odd number of input channels stays: XNNPACK takes 4-bit weights by twos.

    Args:
        content: A float32 .tflite file.

    Returns:
        A .tflite file that gives the same.
    """
    model = read_model(content)
    graph = model.subgraphs[0]
    # all are found before the first is changed, as two may share their weights
    for operator in [one for one in graph.operators if _is_pointwise(model, one)]:
        weights = graph.tensors[operator.inputs[1]]
        weights.shape = [int(weights.shape[0]), int(weights.shape[-1])]
        activation = operator.builtinOptions.fusedActivationFunction
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=activation, keepNumDims=True)
        inputs, outputs = (list(map(int, indices)) for indices in (operator.inputs, operator.outputs))
        layer = new_operator(model, "FULLY_CONNECTED", inputs, outputs, options, version=_VERSION)
        graph.operators[graph.operators.index(operator)] = layer
    return write_model(model)


def _is_pointwise(model: Any, operator: Any) -> bool:
    if operator_name(model, operator) != "CONV_2D":
        return False
    picture, weights = (model.subgraphs[0].tensors[index] for index in operator.inputs[:2])
    _, height, width, channels = map(int, weights.shape)
    strides = (operator.builtinOptions.strideH, operator.builtinOptions.strideW)
    is_grouped = channels != int(picture.shape[3])
    return (height, width) == strides == (1, 1) and not is_grouped and channels % 2 == 0
