"""Stage `bottlenecks`: quantizes the backbone, then caches what it makes of each frame.

Reads models/<mode>/converted.tflite, data/calibration, data/frames, data/augmented and data/splits.csv; writes
models/backbone/<scheme>.tflite and data/bottlenecks/<scheme>/{frames,augmented}/<label>/<take>.parquet.
The very backbone that will be shipped computes the bottlenecks, in the phone's own runtime, so the head is trained on
what the phone will compute. It is the fastest way to compute them on a processor, too. (`features: float32` in
conf/quantization/ trains the head on the float backbone's features instead, as others do, for comparison.)
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.config.application import run_stage
from pipeline.config.backbone_names import overrides
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.config.quantization import QuantizationConfig
from pipeline.files import layout, sha256_of_bytes, sha256_of_file, write_bytes, write_text
from pipeline.images.calibration import read_calibration
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.model_file import check_builtin, check_scheme
from pipeline.takes.cache import key_of, project_cache
from pipeline.takes.engines import project_engine
from pipeline.takes.features import FeatureExtractor, feature_jobs
from pipeline.takes.runner import map_takes
from pipeline.takes.splits import Take, read_takes
from pipeline.takes.train_sample import sample_train_frames
from pipeline.takes.versions import versions

# What makes the quantized backbone, beside libraries: it is kept under the hash of this code, not a number to raise.
QUANTIZER_CODE = ("litert/flatbuffer.py", "litert/interpreter.py", "litert/quantizer.py", "litert/rounding.py")
NUM_TRAIN_CALIBRATION = 100  # frames of a sample; about as many as data/calibration has pictures


def bottlenecks(config: BottlenecksStage) -> None:
    """Quantize the backbone and compute the bottlenecks of all frames that are trained or validated on."""
    scheme = config.quantization.scheme
    takes = read_takes(layout.SPLITS)
    calibration = Calibration.read(config, takes)
    content = quantized_backbone(config, calibration.pictures)
    own = config.quantization.features == "own"
    teacher = content if own else layout.converted_backbone(config.mode).read_bytes()
    jobs = feature_jobs(takes, FeatureExtractor(teacher, config.resize))
    map_takes(
        jobs,
        layout.bottlenecks(scheme),
        stage=f"bottlenecks@{scheme}",
        engine=project_engine(),
        cache=project_cache(),
    )
    if calibration.record:
        write_text(layout.bottlenecks(scheme) / "calibration.csv", calibration.record)
    write_bytes(layout.backbone(scheme), content)


@dataclass(frozen=True)
class Calibration:
    """What the ranges of activations are measured on.

    Attributes:
        pictures: uint8 [num_pictures, input_pixels, input_pixels, 3], RGB 0..255; none for the kind `none`.
        record: The frames of a sample as a CSV table (take, frame_id); empty for the fixed pictures.
    """

    pictures: npt.NDArray[np.uint8]
    record: str = ""

    @classmethod
    def read(cls, config: BottlenecksStage, takes: Sequence[Take]) -> "Calibration":
        """Read data/calibration, or draw a sample of the train frames, as `quantization.calibration` says.

        A sample gets an all-black and an all-white picture beside it, as data/calibration has.

        Raises:
            PipelineError: If there are too few pictures, or one cannot be read.
        """
        input_pixels = config.backbone.input_pixels
        if config.quantization.kind == "none":
            return cls(np.zeros((0, input_pixels, input_pixels, 3), np.uint8))
        if config.quantization.calibration == "fixed":
            return cls(read_calibration(layout.CALIBRATION, input_pixels, config.resize))
        sample = sample_train_frames(takes, layout.FRAMES, NUM_TRAIN_CALIBRATION)
        inputs = [to_model_input(decode_jpeg(frame.image), input_pixels, config.resize) for frame in sample]
        extremes = [np.full((input_pixels, input_pixels, 3), value, np.uint8) for value in (0, 255)]
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerows([("take", "frame_id"), *((frame.take, frame.frame_id) for frame in sample)])
        return cls(np.stack([*inputs, *extremes]), table.getvalue())


def quantized_backbone(config: BottlenecksStage, calibration: npt.NDArray[np.uint8]) -> bytes:
    """Quantize the converted backbone as the scheme says, and check that the file keeps the scheme's promises.

    Args:
        config: Backbone and scheme.
        calibration: uint8 [num_pictures, input_pixels, input_pixels, 3], RGB 0..255.

    Returns:
        A .tflite file.

    Raises:
        PipelineError: If an operator or a tensor is not what the scheme promises.
    """
    name = f"{config.backbone.name} as {config.quantization.scheme}"
    content = layout.converted_backbone(config.mode).read_bytes()
    if config.quantization.kind != "none":
        content = _quantized(content, config.quantization, calibration)
    check_builtin(content, name)
    check_scheme(content, config.quantization, name)
    return content


def _quantized(content: bytes, config: QuantizationConfig, calibration: npt.NDArray[np.uint8]) -> bytes:
    """Quantize a model, or take it from the cache: one more take must not cost the seconds that this takes."""
    cache = project_cache()
    parts = {
        "stage": "bottlenecks, backbone",
        "code": [sha256_of_file(Path(__file__).parent / file) for file in QUANTIZER_CODE],
        "libraries": versions("ai-edge-litert", "flatbuffers", "litert-quantizer", "numpy"),
        "model": sha256_of_bytes(content),
        "scheme": asdict(config),
        "calibration": [calibration.shape, sha256_of_bytes(calibration.tobytes())],
    }
    key = key_of(parts)
    kept = cache.get(key)
    if kept is not None:
        return kept
    from pipeline.litert.quantizer import quantize  # noqa: PLC0415 - float32 need not wait half a second for it

    quantized = quantize(content, config, calibration)
    cache.put(key, quantized)
    return quantized


def main() -> None:
    """Run the stage from the command line."""
    run_stage("bottlenecks", BottlenecksStage, bottlenecks, {"backbone": overrides})


if __name__ == "__main__":
    main()
