"""Every family normalizes by its configuration alone: one number or three, red first or blue first."""

import numpy as np
import pytest

from pipeline.backbones import efficientnet_lite
from pipeline.backbones.build import build_backbone, convert, largest_difference
from pipeline.backbones.normalization import normalized
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.errors import ConfigurationError
from tests.test_architectures import config_of
from tests.test_own_models import own

RGB = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
THREE = {"mean": [120.0, 110.0, 100.0], "std": [60.0, 50.0, 40.0]}
SETTINGS = [
    {"mean": [127.0], "std": [128.0]},
    THREE,
    {"mean": THREE["mean"], "std": [2.0]},
    {"mean": [10.0], "std": THREE["std"]},
]


def expected(mean, std, channels):
    """Return what a network should see, by NumPy."""
    numbers = (RGB - np.array(mean)) / np.array(std)
    return numbers[..., ::-1] if channels == "bgr" else numbers


@pytest.mark.slow
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_an_efficientnet_lite_sees(settings, channels):
    config = config_of("efficientnet_lite0", width=0.25, depth=0.5, input_pixels=32, channels=channels, **settings)
    model = efficientnet_lite.build(config)
    seen = keras.Model(model.input, model.get_layer("normalization").output)(RGB)
    np.testing.assert_allclose(seen, expected(**settings, channels=channels), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_model_of_ones_own_sees(tmp_path, settings, channels):
    image = keras.Input((32, 32, 3))
    keras.Model(image, keras.layers.Activation("linear")(image)).save(tmp_path / "own.keras")
    model = build_backbone(own(tmp_path / "own.keras", feature_length=3, channels=channels, **settings))
    means = expected(**settings, channels=channels).mean((1, 2))
    np.testing.assert_allclose(model(RGB), means, rtol=1e-4, atol=1e-4)
    assert largest_difference(model, convert(model), RGB) < 1e-4


@pytest.mark.parametrize("settings", SETTINGS)
def test_an_application_sees(settings):
    """Its BGR weights are swapped instead: tests/test_weights.py."""
    image = keras.Input((32, 32, 3), dtype="uint8")
    seen = normalized(image, config_of("resnet50", **settings), "pixel_normalization", channels="rgb")
    found = keras.Model(image, seen)(RGB)
    np.testing.assert_allclose(found, expected(**settings, channels="rgb"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v1"])
@pytest.mark.parametrize(
    ("key", "numbers"),
    [("mean", []), ("mean", [1.0, 2.0]), ("std", [1.0] * 4), ("std", [0.0]), ("std", [1.0, 0.0, 1.0])],
)
def test_numbers_that_normalize_nothing_are_refused(name, key, numbers):
    with pytest.raises(ConfigurationError) as caught:
        build_backbone(config_of(name, weights="random", input_pixels=32, **{key: numbers}))
    assert caught.value.found == f"backbone.{key}: {numbers}"
    assert "one number for all channels, or 3 for red, green and blue" in caught.value.expected
    assert ("none of them 0" in caught.value.expected) == (key == "std")
    assert caught.value.remedy.startswith(f"correct {key} in the backbone's file")
