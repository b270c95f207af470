"""Stage `bottlenecks`: quantizes the backbone, then caches what it makes of each frame.

Reads models/backbone/converted.tflite, data/calibration, data/frames, data/augmented and data/splits.csv; writes
models/backbone/<scheme>.tflite and data/bottlenecks/<scheme>/{frames,augmented}/<label>/<take>.parquet.
The very backbone that will be shipped computes the bottlenecks, in the phone's own runtime, so the head is trained on
what the phone will compute. It is the fastest way to compute them on a processor, too. (`features: float32` in
conf/quantization/ trains the head on the float backbone's features instead, as others do, for comparison.)
"""

import csv
import io
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.config.application import run_stage
from pipeline.config.backbone_names import overrides
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.config.quantization import QuantizationConfig
from pipeline.files import layout, sha256_of_bytes, sha256_of_file, write_bytes, write_text
from pipeline.images.calibration import read_calibration
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import check_builtin, check_scheme
from pipeline.takes.cache import key_of, project_cache
from pipeline.takes.engines import project_engine
from pipeline.takes.jobs import TakeJob
from pipeline.takes.runner import map_takes
from pipeline.takes.splits import TRAIN, VALIDATION, Take, read_takes
from pipeline.takes.tables import bottlenecks_schema, read_parquet
from pipeline.takes.train_sample import sample_train_frames
from pipeline.takes.versions import versions

_VERSION = 1  # raise it when this stage gives other bytes for the same input and settings
# What makes the quantized backbone, beside libraries: it is kept under the hash of this code, not a number to raise.
QUANTIZER_CODE = ("litert/flatbuffer.py", "litert/interpreter.py", "litert/quantizer.py", "litert/rounding.py")
NUM_TRAIN_CALIBRATION = 100  # frames of a sample; about as many as data/calibration has pictures

_of_thread = threading.local()  # the model that a thread has loaded, with the hash of its file


def bottlenecks(config: BottlenecksStage) -> None:
    """Quantize the backbone and compute the bottlenecks of all frames that are trained or validated on."""
    scheme = config.quantization.scheme
    all_takes = read_takes(layout.SPLITS)
    calibration = Calibration.read(config, all_takes)
    content = quantized_backbone(config, calibration.pictures)
    teacher = content if config.quantization.features == "own" else layout.CONVERTED_BACKBONE.read_bytes()
    features = FeatureExtractor(teacher, config.resize)
    takes = [take for take in all_takes if take.has_part(TRAIN, VALIDATION)]
    sources = [("frames", layout.FRAMES, take) for take in takes]
    sources += [("augmented", layout.AUGMENTED, take) for take in takes if take.has_part(TRAIN)]
    jobs = [_job(kind, folder / take.table, take, features) for kind, folder, take in sources]
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
    content = layout.CONVERTED_BACKBONE.read_bytes()
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


class FeatureExtractor:
    """Turns tables of encoded frames into tables of bottlenecks. Each thread loads its own interpreter.

    Two interpreters with one thread each compute as much as one with two, and give the same bits on any number of
    processors. Interpreters stay with their threads, so that this can be sent to another process.
    """

    def __init__(self, backbone: bytes, resize: str) -> None:
        self.sha256 = sha256_of_bytes(backbone)
        self.resize = resize
        self._backbone = backbone

    def table(self, source: Path) -> pa.Table:
        """Compute the bottlenecks of one take.

        Args:
            source: A table with the schema `FRAMES` or `AUGMENTED`.

        Returns:
            A table with the schema `bottlenecks_schema`, in the same order.
        """
        frames = read_parquet(source)
        copies = frames["copy"] if "copy" in frames.column_names else pa.array([0] * frames.num_rows, pa.int16())
        features = [self.features(image) for image in frames["image"].to_pylist()]
        feature_length = self._model().output_length
        flat = pa.array(np.concatenate(features) if features else np.zeros(0, np.float32), pa.float32())
        columns = [
            frames["frame_id"],
            copies,
            frames["pts_seconds"],
            pa.FixedSizeListArray.from_arrays(flat, feature_length),
        ]
        return pa.table(columns, schema=bottlenecks_schema(feature_length))

    def features(self, image: bytes) -> npt.NDArray[np.float32]:
        """Compute the feature vector, float32 [feature_length], of an encoded frame."""
        model = self._model()
        return model(to_model_input(decode_jpeg(image), model.input_pixels, self.resize))

    def _model(self) -> Model:
        if getattr(_of_thread, "sha256", None) != self.sha256:
            _of_thread.model, _of_thread.sha256 = Model(self._backbone, num_threads=1), self.sha256
        model: Model = _of_thread.model
        return model


def _job(kind: str, source: Path, take: Take, features: FeatureExtractor) -> TakeJob:
    parts = {
        "stage": "bottlenecks",
        "version": _VERSION,
        "libraries": versions("ai-edge-litert", "pillow", "numpy", "pyarrow"),
        "source": sha256_of_file(source),
        "backbone": features.sha256,
        "resize": features.resize,
    }
    return TakeJob(f"{take.label}/{take.name}", Path(kind) / take.table, key_of(parts), partial(features.table, source))


def main() -> None:
    """Run the stage from the command line."""
    run_stage("bottlenecks", BottlenecksStage, bottlenecks, {"backbone": overrides})


if __name__ == "__main__":
    main()
