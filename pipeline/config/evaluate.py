"""What `evaluate:` in params.yaml and conf/evaluate.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.ranges import at_least, one_of

LITERT, REFERENCE, MEDIAPIPE, ARM64 = RUNTIMES = ("litert", "reference", "mediapipe", "arm64")


@dataclass
class EvaluateConfig:
    """How a model is scored.

    Attributes:
        runtime: What runs the model on the test frames: `litert` (XNNPACK, what apps get by default), `reference`
            (LiteRT's plain kernels), `mediapipe` (MediaPipe Tasks, with its own preprocessing) or `arm64` (LiteRT for
            ARM64, emulated; slow).
        num_calibration_bins: Bins of the expected calibration error.
        num_reference_frames: Test frames, at most, that XNNPACK is compared with the reference kernels on.
    """

    runtime: str = MISSING
    num_calibration_bins: int = MISSING
    num_reference_frames: int = MISSING

    def __post_init__(self) -> None:
        """Check the values."""
        one_of("evaluate.runtime", self.runtime, RUNTIMES)
        at_least("evaluate.num_calibration_bins", self.num_calibration_bins, 1)
        at_least("evaluate.num_reference_frames", self.num_reference_frames, 1)


@dataclass
class EvaluateStage:
    """Configuration of `python -m pipeline.evaluate`.

    Attributes:
        scheme: Whose model is scored.
        resize: How frames become inputs: `stretch` (what phones do), `crop` or `pad`.
        backbone: Name of the backbone.
        evaluate: How.
    """

    scheme: str = MISSING
    resize: str = MISSING
    backbone: str = MISSING
    evaluate: EvaluateConfig = MISSING
