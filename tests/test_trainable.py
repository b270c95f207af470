"""A model that learns: what it computes, what it keeps, and what it forgets."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from pipeline.errors import ModelError
from pipeline.litert.extractor import backbone_of
from pipeline.litert.flatbuffer import operator_name
from pipeline.litert.head import append_head, features_of
from pipeline.litert.input_type import with_float_input
from pipeline.litert.interpreter import Model
from pipeline.litert.learner import Learner
from pipeline.litert.metadata import embed_labels
from pipeline.litert.quantizer import quantize
from pipeline.litert.trainable import ASLEEP, HeadShape, first_values, with_training
from tests import tiny_models
from tests.test_tflite_file import AS_IT_IS, integers
from tests.tiny_models import NUM_FEATURES, SCHEMES, backbone, head, pictures

SHAPE = HeadShape(NUM_FEATURES, num_labels=3, num_new_labels=2, knows_none=True)
BATCH_SIZE = 8
Floats = np.ndarray


def start(num_outputs: int = 4) -> tuple[Floats, Floats]:
    weights, bias = head(num_outputs)
    return weights, bias


def learner(content: bytes | None = None, shape: HeadShape = SHAPE) -> Learner:
    weights, bias = start(shape.num_labels + shape.knows_none)
    return Learner(with_training(content or backbone(), weights, bias, shape, BATCH_SIZE))


def rows(num: int, seed: int, num_outputs: int = SHAPE.num_outputs) -> tuple[Floats, Floats]:
    draw = np.random.default_rng(seed)
    labels = np.eye(num_outputs, dtype=np.float32)[draw.integers(0, num_outputs, num)]
    return draw.normal(1, 1, (num, NUM_FEATURES)).astype(np.float32), labels


class InNumPy:
    """The same arithmetic in float64: a softmax regression with PyTorch's momentum."""

    def __init__(self) -> None:
        self.weights, self.bias = (one.astype(np.float64) for one in first_values(*start(), SHAPE))
        self.velocity = [np.zeros_like(self.weights), np.zeros_like(self.bias)]

    def step(self, features: Floats, labels: Floats, learning_rate: float, momentum: float) -> float:
        self.bias[(self.bias < -1e8) & (labels.max(0) > 0)] = 0
        logits = features @ self.weights.T + self.bias
        logarithms = logits - logits.max(1, keepdims=True)
        logarithms -= np.log(np.exp(logarithms).sum(1, keepdims=True))
        counts = labels.sum(1, keepdims=True)
        gradient = (np.exp(logarithms) * counts - labels) / counts.sum()
        for index, slope in enumerate((gradient.T @ features, gradient.sum(0))):
            self.velocity[index] = momentum * self.velocity[index] + slope
        self.weights -= learning_rate * self.velocity[0]
        self.bias -= learning_rate * self.velocity[1]
        return float(-(logarithms * labels).sum() / counts.sum())


def test_every_step_is_numpys() -> None:
    """The new label that is taught from the start, the one that wakes later, half rows, and padding are among them."""
    found, expected = learner(), InNumPy()
    for step in range(60):
        features, labels = rows(5 + step % 4, step)
        if step < 20:
            labels[:, 4] = 0  # sleeps until now
            labels[labels.sum(1) == 0, 0] = 1
        else:
            labels[1] = np.eye(6, dtype=np.float32)[4]
        labels[0] /= 2
        loss = found.train(features, labels, 0.05, 0.9)
        assert loss == pytest.approx(expected.step(features, labels, 0.05, 0.9), abs=1e-5)
        saved = found.save()
        np.testing.assert_allclose(saved["weights"], expected.weights, atol=1e-5)
        np.testing.assert_allclose(saved["bias"], expected.bias, atol=1e-5)
        assert (saved["bias"][4] == ASLEEP) == (step < 20)


def test_padding_changes_nothing() -> None:
    short, full = learner(), learner()
    features, labels = rows(5, 1)
    noise = np.concatenate([features, np.full((3, NUM_FEATURES), 7, np.float32)])
    for _ in range(3):
        assert short.train(features, labels, 0.1, 0.9) == full.train(noise, np.pad(labels, ((0, 3), (0, 0))), 0.1, 0.9)
    for name, values in short.save().items():
        np.testing.assert_array_equal(full.save()[name], values)


def test_nothing_but_padding_is_no_step() -> None:
    found = learner()
    before = found.save()
    assert found.train(np.ones((4, NUM_FEATURES), np.float32), np.zeros((4, 6), np.float32), 0.1, 0.9) == 0
    for name, values in found.save().items():
        np.testing.assert_array_equal(values, before[name])


