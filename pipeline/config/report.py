"""What conf/report.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.ranges import between


@dataclass
class ReportConfig:
    """How much the pictures show.

    Attributes:
        num_calibration_bins: Bars of a reliability diagram, 2 to 100; as in conf/evaluate.yaml.
        num_thumbnails: Frames on a contact sheet, at most, 1 to 300.
    """

    num_calibration_bins: int = MISSING
    num_thumbnails: int = MISSING

    def __post_init__(self) -> None:
        """Check the ranges."""
        between("report.num_calibration_bins", self.num_calibration_bins, 2, 100)
        between("report.num_thumbnails", self.num_thumbnails, 1, 300)


@dataclass
class ReportStage:
    """Configuration of `python -m pipeline.report`.

    Attributes:
        deploy: The scheme that is deployed, whose errors are shown.
        quantization: The schemes that are compared, float32 among them.
        report: How much is shown.
    """

    deploy: str = MISSING
    quantization: list[str] = MISSING
    report: ReportConfig = MISSING
