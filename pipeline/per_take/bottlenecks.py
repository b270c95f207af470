"""Turns one take's frames into bottlenecks: what a backbone, or the lower part of one, makes of each frame."""

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.files import sha256_of_bytes
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.processes.workers import map_frames
from pipeline.takes.tables import bottlenecks_schema, read_unchanged

_of_thread = threading.local()  # the model that a thread has loaded, with the hash of its file


class FeatureExtractor:
    """Turns tables of encoded frames into tables of bottlenecks. Each thread loads its own interpreter.

    Two interpreters with one thread each compute as much as one with two, and give the same bits on any number of
    processors. Interpreters stay with their threads, so that this can be sent to another process.
    """

    def __init__(self, backbone: bytes, resize: str) -> None:
        self.sha256 = sha256_of_bytes(backbone)
        self.resize = resize
        self._backbone = backbone

    def table(self, source: Path, sha256: str) -> pa.Table:
        """Compute the bottlenecks of one take.

        Args:
            source: A table with the schema `FRAMES` or `AUGMENTED`.
            sha256: Hash of its content.

        Returns:
            A table with the schema `bottlenecks_schema`, in the same order.
        """
        frames = read_unchanged(source, sha256)
        copies = frames["copy"] if "copy" in frames.column_names else pa.array([0] * frames.num_rows, pa.int16())
        features = map_frames(self.features, frames["image"].to_pylist())
        feature_length = len(features[0]) if features else self._model().output_length
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
