"""Build a backbone from its configuration, and convert a Keras model to LiteRT's format."""

import contextlib
import functools
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from pipeline.backbones import applications, efficientnet_lite, keras_file
from pipeline.backbones.feature_length import refuse_other_length
from pipeline.backbones.imagenet import imagenet_weights
from pipeline.backbones.named_weights import checked_path
from pipeline.backbones.quiet_tensorflow import keras, tensorflow
from pipeline.backbones.random_weights import set_random_weights
from pipeline.backbones.torch_weights import read_state_dict, weights_of_package
from pipeline.backbones.weight_files import (
    KERAS_SUFFIXES,
    SAFETENSORS_SUFFIX,
    load_keras_weights,
    load_safetensors,
    read_safetensors,
)
from pipeline.config.backbone import OWN_FILE, BackboneConfig
from pipeline.config.backbone_names import file_of
from pipeline.errors import ConfigurationError, FullDiskError
from pipeline.processes.silence import silenced

# Endings of files that `weights` in conf/backbone/ may name.
SUFFIXES = (".h5", ".hdf5", ".safetensors", ".pth")
NUM_IMAGENET_CLASSES = 1000


def build_backbone(config: BackboneConfig, *, classifier: bool = False, batch_size: int | None = 1) -> keras.Model:
    """Build the backbone that a configuration describes, with its weights.

    Args:
        config: A choice of conf/backbone/.
        classifier: Whether to keep the ImageNet classifier, to check the weights against what they should recognize;
            EfficientNet-Lite has one.
        batch_size: Pictures a call; None, for training, means any number.

    Returns:
        A model from "image", uint8 [batch_size, input_pixels, input_pixels, 3], RGB 0..255, to "features", float32
        [batch_size, feature_length], or to probabilities of ImageNet's classes, float32 [batch_size, 1000].
        It is flat (no model within it), unless its family is own_file.

    Raises:
        ConfigurationError: The configuration names no known kind of weights, its feature_length is wrong, or the
            picture is too small.
        ModelError: The weights are missing, damaged, other ones, or those of another network.
        MissingPackageError: The package with the weights is not installed.
    """
    model = BUILDERS[config.family](config, classifier, batch_size)
    refuse_other_length(config, int(model.get_layer("features").output.shape[-1]))
    return model


def _efficientnet_lite(config: BackboneConfig, classifier: bool, batch_size: int | None) -> keras.Model:
    num_classes = NUM_IMAGENET_CLASSES if classifier else None
    model = efficientnet_lite.build(config, num_classes=num_classes, batch_size=batch_size)
    if config.weights == "random":
        set_random_weights(model)
    elif config.weights == "package":
        content = weights_of_package(config.weights_package, config.weights_sha256)
        efficientnet_lite.load_weights(model, read_state_dict(content, config.weights_package), config.weights_package)
    else:
        _load_path(model, config, _load_torch)
    return model


def _application(config: BackboneConfig, classifier: bool, batch_size: int | None) -> keras.Model:
    if classifier:
        raise ConfigurationError(
            found=f"the ImageNet classifier of {config.name}",
            expected="a backbone of the family efficientnet_lite; the weights of the others come without classifier",
            remedy="ask for features, or for another backbone",
        )
    network = applications.network(config)
    if config.weights == "random":
        set_random_weights(network)
    elif config.weights == "imagenet":
        load_keras_weights(network, imagenet_weights(config))
    else:
        _load_path(network, config, load_safetensors)
    return applications.on_pictures(network, config, batch_size)


def _keras_file(config: BackboneConfig, _classifier: bool, batch_size: int | None) -> keras.Model:
    return keras_file.build(config, batch_size)


