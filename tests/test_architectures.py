"""Every architecture of conf/backbone/: its figures, and what Keras, LiteRT and the quantizer make of it.

Whole networks take long to convert: here stands one of each kind, at a small size and with random weights.
`python -m bench.architectures` does the same for all.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from bench.architectures import measured, pictures
from pipeline.backbones import applications
from pipeline.backbones.build import build_backbone
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.backbones.random_weights import set_random_weights
from pipeline.config.backbone import (
    BackboneConfig,
    PublishedFigures,
    expected_feature_length,
    figures_key,
    published_figures,
    width_key,
)
from pipeline.errors import PipelineError

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent / "conf" / "backbone"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
# The smallest of each way to normalize, with the module that holds Keras' own `preprocess_input`.
NORMALIZATIONS = {
    "mobilenet_v1": "mobilenet",
    "resnet50": "resnet",
    "densenet121": "densenet",
    "efficientnet_b0": "efficientnet",
    "efficientnet_v2_b0": "efficientnet_v2",
    "mobilenet_v3_small": "mobilenet_v3",
    "convnext_tiny": "convnext",
}
IMAGENET_MEAN, IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def config_of(name, **changes):
    loaded = OmegaConf.load(FOLDER / f"{name}.yaml")
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(BackboneConfig), loaded))
    assert isinstance(config, BackboneConfig)
    return dataclasses.replace(config, **changes)


def small(name, **changes):
    return config_of(name, weights="random", input_pixels=config_of(name).min_input_pixels, **changes)


@pytest.mark.parametrize("name", NAMES)
def test_a_choice_is_consistent(name):
    config = config_of(name)
    assert config.name == name
    assert config.input_pixels >= config.min_input_pixels
    figures = PublishedFigures(config.num_parameters, config.num_multiply_adds, config.imagenet_top1_percent)
    assert published_figures(config) == figures
    assert config.source or config.family == "own_file"
    for width in config.widths:
        for pixels in config.resolutions:
            key = figures_key(dataclasses.replace(config, width=width, input_pixels=pixels))
            assert key == f"{width_key(width)}_{pixels}"
    known = {f"{width_key(width)}_{pixels}" for width in config.widths for pixels in config.resolutions}
    assert set(config.published) <= (known or {str(config.input_pixels)})


def test_what_was_not_published_is_not_invented():
    config = config_of("mobilenet_v2", width=1.4, input_pixels=96)
    assert published_figures(config) == PublishedFigures(None, None, None)
    assert published_figures(config_of("resnet50", input_pixels=128)) == PublishedFigures(None, None, None)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizes_as_keras_does(name):
    config = small(name)
    reference = getattr(keras.applications, config.application)(
        weights=None, include_top=False, pooling="avg", input_shape=(config.input_pixels, config.input_pixels, 3)
    )
    network = applications.network(config)
    set_random_weights(network)
    copy_weights(network, reference)
    x = pictures(2, config.input_pixels)
    preprocess = getattr(keras.applications, NORMALIZATIONS[name]).preprocess_input
    expected = np.asarray(reference(preprocess(x.astype(np.float32))))
    found = np.asarray(applications.on_pictures(network, config, batch_size=None)(x))
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * expected.std()  # the pictures make a difference
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


def copy_weights(source, target):
    """Copy all weights but those that normalize pictures, which EfficientNet keeps beside the others."""
    pairs = zip(*([layer for layer in model.layers if layer.weights] for model in (source, target)), strict=True)
    for old, new in pairs:
        if isinstance(new, keras.layers.Normalization):
            new.set_weights([IMAGENET_MEAN, IMAGENET_STD**2, np.int64(0)])
            new.finalize_state()
        else:
            new.set_weights(old.get_weights())


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v3_small", "resnet50", "convnext_tiny"])
def test_converts_and_quantizes(name):
    config = small(name)
    config.width = min(config.widths, default=1.0)
    found = measured(config)
    assert found.feature_length == expected_feature_length(config)
    assert found.difference < 1e-4
    assert found.refusal is None
    assert found.num_int8_bytes < 0.4 * found.num_bytes
    assert 0 < found.int8_error < 0.2


def test_all_names_are_those_of_a_new_process():
    names = [[layer.name for layer in build_backbone(small("mobilenet_v1", width=0.25)).layers] for _ in range(2)]
    assert names[0] == names[1]
    assert (names[0][0], names[0][-1]) == ("image", "features")


def test_a_batch_may_have_any_size():
    config = small("mobilenet_v1", width=0.25)
    model = build_backbone(config, batch_size=None)
    x = pictures(3, config.input_pixels)
    assert model.input.shape == (None, 32, 32, 3)
    one_by_one = build_backbone(config)
    np.testing.assert_allclose(model(x), np.concatenate([one_by_one(picture[None]) for picture in x]), atol=1e-5)


def test_an_unknown_application_is_refused():
    with pytest.raises(PipelineError, match=r"application: VGG in conf/backbone/resnet50\.yaml") as caught:
        build_backbone(small("resnet50", application="VGG"))
    assert "ResNet50" in caught.value.expected


def test_a_width_of_an_architecture_without_widths_is_refused():
    with pytest.raises(PipelineError, match=r"width: 0\.5 in conf/backbone/resnet50\.yaml") as caught:
        build_backbone(small("resnet50", width=0.5))
    assert "ResNet50 comes in no other width" in caught.value.expected


@pytest.mark.parametrize("name", ["inception_v3", "mobilenet_v1"])
def test_a_picture_too_small_is_refused(name):
    least = config_of(name).min_input_pixels
    with pytest.raises(PipelineError, match=f"input_pixels: {least - 1}") as caught:
        build_backbone(config_of(name, weights="random", input_pixels=least - 1))
    assert f"at least {least}" in caught.value.expected
