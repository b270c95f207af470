"""Stage `backbone`: builds the backbone in Keras and converts it, or takes one that is a .tflite file already.

Reads conf/backbone/ (DVC tracks what the stage `architecture` made of it) and the weights that it names; writes
models/backbone/converted.tflite: a uint8 picture in, a float32 feature vector out, with the normalization inside. It
depends on no take, so no take can make it stale.
"""

import sys

from pipeline.backbones import tflite_file
from pipeline.config.application import run_stage
from pipeline.config.backbone import BackboneConfig, BackboneStage
from pipeline.config.backbone_names import overrides
from pipeline.files import layout, write_bytes


def backbone(config: BackboneStage) -> None:
    """Build, convert, compare with Keras, write; or take the file as it is."""
    if tflite_file.is_tflite(config.backbone):
        content, told = tflite_file.build(config.backbone), f"{config.backbone.weights} as it is"
    else:
        content, difference = converted_backbone(config.backbone)
        told = f"largest difference from Keras {difference:.1e}"
    write_bytes(layout.CONVERTED_BACKBONE, content)
    sys.stderr.write(f"backbone: {config.backbone.name}, {len(content) / 2**20:.1f} MiB; {told}\n")


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
    # TensorFlow's seconds are not for a backbone that needs none.
    from pipeline.backbones.build import build_backbone  # noqa: PLC0415
    from pipeline.backbones.checked import convert_checked  # noqa: PLC0415

    return convert_checked(build_backbone(config), config)


def main() -> None:
    """Run the stage from the command line."""
    run_stage("backbone", BackboneStage, backbone, {"backbone": overrides})


if __name__ == "__main__":
    main()
