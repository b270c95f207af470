"""Turns one take's frames into bottlenecks: what a backbone, or the lower part of one, makes of each frame."""

import threading
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.files import sha256_of_bytes
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.processes.workers import map_frames
from pipeline.takes.tables import bottlenecks_schema, read_unchanged, reader_of

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

    def table(self, source: Path, sha256: str) -> pa.RecordBatchReader:
        """Compute the bottlenecks of one take.

        Args:
            source: A table with the schema `FRAMES` or `AUGMENTED`.
            sha256: Hash of its content.

        Returns:
            A table with the schema `bottlenecks_schema`, in the same order. Reading it computes them.
        """
        return self._table(read_unchanged(source, sha256))

    def table_of_pictures(self, pictures: Mapping[str, bytes]) -> pa.RecordBatchReader:
        """Compute the bottlenecks of pictures that belong to no take.

        Args:
            pictures: JPEG files by name, which becomes the name of the frame.

        Returns:
            A table as `table` gives it, in the order of the names.
        """
        return self._table({"frame_id": name, "pts_seconds": 0.0, "image": pictures[name]} for name in sorted(pictures))

    def _table(self, frames: Iterable[dict[str, Any]]) -> pa.RecordBatchReader:
        rows = map_frames(self._row, frames)
        first = next(rows, None)
        feature_length = len(first["feature"]) if first else self._model().output_length
        return reader_of(chain([first] if first else [], rows), bottlenecks_schema(feature_length))

    def _row(self, frame: dict[str, Any]) -> dict[str, Any]:
        """Return the row of a frame, or of a copy of one."""
        feature = self.features(frame["image"])
        return {
            "frame_id": frame["frame_id"],
            "copy": frame.get("copy", 0),
            "pts_seconds": frame["pts_seconds"],
            "feature": feature,
        }

    def features(self, image: bytes) -> npt.NDArray[np.float32]:
        """Compute the feature vector, float32 [feature_length], of an encoded frame."""
        model = self._model()
        return model(to_model_input(decode_jpeg(image), model.input_pixels, self.resize))

    def _model(self) -> Model:
        if getattr(_of_thread, "sha256", None) != self.sha256:
            _of_thread.model, _of_thread.sha256 = Model(self._backbone, num_threads=1), self.sha256
        model: Model = _of_thread.model
        return model
