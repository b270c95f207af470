"""Bottlenecks with their labels, as many as the disk holds."""

import os
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_FLOAT_BYTES = 4


class FeatureFile:
    """Feature vectors in a file without a name, of which memory holds only the rows that are asked for.

    100,000 frames with two copies each are 1.5 GB of features. They are read with `pread` and not mapped: mapped pages
    count as the process's own memory as soon as they were touched. The file is gone when the process ends, however.

    Attributes:
        shape: Number of vectors and their length.
    """

    def __init__(self, folder: Path) -> None:
        """Make an empty file on the disk that a folder lies on."""
        self.shape = (0, 0)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as this
        weakref.finalize(self, self._file.close)

    def append(self, vectors: npt.NDArray[np.float32]) -> None:
        """Write more vectors, float32 [num, feature_length], behind the others."""
        self._file.write(np.ascontiguousarray(vectors, np.float32).data)
        self._file.flush()
        self.shape = (self.shape[0] + len(vectors), vectors.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Read some vectors: indices [num], 0 and up, in any order; float32 [num, feature_length]."""
        num_bytes = self.shape[1] * _FLOAT_BYTES
        rows = [os.pread(self._file.fileno(), num_bytes, index * num_bytes) for index in indices.tolist()]
        return np.frombuffer(bytearray().join(rows), np.float32).reshape(len(rows), self.shape[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Read all vectors; NumPy calls this."""
        return self[np.arange(len(self))].astype(dtype or np.float32, copy=False)


@dataclass(frozen=True)
class Examples:
    """Bottlenecks with their labels.

    Attributes:
        features: float32 [num_examples, feature_length].
        label_indices: int64 [num_examples], indices into the labels.
    """

    features: npt.NDArray[np.float32] | FeatureFile
    label_indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label_indices)
