"""Quantizes a backbone as a scheme says, once, and checks that the file keeps what the scheme promises."""

from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from pipeline.config.quantization import AS_IS, QuantizationConfig
from pipeline.errors import ConfigurationError
from pipeline.files import sha256_of_bytes
from pipeline.keys.key import key_of
from pipeline.keys.processor import processor_features
from pipeline.litert.model_file import check_builtin, check_scheme, is_float32
from pipeline.takes.cache import project_cache


def quantized_backbone(content: bytes, config: QuantizationConfig, calibration: npt.NDArray[np.uint8]) -> bytes:
    """Quantize a backbone, and check that the file keeps the scheme's promises.

    Args:
        content: A .tflite file that computes in float32; or one that is quantized, for the kinds `as_is` and `none`.
        config: The scheme.
        calibration: uint8 [num_pictures, input_pixels, input_pixels, 3], RGB 0..255.

    Returns:
        A .tflite file.

    Raises:
        ConfigurationError: If the scheme is not for such a backbone.
        ModelError: If an operator or a tensor is not what the scheme promises.
    """
    name = f"the backbone as {config.scheme}"
    is_quantized = not is_float32(content)
    refuse_scheme(config, is_quantized=is_quantized)
    if is_quantized and config.kind == "none":
        from pipeline.litert.dequantized import dequantized  # noqa: PLC0415 - few have such a backbone

        content = dequantized(content)
    elif not is_quantized and config.kind != "none":
        content = _quantized(content, config, calibration)
    check_builtin(content, name)
    check_scheme(content, config, name)
    return content


def refuse_scheme(config: QuantizationConfig, *, is_quantized: bool) -> None:
    """Refuse to quantize a backbone a second time, or to call one that is not quantized by another name.

    Raises:
        ConfigurationError: If the scheme is not for such a backbone.
    """
    if is_quantized and config.kind not in ("none", AS_IS):
        raise ConfigurationError(
            found=f"the scheme {config.scheme} for a backbone that came quantized",
            expected="as_is, and float32, which is the same weights without the rounding of activations",
            remedy="write `quantization: [float32, as_is]` in params.yaml, or take the extractor's float32 file",
        )
    if not is_quantized and config.kind == AS_IS:
        raise ConfigurationError(
            found=f"the scheme {config.scheme} for a backbone that computes in float32",
            expected="as_is for a .tflite file that came quantized alone",
            remedy=f"take {config.scheme} off the list `quantization` in params.yaml; float32 is the backbone as it is",
        )


def _quantized(content: bytes, config: QuantizationConfig, calibration: npt.NDArray[np.uint8]) -> bytes:
    """Quantize a model, or take it from the cache: one more take must not cost the seconds that this takes."""
    from pipeline.litert.quantizer import quantize as quantized_by  # noqa: PLC0415 - float32 need not wait for it

    depends_on = {
        "model": sha256_of_bytes(content),
        "scheme": asdict(config),
        "calibration": [calibration.shape, sha256_of_bytes(calibration.tobytes())],
        "processor": processor_features(),
    }
    cache, key = project_cache(), key_of(quantized_by, depends_on)
    kept = cache.get(key)
    if kept is not None:
        return kept
    quantized = quantized_by(content, config, calibration)
    cache.put(key, quantized)
    return quantized
