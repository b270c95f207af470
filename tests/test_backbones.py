"""Backbones: the right architecture, the right weights, and a conversion that computes what Keras computes."""

import dataclasses
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import skimage
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from omegaconf import OmegaConf
from PIL import Image

from pipeline.backbones import efficientnet_lite
from pipeline.backbones.build import BUILDERS, build_backbone, convert, largest_difference
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.backbones.torch_weights import read_state_dict, weights_of_package
from pipeline.config.backbone import FAMILIES, BackboneConfig
from pipeline.errors import ConfigurationError, FullDiskError, ModelError

ROOT = Path(__file__).parent.parent
NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
SMALL = {"width": 0.25, "depth": 0.5}
# ImageNet's class indices, from the list that comes with the data set.
EGYPTIAN_CAT, ESPRESSO = 285, 967


def config_of(name, **changes):
    loaded = OmegaConf.load(ROOT / "conf" / "backbone" / f"{name}.yaml")
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(BackboneConfig), loaded))
    assert isinstance(config, BackboneConfig)
    return dataclasses.replace(config, **changes)


def pictures(input_pixels):
    photos = [skimage.data.coffee(), skimage.data.chelsea(), skimage.data.stereo_motorcycle()[0], skimage.data.rocket()]
    size = (input_pixels, input_pixels)
    return np.stack([np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR)) for photo in photos])


def small_model(seed=0):
    """A narrow model of an odd size, with weights that keep signals alive, so that a comparison compares something."""
    model = efficientnet_lite.build(config_of("efficientnet_lite0", **SMALL, input_pixels=75))
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, variable.shape) for variable in layer.weights])
        elif layer.weights:
            height, width, num_channels, _ = layer.kernel.shape
            num_inputs = height * width * (1 if isinstance(layer, keras.layers.DepthwiseConv2D) else num_channels)
            layer.set_weights([random.normal(0, np.sqrt(2 / num_inputs), layer.kernel.shape)])
    return model


