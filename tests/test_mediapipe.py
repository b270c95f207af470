"""The truth from outside: the C++ graph that Android and iOS apps run."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.evaluate import LITERT, MEDIAPIPE, REFERENCE, EvaluateStage
from pipeline.errors import ConfigurationError, MissingPackageError, ModelError
from pipeline.evaluate import evaluate
from pipeline.files import layout
from pipeline.images.model_input import to_model_input
from pipeline.litert.head import append_head
from pipeline.litert.input_type import with_float_input
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import embed_labels
from pipeline.litert.runtimes import Normalization, open_classifier, tensorflow_hidden
from tests import tiny_project
from tests.test_evaluate import CONFIG, KEYS, write_model
from tests.test_score import quantized_output
from tests.tiny_models import backbone, head, pictures, pixel_model

pytestmark = pytest.mark.slow

PIXELS = 224
LABELS = ["ant", "café au lait", "日本"]


@pytest.fixture(scope="module")
def mediapipe():
    try:
        with tensorflow_hidden():
            import mediapipe  # noqa: PLC0415
        from mediapipe.tasks.python import vision  # noqa: F401, PLC0415
    except (ImportError, OSError) as error:
        pytest.skip(f"{error}: MediaPipe needs libEGL and libGLESv2 (apt-get install libegl1 libgles2)")
    return mediapipe


def classify(mediapipe, content, rgb):
    """Return MediaPipe's categories of a picture, all of them, in the order of the model's output."""
    tasks = mediapipe.tasks
    options = tasks.vision.ImageClassifierOptions(
        base_options=tasks.BaseOptions(model_asset_buffer=content), max_results=-1
    )
    with tasks.vision.ImageClassifier.create_from_options(options) as classifier:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))
        categories = classifier.classify(image).classifications[0].categories
    return sorted(categories, key=lambda category: category.index)


def test_labels_and_scores_are_ours(mediapipe):
    content = embed_labels(append_head(backbone(), *head()), LABELS, name="tiny", description="For tests.")
    picture = pictures(1)[0]
    categories = classify(mediapipe, content, picture)
    assert [category.category_name for category in categories] == LABELS
    np.testing.assert_allclose([category.score for category in categories], Model(content)(picture), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (1920, 1080), (224, 224), (100, 150), (223, 997)])
def test_stretch_is_what_the_phone_does(mediapipe, shape):
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    scores = [category.score for category in classify(mediapipe, pixel_model(PIXELS), rgb)]
    seen = np.rint(np.multiply(scores, 255)).astype(np.uint8).reshape(PIXELS, PIXELS, 3)
    np.testing.assert_array_equal(to_model_input(rgb, PIXELS, "stretch"), seen)


@pytest.mark.parametrize("shape", [(24, 32), (100, 60), (PIXELS, PIXELS)])
def test_three_runtimes_agree(mediapipe, shape):
    content = embed_labels(append_head(backbone(), *head()), LABELS, name="tiny", description="For tests.")
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    litert, reference, phone = (answer(content, runtime, rgb) for runtime in (LITERT, REFERENCE, MEDIAPIPE))
    np.testing.assert_allclose(reference, litert, rtol=0, atol=1e-5)
    np.testing.assert_allclose(phone, litert, rtol=0, atol=1e-5)


def test_a_quantized_output_means_the_same_to_all(mediapipe):
    content = quantized_output(append_head(backbone(), *head()))
    litert, reference, phone = (answer(content, runtime, pictures(1)[0]) for runtime in (LITERT, REFERENCE, MEDIAPIPE))
    assert np.unique(litert * 256 % 1).tolist() == [0]
    np.testing.assert_allclose(reference, litert, rtol=0, atol=1 / 256)
    np.testing.assert_allclose(phone, litert, rtol=0, atol=1e-6)


def test_scoring_with_mediapipe_gives_the_same_metrics(mediapipe, folder):
    tiny_project.make()
    write_model("float32")
    found = {}
    for runtime in ("litert", "mediapipe"):
        evaluate(EvaluateStage("float32", "stretch", tiny_project.BACKBONE.name, replace(CONFIG, runtime=runtime)))
        found[runtime] = json.loads(layout.evaluation("float32").read_text())
    assert set(found["litert"]) == set(found["mediapipe"]) == KEYS
    assert found["mediapipe"]["accuracy"] == found["litert"]["accuracy"]
    assert found["mediapipe"]["runtime"] == "mediapipe"
    assert found["mediapipe"]["agreement_with_litert"] == 1
    assert found["mediapipe"]["largest_probability_difference_litert"] < 1e-5


def test_mediapipe_answers_alike_of_bytes_and_of_floats(mediapipe):
    content = embed_labels(append_head(backbone(), *head()), ["a", "b", "c"], name="n", description="d")
    picture = pictures(1, pixels=40)[0]
    said = []
    for model in (content, with_float_input(content)):
        classifier = open_classifier(model, runtime="mediapipe", resize="stretch")
        said.append(classifier(picture).tolist())
        classifier.close()
    assert said[0] == said[1]


def test_a_model_that_mediapipe_refuses(mediapipe):
    with pytest.raises(ModelError, match=r"a model that MediaPipe Tasks refuses: .*\n  expected: uint8 pixels, or"):
        open_classifier(append_head(backbone(dtype="float32"), *head()), runtime="mediapipe", resize="stretch")


def test_mediapipe_reads_the_normalization_by_itself():
    content = append_head(backbone(dtype="float32"), *head())
    with pytest.raises(
        ConfigurationError, match=r"a mean and .* with runtime: mediapipe\n  expected: none: MediaPipe Tasks"
    ):
        open_classifier(content, runtime="mediapipe", resize="stretch", normalization=Normalization((0,), (255,)))


def test_mediapipe_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(MissingPackageError, match=r"MediaPipe is not installed (.|\n)*to mend:  pip install mediapipe"):
        open_classifier(append_head(backbone(), *head()), runtime="mediapipe", resize="stretch")


def test_a_system_library_is_missing(mediapipe, monkeypatch):
    def lacking(path):
        raise OSError("libEGL.so.1: cannot open shared object file")

    from mediapipe.tasks.python.core import mediapipe_c_bindings  # noqa: PLC0415

    monkeypatch.setattr(mediapipe_c_bindings, "_shared_lib", None)
    monkeypatch.setattr(mediapipe_c_bindings.ctypes, "CDLL", lacking)
    message = r"MediaPipe lacks a system library \(libEGL.so.1: (.|\n)*to mend:  apt-get install libegl1 libgles2"
    with pytest.raises(MissingPackageError, match=message):
        open_classifier(append_head(backbone(), *head()), runtime="mediapipe", resize="stretch")


def answer(content, runtime, rgb):
    classifier = open_classifier(content, runtime=runtime, resize="stretch")
    try:
        return classifier(rgb)
    finally:
        classifier.close()


def test_a_picture_of_something_else_gets_no_category(mediapipe):
    """The threshold stands in the file's metadata, so an app gets this without a line of its own."""
    weights, bias = head(num_labels=4)
    content = append_head(backbone(), weights, bias, 3)
    picture = pictures(1)[0]
    probabilities = Model(content)(picture)
    for threshold, named in ((0.0, 3), (float(np.sort(probabilities)[1]) - 1e-4, 2), (0.9999, 0)):
        ours = embed_labels(content, LABELS, name="tiny", description="For tests.", threshold=threshold)
        assert len(classify(mediapipe, ours, picture)) == named
        scores = open_classifier(ours, runtime="mediapipe", resize="stretch")(picture)  # evaluation sees all of them
        np.testing.assert_allclose(scores, probabilities, rtol=0, atol=1e-5)