def _load_path(model: keras.Model, config: BackboneConfig, load_others: Callable[[keras.Model, Path], None]) -> None:
    """Load weights from the file that `weights` names."""
    if Path(config.weights).suffix not in SUFFIXES:
        raise ConfigurationError(
            found=f"weights: {config.weights} in {file_of(config.name)}",
            expected="`package` (efficientnet_lite), `imagenet` (applications), `random`, or the path of a file "
            f"that ends in {', '.join(SUFFIXES)}",
            remedy="correct weights in that file",
        )
    path = checked_path(config)
    (load_keras_weights if path.suffix in KERAS_SUFFIXES else load_others)(model, path)


def _load_torch(model: keras.Model, path: Path) -> None:
    """Load the weights of an EfficientNet-Lite by torch's names, or by timm's."""
    tensors = (
        read_safetensors(path) if path.suffix == SAFETENSORS_SUFFIX else read_state_dict(path.read_bytes(), str(path))
    )
    efficientnet_lite.load_weights(model, efficientnet_lite.without_timm_names(tensors), str(path))


# A family builds its backbones with their weights.
BUILDERS = {"efficientnet_lite": _efficientnet_lite, "applications": _application, OWN_FILE: _keras_file}


def convert(model: keras.Model) -> bytes:
    """Convert a model to LiteRT's format in float32, without a word on the terminal.

    The same model gives the same bytes in every process. The model is saved here rather than by
    `TFLiteConverter.from_keras_model`, which hides the reason when that fails, and traces the model many times (it and
    Keras' ExportArchive take 2.5 times as long); `from_concrete_functions` converts Keras 3 models wrongly (variables
    stay in the file, answers are NaN).

    Args:
        model: A functional model with one input of a fixed shape and one output.

    Returns:
        The content of a .tflite file. Its signature `serving_default` has the model's input and output under the names
        of their layers.

    Raises:
        FullDiskError: If there is no room for temporary files.
    """
    (image,) = model.inputs
    signature = tensorflow.TensorSpec(image.shape, image.dtype, name=image.name)
    with silenced(), _telling_full_disk(), tempfile.TemporaryDirectory() as folder:
        module = tensorflow.Module()
        module.weights = [variable.value for variable in model.variables]  # with `model` itself they would stay outside
        module.serve = tensorflow.function(functools.partial(_named_output, model), input_signature=[signature])
        tensorflow.saved_model.save(module, folder, signatures=module.serve)
        content: bytes = tensorflow.lite.TFLiteConverter.from_saved_model(folder).convert()
    return content


@contextlib.contextmanager
def _telling_full_disk() -> Iterator[None]:
    """Turn what TensorFlow says of a full disk into an error that a person can mend."""
    try:
        yield
    except tensorflow.errors.ResourceExhaustedError as error:
        if "No space left" not in str(error):
            raise
        raise FullDiskError(
            found=f"no space left in {tempfile.gettempdir()}, where TensorFlow puts temporary files",
            expected="room for a few copies of the backbone",
            remedy="make room there, or name another folder: TMPDIR=/a/folder dvc repro",
        ) from error


def largest_difference(model: keras.Model, tflite: bytes, images: np.ndarray) -> float:
    """Run the same pictures through Keras and through LiteRT, the phone's runtime.

    Args:
        model: A Keras model with batch size 1.
        tflite: What `convert` made of it.
        images: uint8 [n, input_pixels, input_pixels, 3], RGB 0..255.

    Returns:
        The largest absolute difference between any two outputs, as a share of Keras' largest output: architectures
        differ in the size of their features. NaN if there is a NaN among them, or nothing but zeros.
    """
    with silenced():
        run = Interpreter(model_content=tflite).get_signature_runner()
        (input_name,) = run.get_input_details()
        (output_name,) = run.get_output_details()
        found = np.stack([run(**{input_name: image[None]})[output_name] for image in images])
        expected = np.stack([keras.ops.convert_to_numpy(model(image[None])) for image in images])
    largest = float(np.abs(expected).max())
    return float(np.abs(found - expected).max()) / largest if largest else math.nan


def _named_output(model: keras.Model, image: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    return {model.output_names[0]: model(image, training=False)}