def num_multiply_adds(model):
    """Count as the published figures seem to: with three a batch-normalized value, all of them come out within 0.5%."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            total += np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3])
        elif isinstance(layer, keras.layers.BatchNormalization):
            total += 3 * np.prod(layer.output.shape)
        elif isinstance(layer, keras.layers.Dense):
            total += np.prod(layer.kernel.shape)
    return total


@pytest.fixture(scope="module", params=NAMES)
def published(request):
    config = config_of(request.param)
    return config, build_backbone(config, classifier=True)


@pytest.fixture(scope="module")
def lite0():
    return build_backbone(config_of("efficientnet_lite0"))


@pytest.fixture(scope="module")
def lite0_tflite(lite0):
    return convert(lite0)


@pytest.fixture(scope="module")
def small():
    return small_model()


@pytest.fixture(scope="module")
def small_tflite(small):
    return convert(small)


@pytest.fixture(scope="module")
def lite0_state_dict():
    config = config_of("efficientnet_lite0")
    return read_state_dict(weights_of_package(config.weights_package, config.weights_sha256), "lite0.pth")


@pytest.mark.slow
def test_recognizes_photos(published):
    config, classifier = published
    probabilities = np.concatenate([classifier(picture[None]) for picture in pictures(config.input_pixels)[:2]])
    assert list(probabilities.argmax(axis=1)) == [ESPRESSO, EGYPTIAN_CAT]
    assert probabilities[0, ESPRESSO] > 0.5
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_has_the_published_size_and_cost(published):
    config, classifier = published
    num_parameters = sum(np.prod(variable.shape) for variable in classifier.trainable_variables)
    assert num_parameters == pytest.approx(config.num_parameters, rel=0.02)
    assert num_multiply_adds(classifier) == pytest.approx(config.num_multiply_adds, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite3", "efficientnet_lite4"])
def test_without_weights_at_hand_has_the_published_size_and_cost(name):
    test_has_the_published_size_and_cost(
        (config_of(name), build_backbone(config_of(name, weights="random"), classifier=True))
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_feature_model_lacks_only_the_classifier(name):
    model = build_backbone(config_of(name))
    num_parameters = sum(np.prod(variable.shape) for variable in model.trainable_variables)
    assert num_parameters + 1281 * 1000 == pytest.approx(config_of(name).num_parameters, rel=0.02)
    assert model.output.shape == (1, 1280)
    assert model.input.shape == (1, config_of(name).input_pixels, config_of(name).input_pixels, 3)


@pytest.mark.slow
@pytest.mark.parametrize("input_pixels", [192, 201])
def test_other_input_sizes_still_recognize(input_pixels):
    classifier = build_backbone(config_of("efficientnet_lite0", input_pixels=input_pixels), classifier=True)
    probabilities = np.asarray(classifier(pictures(input_pixels)[:1]))
    assert probabilities.argmax() == ESPRESSO
    assert probabilities.max() > 0.5


@pytest.mark.slow
def test_lite0_converted_computes_what_keras_computes(lite0, lite0_tflite, record_property):
    difference = largest_difference(lite0, lite0_tflite, pictures(224))
    record_property("largest_difference", difference)
    sys.stdout.write(f"largest difference between Keras and LiteRT: {difference:.2e}\n")
    assert difference < 1e-4


@pytest.mark.slow
def test_a_small_model_converted_computes_what_keras_computes(small, small_tflite):
    assert np.asarray(small(pictures(75)[:1])).max() > 0.1
    assert largest_difference(small, small_tflite, pictures(75)) < 1e-4


@pytest.mark.slow
def test_largest_difference_sees_a_difference(small_tflite):
    assert largest_difference(small_model(seed=1), small_tflite, pictures(75)) > 0.1


@pytest.mark.slow
def test_converted_file_has_builtin_operations_only(lite0_tflite):
    model = schema.ModelT.InitFromPackedBuf(lite0_tflite)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    operations = {names[code.builtinCode] for code in model.operatorCodes}
    assert operations <= {"CAST", "MUL", "ADD", "SUB", "CONV_2D", "DEPTHWISE_CONV_2D", "MEAN"}
    assert "CONV_2D" in operations
    assert all(code.customCode is None for code in model.operatorCodes)


@pytest.mark.slow
def test_converted_file_takes_plain_bytes_and_gives_features(lite0_tflite):
    interpreter = Interpreter(model_content=lite0_tflite)
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["features"]}}
    (image,), (features,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["dtype"] is np.uint8
    assert list(image["shape"]) == [1, 224, 224, 3]
    assert image["quantization"] == (0.0, 0)
    assert features["dtype"] is np.float32
    assert list(features["shape"]) == [1, 1280]


def run_python(*lines):
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=True
    )


@pytest.mark.slow
def test_conversion_is_silent_and_the_same_in_every_process(small_tflite):
    process = run_python(
        "import hashlib, sys",
        "sys.path.insert(0, 'tests')",
        "import test_backbones",
        "content = test_backbones.convert(test_backbones.small_model())",
        "print(hashlib.sha256(content).hexdigest())",
    )
    assert process.stdout == hashlib.sha256(small_tflite).hexdigest() + "\n"
    assert process.stderr == ""


def test_importing_the_package_imports_no_tensorflow():
    process = run_python(
        "import sys, pipeline.backbones, pipeline.backbones.torch_weights, pipeline.config.backbone",
        "print({'keras', 'tensorflow'} & {*sys.modules})",
    )
    assert process.stdout == "set()\n"


def test_every_family_is_built_by_something():
    assert tuple(BUILDERS) == FAMILIES


def test_an_unknown_family_is_refused():
    with pytest.raises(ConfigurationError) as caught:
        build_backbone(config_of("efficientnet_lite0", family="resnet"))
    assert caught.value.found == "backbone.family: resnet"
    assert caught.value.expected == "one of efficientnet_lite, applications, own_file"
    assert "family" in caught.value.remedy


def test_a_picture_too_small_for_the_network_is_refused():
    assert efficientnet_lite.build(config_of("efficientnet_lite0", **SMALL, input_pixels=32)).output.shape == (1, 1280)
    with pytest.raises(ConfigurationError, match="input_pixels: 31") as caught:
        efficientnet_lite.build(config_of("efficientnet_lite0", **SMALL, input_pixels=31))
    assert "at least 32" in caught.value.expected


def test_a_wrong_feature_length_is_refused():
    with pytest.raises(
        ConfigurationError, match=r"feature_length: 1024 in conf/backbone/efficientnet_lite0\.yaml"
    ) as caught:
        build_backbone(config_of("efficientnet_lite0", feature_length=1024))
    assert caught.value.remedy == "write feature_length: 1280"


def test_missing_weights_are_named(lite0, lite0_state_dict):
    incomplete = {key: value for key, value in lite0_state_dict.items() if key != "_blocks.3._bn1.running_var"}
    with pytest.raises(ModelError) as caught:
        efficientnet_lite.load_weights(lite0, incomplete, "lite0.pth")
    assert caught.value.found == "lite0.pth: layer blocks-3-_bn1 finds no _blocks.3._bn1.running_var"


@pytest.mark.parametrize("shape", [(32, 3, 5, 5), (32, 3)])
def test_weights_of_another_shape_are_named(lite0, lite0_state_dict, shape):
    with pytest.raises(ModelError) as caught:
        efficientnet_lite.load_weights(lite0, lite0_state_dict | {"_conv_stem.weight": np.zeros(shape)}, "lite0.pth")
    assert "lite0.pth: layer conv_stem finds _conv_stem.weight of shape" in caught.value.found
    assert "(3, 3, 3, 32)" in caught.value.expected


def test_weights_that_no_layer_takes_are_named(lite0, lite0_state_dict):
    extra = lite0_state_dict | {
        "_blocks.16._bn0.weight": np.zeros(8),
        "_blocks.16._bn0.num_batches_tracked": np.int64(1),
    }
    with pytest.raises(ModelError) as caught:
        efficientnet_lite.load_weights(lite0, extra, "lite0.pth")
    assert caught.value.found == "lite0.pth has weights that no layer of the model takes: _blocks.16._bn0.weight"


def test_every_weight_arrives_unchanged(lite0, lite0_state_dict):
    kernel = lite0.get_layer("blocks-5-_depthwise_conv").kernel
    np.testing.assert_array_equal(
        np.asarray(kernel)[:, :, 7, 0], lite0_state_dict["_blocks.5._depthwise_conv.weight"][7, 0]
    )
    num_values = sum(value.size for key, value in lite0_state_dict.items() if not key.startswith("_fc."))
    num_counters = sum(key.endswith("num_batches_tracked") for key in lite0_state_dict)
    assert lite0.count_params() == num_values - num_counters


@pytest.mark.slow
def test_a_full_temporary_folder_is_told(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tiny_disk))
    model = build_backbone(config_of("efficientnet_lite0", weights="random", input_pixels=32))
    with pytest.raises(FullDiskError, match=rf"no space left in {tiny_disk}(.|\n)*TMPDIR=/a/folder"):
        convert(model)
