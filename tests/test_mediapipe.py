"""The truth from outside: the C++ graph that Android and iOS apps run."""

import numpy as np
import pytest
from tiny_models import backbone, head, pictures, pixel_model

from pipeline.images.model_input import to_model_input
from pipeline.litert.head import append_head
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import embed_labels

PIXELS = 224
LABELS = ["ant", "café au lait", "日本"]


@pytest.fixture(scope="module")
def mediapipe():
    try:
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
