"""Stage `backbone`: builds the backbone in Keras and converts it.

Reads conf/backbone/ (DVC tracks what the stage `architecture` made of it) and the weights that it names; writes
models/backbone/converted.tflite: a uint8 picture in, a float32 feature vector out, with the normalization inside. It
depends on no take, so no take can make it stale.
"""

import sys

import numpy as np

from pipeline.backbones.build import build_backbone, convert, largest_difference
from pipeline.config.application import run_stage
from pipeline.config.backbone import BackboneConfig, BackboneStage
from pipeline.config.backbone_names import overrides
from pipeline.errors import PipelineError
from pipeline.files import layout, write_bytes

_MAX_DIFFERENCE = 1e-4  # between Keras and LiteRT, as a share of the largest feature; rounding alone gives about 1e-6


def backbone(config: BackboneStage) -> None:
    """Build, convert, compare with Keras, write."""
    content, difference = converted_backbone(config.backbone)
    write_bytes(layout.CONVERTED_BACKBONE, content)
    sys.stderr.write(
        f"backbone: {config.backbone.name}, {len(content) / 2**20:.1f} MiB; "
        f"largest difference from Keras {difference:.1e}\n"
    )


def converted_backbone(config: BackboneConfig) -> tuple[bytes, float]:
    """Build a backbone with its weights and convert it to LiteRT.

    Args:
        config: Architecture and weights.

    Returns:
        The .tflite file, and the largest difference of a feature from Keras on a few pictures, as a share of
        the largest feature.

    Raises:
        PipelineError: If the weights are missing or do not fit, or if LiteRT answers differently than Keras.
    """
    model = build_backbone(config)
    content = convert(model)
    difference = largest_difference(model, content, _probes(config.input_pixels))
    if not difference <= _MAX_DIFFERENCE:  # also refuses NaN
        raise PipelineError(
            found=f"the converted {config.name} differs from Keras by {difference:.2g}",
            expected=f"features within {_MAX_DIFFERENCE:g} of the largest",
            remedy="a TensorFlow or LiteRT of another version than the lock file's may be installed: run `make setup`",
        )
    return content, difference


def _probes(input_pixels: int) -> np.ndarray:
    """Return a few pictures, uint8 [n, p, p, 3]: grey, noise and ramps, which reach small and large activations."""
    generator = np.random.default_rng(0)
    shape = (input_pixels, input_pixels, 3)
    ramp = np.broadcast_to(np.linspace(0, 255, input_pixels)[None, :, None], shape)
    pictures = [np.full(shape, 127), generator.integers(0, 256, shape), ramp, 255 - ramp.transpose(1, 0, 2)]
    return np.stack(pictures).astype(np.uint8)


def main() -> None:
    """Run the stage from the command line."""
    run_stage("backbone", BackboneStage, backbone, {"backbone": overrides})


if __name__ == "__main__":
    main()
