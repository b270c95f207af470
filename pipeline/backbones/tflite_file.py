"""One's own feature extractor that is a .tflite file already: used as it is, without TensorFlow."""

from collections.abc import Iterable

from pipeline.backbones.feature_length import refuse_other_length
from pipeline.backbones.named_weights import checked_path
from pipeline.config.backbone import OWN_FILE, BackboneConfig
from pipeline.config.backbone_names import file_of
from pipeline.config.quantization import AS_IS, QuantizationConfig
from pipeline.config.train import HEAD
from pipeline.errors import ConfigurationError

SUFFIX = ".tflite"


def is_tflite(config: BackboneConfig) -> bool:
    """Tell whether a backbone is a .tflite file of one's own."""
    return config.family == OWN_FILE and config.weights.endswith(SUFFIX)


def build(config: BackboneConfig) -> bytes:
    """Make a backbone of the file that `weights` names.

    Returns:
        A .tflite file from uint8 [1, input_pixels, input_pixels, 3], RGB 0..255, to float32 [1, feature_length].

    Raises:
        ModelError: If there is no such file, its hash is another one, or it takes or gives something else.
        ConfigurationError: If feature_length is wrong.
    """
    from pipeline.litert.extractor import backbone_of  # noqa: PLC0415 - the stage `check` asks only what is_tflite says
    from pipeline.litert.interpreter import Model  # noqa: PLC0415

    path = checked_path(config)
    content = backbone_of(path.read_bytes(), config, str(path))
    refuse_other_length(config, Model(content).output_length)
    return content


def check_own_file(config: BackboneConfig, schemes: Iterable[QuantizationConfig], training_mode: str) -> None:
    """Refuse what cannot be had of the backbone's file, before anything runs.

    Raises:
        ConfigurationError: If a .tflite file is to be tuned, or quantized a second time; or if another backbone is to
            be cut off at a tensor, or used as it came.
        ModelError: If there is no such file, or it cannot be used.
    """
    if not is_tflite(config):
        _refuse_parts_of_tflite(config, schemes)
        return
    if training_mode != HEAD:
        raise ConfigurationError(
            found=f"training.mode: {training_mode} with weights: {config.weights} in {file_of(config.name)}",
            expected=f"training.mode: {HEAD}: a .tflite file cannot learn",
            remedy=f"write `mode: {HEAD}` in params.yaml, or take the extractor's .keras file or SavedModel",
        )
    from pipeline.litert.model_file import is_float32  # noqa: PLC0415 - not for those who have no such file
    from pipeline.litert.quantized import refuse_scheme  # noqa: PLC0415

    is_quantized = not is_float32(build(config))
    for scheme in schemes:
        refuse_scheme(scheme, is_quantized=is_quantized)


def _refuse_parts_of_tflite(config: BackboneConfig, schemes: Iterable[QuantizationConfig]) -> None:
    if config.features:
        raise ConfigurationError(
            found=f"features: {config.features} with weights: {config.weights} in {file_of(config.name)}",
            expected="a tensor's name with a .tflite file alone",
            remedy="leave it empty, and save the model without its last layers",
        )
    for scheme in schemes:
        if scheme.kind == AS_IS:
            raise ConfigurationError(
                found=f"`quantization` lists {scheme.scheme}, and weights: {config.weights} in {file_of(config.name)}",
                expected=f"{scheme.scheme} for a .tflite file that came quantized alone",
                remedy=f"take {scheme.scheme} off the list; float32 is the backbone as it is",
            )
