"""Convolutions of one pixel as fully connected layers, and what weights of 4 bits gain by it."""

import copy
import platform
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.litert.dequantized import stored_integers
from pipeline.litert.flatbuffer import operator_name, read_model, tensor_type_name, write_model
from pipeline.litert.interpreter import Model
from pipeline.litert.layers import bits_of_weights, first_layer
from pipeline.litert.model_file import operators
from pipeline.litert.pointwise import with_fully_connected
from pipeline.litert.quantizer import quantize
from tests.tiny_models import SCHEMES, backbone, backbone_model, pictures


def features(content, images):
    model = Model(content)
    return np.array([model(image) for image in images])


def weights_of(content):
    """Return kind and type of weights of each layer, by what it gives."""
    model = read_model(content)
    tensors = model.subgraphs[0].tensors
    return {
        tensors[one.outputs[0]].name.decode(): (operator_name(model, one), tensor_type_name(tensors[one.inputs[1]]))
        for one in model.subgraphs[0].operators
        if operator_name(model, one) in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    }


def widened(content):
    """Return a model of 4-bit weights with the same integers in a byte each."""
    model = read_model(content)
    for tensor in model.subgraphs[0].tensors:
        if tensor_type_name(tensor) == "INT4":
            integers = stored_integers(np.asarray(model.buffers[tensor.buffer].data, np.uint8), tensor).astype(np.int8)
            model.buffers[tensor.buffer] = schema.BufferT(data=np.frombuffer(integers.tobytes(), np.uint8))
            tensor.type = schema.TensorType.INT8
    return write_model(model)


def test_a_convolution_of_one_pixel_is_a_fully_connected_layer():
    written = with_fully_connected(backbone())
    assert operators(written) == operators(backbone()) - Counter(["CONV_2D"]) + Counter(["FULLY_CONNECTED"])
    images = pictures(5)
    np.testing.assert_allclose(features(written, images), features(backbone(), images), rtol=1e-5)


def test_two_convolutions_that_share_their_weights_are_two_layers():
    model = backbone_model(num_features=8)
    graph = model.subgraphs[0]
    top = next(one for one in reversed(graph.operators) if operator_name(model, one) == "CONV_2D")
    again = copy.deepcopy(top)
    graph.tensors.append(copy.deepcopy(graph.tensors[top.outputs[0]]))
    graph.tensors[-1].name = b"once more"
    again.inputs[0], again.outputs = top.outputs[0], [len(graph.tensors) - 1]
    place = graph.operators.index(top) + 1
    graph.operators[place].inputs[0] = again.outputs[0]
    graph.operators.insert(place, again)
    content = write_model(model)
    written = with_fully_connected(content)
    assert operators(written)["FULLY_CONNECTED"] == 2
    np.testing.assert_allclose(features(written, pictures(3)), features(content, pictures(3)), rtol=1e-5)


def test_a_stride_a_group_and_an_odd_number_of_channels_leave_it_a_convolution():
    def stride(operator, _tensors):
        operator.builtinOptions.strideH = 2

    def group(operator, tensors):
        tensors[operator.inputs[0]].shape[3] *= 2

    def odd(operator, tensors):
        for index in operator.inputs[:2]:
            tensors[index].shape[3] = 7

    for change in (stride, group, odd):
        model = backbone_model()
        top = next(one for one in reversed(model.subgraphs[0].operators) if operator_name(model, one) == "CONV_2D")
        change(top, model.subgraphs[0].tensors)
        content = write_model(model)
        assert operators(with_fully_connected(content)) == operators(content)


def test_4_bits_are_for_fully_connected_layers_and_8_for_the_first_and_depthwise_ones():
    content = quantize(backbone(), SCHEMES["int4"], pictures(8))
    assert weights_of(content) == {
        "stem": ("CONV_2D", "INT8"),
        "depthwise0": ("DEPTHWISE_CONV_2D", "INT8"),
        "top": ("FULLY_CONNECTED", "INT4"),
    }
    model = read_model(content)
    assert {code.version for code in model.operatorCodes if code.builtinCode == 9} == {12}  # older runtimes refuse it


def test_a_scheme_of_more_bits_gives_all_layers_the_same():
    model = read_model(backbone())
    layers = [one for one in model.subgraphs[0].operators if "CONV_2D" in operator_name(model, one)]
    assert first_layer(model) is layers[0]
    assert [bits_of_weights(model, one, 4) for one in layers] == [8, 8, 4]
    assert [bits_of_weights(model, one, 16) for one in layers] == [16, 16, 16]
    assert first_layer(SimpleNamespace(subgraphs=[SimpleNamespace(operators=[])])) is None


def test_xnnpack_computes_4_bits_as_it_computes_8():
    """A convolution of 4-bit weights is none of XNNPACK's: the kernel that runs it gives other features."""
    images = pictures(50, seed=7)
    mended = features(quantize(backbone(num_features=64), SCHEMES["int4"], pictures(60)), images)
    plain = quantize(backbone(num_features=64), replace(SCHEMES["int4"], pointwise="convolution"), pictures(60))
    assert weights_of(plain)["top"] == ("CONV_2D", "INT4")
    np.testing.assert_array_equal(mended, features(widened(plain), images))
    if platform.machine() == "x86_64":  # LiteRT's own kernel rounds as XNNPACK does on ARM64
        assert not np.array_equal(mended, features(plain, images))