def test_what_was_saved_is_known_again_bit_for_bit() -> None:
    taught = learner()
    for step in range(10):
        taught.train(*rows(8, step), 0.1, 0.9)
    saved = taught.save()
    anew = learner()
    anew.restore(saved)  # before anything else ran
    picture = pictures(1)[0]
    for one, other in zip(taught.infer(picture), anew.infer(picture), strict=True):
        np.testing.assert_array_equal(one, other)
    taught.restore(saved)  # whose momentum is forgotten now, as that of the other
    assert taught.train(*rows(8, 99), 0.1, 0.9) == anew.train(*rows(8, 99), 0.1, 0.9)
    np.testing.assert_array_equal(taught.save()["weights"], anew.save()["weights"])


@pytest.mark.parametrize("first", ["infer", "train", "save", "restore"])
def test_whatever_runs_first_the_first_values_are_there(first: str) -> None:
    found, expected = learner(), dict(zip(("weights", "bias"), first_values(*start(), SHAPE), strict=True))
    runs = {
        "infer": lambda: found.infer(pictures(1)[0]),
        "train": lambda: found.train(np.zeros((1, NUM_FEATURES), np.float32), np.zeros((1, 6), np.float32), 0.1, 0.9),
        "save": found.save,
        "restore": lambda: found.restore(expected),
    }
    runs[first]()
    for name, values in found.save().items():
        np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize("knows_none", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_before_it_learns_it_answers_as_the_shipped_model(scheme: str, knows_none: bool) -> None:
    quantized = quantize(backbone(), SCHEMES[scheme], pictures(8))
    weights, bias = start(3 + knows_none)
    shipped = append_head(quantized, weights, bias, 3)
    shape = HeadShape(NUM_FEATURES, 3, 2, knows_none)
    found = Learner(with_training(features_of(shipped), weights, bias, shape, BATCH_SIZE))
    run_backbone, run_shipped = Model(quantized), Model(shipped)
    for picture in pictures(5, seed=3):
        features, probabilities = found.infer(picture)
        np.testing.assert_array_equal(features, run_backbone(picture))
        np.testing.assert_allclose(probabilities[:3], run_shipped(picture), atol=1e-6)
        assert probabilities[3:].tolist() == [0, 0]  # asleep


def test_a_file_that_came_quantized_learns_as_it_is() -> None:
    own = backbone_of(integers(scale=1), AS_IT_IS, "theirs")
    num_features = Model(own).output_length
    weights, bias = tiny_models.head(3, num_features)
    found = Learner(with_training(own, weights, bias, HeadShape(num_features, 3, 1, knows_none=False), BATCH_SIZE))
    for picture in pictures(3):
        features, probabilities = found.infer(picture)
        np.testing.assert_array_equal(features, Model(own)(picture))
        np.testing.assert_allclose(probabilities[:3], Model(append_head(own, weights, bias))(picture), atol=1e-6)


def test_a_model_that_takes_floats_learns_too() -> None:
    shipped = embed_labels(append_head(backbone(), *start(), 3), list("abc"), name="n", description="d")
    found = Learner(with_training(features_of(with_float_input(shipped)), *start(), SHAPE, BATCH_SIZE))
    picture = pictures(1)[0]
    np.testing.assert_array_equal(found.infer(picture)[0], Model(backbone())(picture))


def test_equal_arguments_give_equal_bytes() -> None:
    one, other = (with_training(backbone(), *start(), SHAPE, BATCH_SIZE) for _ in range(2))
    assert one == other
    assert one != with_training(backbone(), *start(), SHAPE, BATCH_SIZE + 1)


def test_operators_are_built_in_and_variables_are_called_first() -> None:
    content = with_training(backbone(), *start(), SHAPE, BATCH_SIZE)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    for code in model.operatorCodes:
        assert code.builtinCode != schema.BuiltinOperator.CUSTOM
        assert code.deprecatedBuiltinCode == min(code.builtinCode, 127)
    used = {signature.signatureKey.decode(): signature.subgraphIndex for signature in model.signatureDefs}
    assert list(used) == ["infer", "train", "save", "restore"]
    for graph in used.values():
        assert operator_name(model, model.subgraphs[graph].operators[0]) == "CALL_ONCE"


def test_shapes_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match=r"weights \(12, 3\).*expected weights \(12, 4\)"):
        with_training(backbone(), *start(3), SHAPE, BATCH_SIZE)


def test_a_model_that_does_not_learn_is_told() -> None:
    with pytest.raises(ModelError, match=r"a model with the signatures serving_default(.|\n)*viewfinder trainable"):
        Learner(append_head(backbone(), *start(3)))
