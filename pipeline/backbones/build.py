"""Build a backbone from its configuration, and convert a Keras model to LiteRT's format."""

import functools
import tempfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from pipeline.backbones import efficientnet_lite
from pipeline.backbones.quiet_tensorflow import keras, tensorflow
from pipeline.backbones.silence import silenced
from pipeline.backbones.torch_weights import read_state_dict, weights_of_package
from pipeline.config.backbone import BackboneConfig
from pipeline.errors import PipelineError

# A family is a module with `build` and `load_weights`, like the one here.
FAMILIES = {"efficientnet_lite": efficientnet_lite}
# What `weights` in conf/backbone/ may say.
WEIGHTS = ("package",)
NUM_IMAGENET_CLASSES = 1000


def build_backbone(config: BackboneConfig, *, classifier: bool = False) -> keras.Model:
    """Build the backbone that a configuration describes, with its pretrained weights.

    Args:
        config: A choice of conf/backbone/.
        classifier: Whether to keep the ImageNet classifier, to check the weights against what they should recognize.

    Returns:
        A model from uint8 [1, input_pixels, input_pixels, 3], RGB 0..255, to the feature vector, float32
        [1, feature_length], or to probabilities of ImageNet's classes, float32 [1, 1000].

    Raises:
        PipelineError: The configuration names no known family or kind of weights, or does not fit the weights; the
            weights' package is missing or another one; or the picture is too small.
    """
    _check_choice(config, "family", tuple(FAMILIES))
    _check_choice(config, "weights", WEIGHTS)
    family = FAMILIES[config.family]
    content = weights_of_package(config.weights_package, config.weights_sha256)
    model = family.build(
        width=config.width,
        depth=config.depth,
        input_pixels=config.input_pixels,
        mean=config.mean,
        std=config.std,
        num_classes=NUM_IMAGENET_CLASSES if classifier else None,
    )
    feature_length = model.get_layer("features").output.shape[-1]
    if feature_length != config.feature_length:
        raise PipelineError(
            found=f"feature_length: {config.feature_length} in conf/backbone/{config.name}.yaml",
            expected=f"{feature_length}, the length of this architecture's feature vector",
            remedy=f"write feature_length: {feature_length}",
        )
    family.load_weights(model, read_state_dict(content, config.weights_package), config.weights_package)
    return model


def convert(model: keras.Model) -> bytes:
    """Convert a model to LiteRT's format in float32, without a word on the terminal.

    The same model gives the same bytes in every process. The model is exported here rather than by
    `TFLiteConverter.from_keras_model`, which hides the reason when that fails; `from_concrete_functions` converts
    Keras 3 models wrongly (variables stay in the file, answers are NaN).

    Args:
        model: A functional model with one input of a fixed shape and one output.

    Returns:
        The content of a .tflite file. Its signature `serving_default` has the model's input and output under the names
        of their layers.
    """
    with silenced(), tempfile.TemporaryDirectory() as folder:
        (image,) = model.inputs
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(
            "serve",
            functools.partial(_named_output, model),
            [tensorflow.TensorSpec(image.shape, image.dtype, name=image.name)],
        )
        archive.write_out(folder, verbose=False)
        content: bytes = tensorflow.lite.TFLiteConverter.from_saved_model(folder).convert()
    return content


def largest_difference(model: keras.Model, tflite: bytes, images: np.ndarray) -> float:
    """Run the same pictures through Keras and through LiteRT, the phone's runtime.

    Args:
        model: A Keras model with batch size 1.
        tflite: What `convert` made of it.
        images: uint8 [n, input_pixels, input_pixels, 3], RGB 0..255.

    Returns:
        The largest absolute difference between any two outputs, NaN if there is a NaN among them.
    """
    with silenced():
        run = Interpreter(model_content=tflite).get_signature_runner()
        (input_name,) = run.get_input_details()
        (output_name,) = run.get_output_details()
        differences = [
            np.abs(run(**{input_name: image[None]})[output_name] - keras.ops.convert_to_numpy(model(image[None]))).max()
            for image in images
        ]
    return float(np.max(differences))


def _named_output(model: keras.Model, image: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    return {model.output_names[0]: model(image, training=False)}


def _check_choice(config: BackboneConfig, key: str, choices: tuple[str, ...]) -> None:
    if getattr(config, key) not in choices:
        raise PipelineError(
            found=f"{key}: {getattr(config, key)} in conf/backbone/{config.name}.yaml",
            expected=f"one of {', '.join(choices)}",
            remedy=f"correct {key} in that file",
        )
