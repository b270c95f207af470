import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.litert.flatbuffer import num_backbone_operators, read_model
from pipeline.litert.head import append_head, features_of
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import embed_labels
from pipeline.litert.model_file import check_builtin, check_scheme, operators
from pipeline.litert.quantizer import quantize
from tests.tiny_models import NUM_FEATURES, SCHEMES, backbone, head, pictures

schemes = pytest.mark.parametrize("scheme", SCHEMES)


@pytest.fixture(scope="module")
def backbones():
    extremes = np.stack([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)])
    calibration = np.concatenate([pictures(60), extremes])
    return {scheme: quantize(backbone(), config, calibration) for scheme, config in SCHEMES.items()}


def softmax(features, weights, bias):
    logits = features.astype(np.float64) @ weights.astype(np.float64) + bias
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()


def num_buffer_bytes(content):
    return sum(0 if buffer.data is None else len(buffer.data) for buffer in read_model(content).buffers)


@schemes
def test_features_inside_are_the_backbones_bit_for_bit(scheme, backbones):
    model = append_head(backbones[scheme], *head())
    run_backbone, run_cut = Model(backbones[scheme]), Model(features_of(model))
    for picture in pictures(10):
        assert np.array_equal(run_cut(picture), run_backbone(picture))


@schemes
def test_probabilities_are_softmax_of_weighted_features(scheme, backbones):
    weights, bias = head(num_labels=5)
    run_backbone, run_model = Model(backbones[scheme]), Model(append_head(backbones[scheme], weights, bias))
    for picture in pictures(10):
        expected = softmax(run_backbone(picture), weights, bias)
        np.testing.assert_allclose(run_model(picture), expected, rtol=0, atol=1e-5)


@schemes
def test_head_is_exempt_from_the_schemes_promise(scheme, backbones):
    model = append_head(backbones[scheme], *head())
    check_builtin(model, scheme)
    check_scheme(model, SCHEMES[scheme], scheme)
    assert num_backbone_operators(read_model(model)) == sum(operators(backbones[scheme]).values())


def test_head_of_another_name_is_not_exempt(backbones):
    model = read_model(append_head(backbones["int8"], *head()))
    model.subgraphs[0].tensors[-1].name = b"scores"
    assert num_backbone_operators(model) == len(model.subgraphs[0].operators)


def test_signature_names_image_and_probabilities():
    model = read_model(append_head(backbone(), *head(num_labels=4)))
    signature, graph = model.signatureDefs[0], model.subgraphs[0]
    assert [entry.name for entry in signature.inputs] == [b"image"]
    assert [(entry.name, entry.tensorIndex) for entry in signature.outputs] == [(b"probabilities", graph.outputs[0])]
    assert list(graph.tensors[graph.outputs[0]].shape) == [1, 4]


def test_equal_arguments_give_equal_bytes():
    assert append_head(backbone(), *head()) == append_head(backbone(), *head())


def test_cut_model_with_labels_is_the_backbone_again():
    labelled = embed_labels(append_head(backbone(), *head()), ["a", "b", "c"], name="n", description="d")
    assert operators(features_of(labelled)) == operators(backbone())
    assert read_model(features_of(labelled)).metadata == []
    assert num_buffer_bytes(features_of(labelled)) == num_buffer_bytes(backbone())


@pytest.mark.parametrize(
    ("weights_shape", "bias_shape"),
    [((NUM_FEATURES + 1, 3), (3,)), ((3, NUM_FEATURES), (3,)), ((NUM_FEATURES, 3), (4,))],
)
def test_shapes_that_do_not_fit(weights_shape, bias_shape):
    with pytest.raises(
        ValueError, match=r"expected \(12, outputs\) and \(outputs,\), as the backbone gives 12 features"
    ):
        append_head(backbone(), np.zeros(weights_shape, np.float32), np.zeros(bias_shape, np.float32))


def test_cutting_a_model_without_head():
    with pytest.raises(ModelError, match=r"last operators are not a head of this pipeline(.|\n)*`dvc repro`"):
        features_of(backbone())
