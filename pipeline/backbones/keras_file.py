"""One's own feature extractor: a .keras file, or a SavedModel.

A .keras file is data, from which Keras builds its own layers: `keras_archive` refuses all others, and Keras' safe mode
stands behind it. Whole models in the older .h5 format are refused, for Keras has no safe mode for them. A SavedModel is
a program of TensorFlow operators: `saved_model` refuses all but those that compute features.
"""

from pathlib import Path

from pipeline.backbones.keras_archive import check_keras_archive
from pipeline.backbones.named_weights import checked_path
from pipeline.backbones.normalization import normalized
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.backbones.saved_model import check_saved_model
from pipeline.config.backbone import BackboneConfig
from pipeline.errors import ModelError

_ENDPOINT = "serving_default"


def build(config: BackboneConfig, batch_size: int | None) -> keras.Model:
    """Build a backbone around a model of one's own.

    Args:
        config: `weights` is the path of the .keras file or of the SavedModel's folder; mean, std and channels say what
            the model wants to be given: [0.0], [1.0] and rgb if it takes pixels 0..255 and normalizes them itself.
        batch_size: Pictures a call; None for any number.

    Returns:
        A model from "image", uint8 [batch_size, input_pixels, input_pixels, 3], RGB 0..255, to "features". An output
        of feature maps is averaged over the picture.

    Raises:
        ModelError: There is no such model, its hash is another one, it might run code, it is damaged, or it takes or
            gives something else.
        ConfigurationError: mean or std cannot be used (see `normalized`).
    """
    path = checked_path(config)
    pixels = config.input_pixels
    image = keras.Input((pixels, pixels, 3), batch_size=batch_size, dtype="uint8", name="image")
    extractor = _saved_model(path) if path.is_dir() else _keras_file(path)
    picture = normalized(image, config, "pixel_normalization", channels=config.channels)
    try:
        outputs = keras.tree.flatten(extractor(picture))
    except Exception as error:  # whatever a model of somebody else's does when it is called
        raise _unfit(path, f"it does not take a float32 picture [1, {pixels}, {pixels}, 3]: {_line(error)}") from error
    if len(outputs) != 1 or len(outputs[0].shape) not in (2, 4):
        raise _unfit(path, f"its outputs have the shapes {', '.join(str(output.shape) for output in outputs)}")
    is_maps = len(outputs[0].shape) == 4
    last = keras.layers.GlobalAveragePooling2D if is_maps else keras.layers.Identity
    return keras.Model(image, last(name="features")(outputs[0]), name="keras_file")


def _keras_file(path: Path) -> keras.Model:
    if path.suffix != ".keras":
        raise _unfit(path, "it is no .keras file (other files of whole models can run code when they are loaded)")
    check_keras_archive(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # garbage raises almost anything
        raise _unfit(path, _line(error)) from error


def _saved_model(path: Path) -> keras.layers.Layer:
    check_saved_model(path)
    try:
        return keras.layers.TFSMLayer(str(path), call_endpoint=_ENDPOINT)
    except Exception as error:
        raise _unfit(path, _line(error)) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _unfit(path: Path, reason: str) -> ModelError:
    return ModelError(
        found=f"{path}: {reason}",
        expected="a .keras or .tflite file, or a SavedModel's folder: one picture in, one feature vector (or maps) out",
        remedy='save the feature extractor with `model.save("name.keras")`, or export it with `model.export(folder)`',
    )
