"""Stage `quantize`: quantizes the backbone as a scheme says.

Reads models/backbone/tuned.tflite and data/calibration (or, with `calibration: train` in conf/quantization/,
data/frames and data/splits.csv); writes models/backbone/<scheme>.tflite and build/calibration/<scheme>.csv, the frames
that were drawn from the takes, if any.
"""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config.application import run_stage
from pipeline.config.quantization import QuantizationConfig
from pipeline.config.quantize import QuantizeStage
from pipeline.files import layout, sha256_of_bytes, write_bytes, write_text
from pipeline.images.calibration import read_calibration
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.keys.key import key_of
from pipeline.keys.processor import processor_features
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import check_builtin, check_scheme
from pipeline.takes.cache import project_cache
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


def quantized_backbone(content: bytes, config: QuantizationConfig, calibration: npt.NDArray[np.uint8]) -> bytes:
    """Quantize a backbone, and check that the file keeps the scheme's promises.

    Args:
        content: A .tflite file that computes in float32.
        config: The scheme.
        calibration: uint8 [num_pictures, input_pixels, input_pixels, 3], RGB 0..255.

    Returns:
        A .tflite file.

    Raises:
        ModelError: If an operator or a tensor is not what the scheme promises.
    """
    name = f"the backbone as {config.scheme}"
    if config.kind != "none":
        content = _quantized(content, config, calibration)
    check_builtin(content, name)
    check_scheme(content, config, name)
    return content


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


def _record(rows: Sequence[tuple[str, str]]) -> str:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("take", "frame_id"), *rows])
    return table.getvalue()


def main() -> None:
    """Run the stage from the command line."""
    run_stage("quantize", QuantizeStage, quantize)


if __name__ == "__main__":
    main()
