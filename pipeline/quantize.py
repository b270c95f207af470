"""Stage `quantize`: quantizes the backbone as a scheme says.

Reads models/backbone/tuned.tflite and data/calibration (or, with `calibration: train` in conf/quantization/,
data/frames and data/splits.csv); writes models/backbone/<scheme>.tflite and build/calibration/<scheme>.csv, the frames
that were drawn from the takes, if any.
"""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config.application import run_stage
from pipeline.config.quantize import QuantizeStage
from pipeline.files import layout, write_bytes, write_text
from pipeline.images.calibration import read_calibration
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.litert.quantized import quantized_backbone
from pipeline.takes.splits import Take, read_takes
from pipeline.takes.train_sample import sample_train_frames

NUM_TRAIN_CALIBRATION = 100  # frames of a sample; about as many as data/calibration has pictures


def quantize(config: QuantizeStage) -> None:
    """Quantize the backbone, check that the file keeps the scheme's promises, and write it."""
    content = layout.TUNED_BACKBONE.read_bytes()
    calibration = Calibration.read(config, Model(content).input_pixels, read_takes(layout.SPLITS))
    quantized = quantized_backbone(content, config.quantization, calibration.pictures)
    scheme = config.quantization.scheme
    write_text(layout.calibration_record(scheme), calibration.record)
    write_bytes(layout.backbone(scheme), quantized)
    sys.stderr.write(f"quantize@{scheme}: {len(content) / 2**20:.2f} MiB -> {len(quantized) / 2**20:.2f} MiB\n")


@dataclass(frozen=True)
class Calibration:
    """What the ranges of activations are measured on.

    Attributes:
        pictures: uint8 [num_pictures, input_pixels, input_pixels, 3], RGB 0..255; none for the kind `none`.
        record: The frames of a sample as a CSV table (take, frame_id); only its header for the fixed pictures.
    """

    pictures: npt.NDArray[np.uint8]
    record: str

    @classmethod
    def read(cls, config: QuantizeStage, input_pixels: int, takes: Sequence[Take]) -> "Calibration":
        """Read data/calibration, or draw a sample of the train frames, as `quantization.calibration` says.

        A sample gets an all-black and an all-white picture beside it, as data/calibration has.

        Args:
            config: The stage's.
            input_pixels: Side of the backbone's input.
            takes: All takes.

        Raises:
            InputError: If there are too few pictures, or one cannot be read.
        """
        if config.quantization.kind == "none":
            return cls(np.zeros((0, input_pixels, input_pixels, 3), np.uint8), _record([]))
        if config.quantization.calibration == "fixed":
            return cls(read_calibration(layout.CALIBRATION, input_pixels, config.resize), _record([]))
        sample = sample_train_frames(takes, layout.FRAMES, NUM_TRAIN_CALIBRATION)
        inputs = [to_model_input(decode_jpeg(frame.image), input_pixels, config.resize) for frame in sample]
        extremes = [np.full((input_pixels, input_pixels, 3), value, np.uint8) for value in (0, 255)]
        return cls(np.stack([*inputs, *extremes]), _record([(frame.take, frame.frame_id) for frame in sample]))


def _record(rows: Sequence[tuple[str, str]]) -> str:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("take", "frame_id"), *rows])
    return table.getvalue()


def main() -> None:
    """Run the stage from the command line."""
    run_stage("quantize", QuantizeStage, quantize)


if __name__ == "__main__":
    main()
