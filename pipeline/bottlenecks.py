"""Stage `bottlenecks`: quantizes the backbone, then caches what it makes of each frame.

Reads models/backbone/converted.tflite, data/calibration, data/frames, data/augmented and data/splits.csv; writes
models/backbone/<scheme>.tflite and data/bottlenecks/<scheme>/{frames,augmented}/<label>/<take>.parquet.
The very backbone that will be shipped computes the bottlenecks, in the phone's own runtime, so the head is trained on
what the phone will compute. It is the fastest way to compute them on a processor, too.
"""

import threading
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.config.application import run_stage
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.files import layout, sha256_of_bytes, sha256_of_file, write_bytes
from pipeline.files.full_disk import telling_full_disk
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
from pipeline.takes.versions import versions

_VERSION = 1  # raise it when this stage gives other bytes for the same input and settings

_of_thread = threading.local()  # the model that a thread has loaded, with the hash of its file


def bottlenecks(config: BottlenecksStage) -> None:
    """Quantize the backbone and compute the bottlenecks of all frames that are trained or validated on."""
    scheme = config.quantization.scheme
    content = quantized_backbone(config)
    features = FeatureExtractor(content, config.resize)
    takes = [take for take in read_takes(layout.SPLITS) if take.has_part(TRAIN, VALIDATION)]
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
    with telling_full_disk(layout.backbone(scheme), len(content)):
        write_bytes(layout.backbone(scheme), content)


def quantized_backbone(config: BottlenecksStage) -> bytes:
    """Quantize the converted backbone as the scheme says, and check that the file keeps the scheme's promises.

    Raises:
        PipelineError: If the calibration pictures are missing.
        PipelineError: If an operator or a tensor is not what the scheme promises.
    """
    name = f"{config.backbone.name} as {config.quantization.scheme}"
    content = layout.CONVERTED_BACKBONE.read_bytes()
    if config.quantization.kind != "none":
        from pipeline.litert.quantizer import quantize  # noqa: PLC0415 - float32 need not wait half a second for it

        calibration = read_calibration(layout.CALIBRATION, config.backbone.input_pixels, config.resize)
        content = quantize(content, config.quantization, calibration)
    check_builtin(content, name)
    check_scheme(content, config.quantization, name)
    return content


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
    run_stage("bottlenecks", BottlenecksStage, bottlenecks)


if __name__ == "__main__":
    main()
