"""What `python -m pipeline.deploy` takes: the scheme to deploy, and what the manifest tells."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.ranges import one_of

UINT8, FLOAT32 = INPUT_TYPES = ("uint8", "float32")


@dataclass
class DeployStage:
    """Configuration of `python -m pipeline.deploy`.

    Attributes:
        deploy: The scheme that goes into models/deployed/.
        resize: How the app must fit pictures: `stretch` (what phones do), `crop` or `pad`.
        inference_input_type: Of the shipped model's pixels, 0 to 255 in both: `uint8` (a camera's bytes; on
            processors alone) or `float32` (the same numbers; GPU delegates and microcontrollers take it, too). The
            name is that of TensorFlow Lite's converter.
        backbone: Name of the backbone.
    """

    deploy: str = MISSING
    resize: str = MISSING
    inference_input_type: str = MISSING
    backbone: str = MISSING

    def __post_init__(self) -> None:
        """Check the values."""
        one_of("inference_input_type", self.inference_input_type, INPUT_TYPES)
