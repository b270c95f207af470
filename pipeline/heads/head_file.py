"""The file that a trained head is kept in: a Keras model, readable without Keras.

A `.keras` file is a zip with the weights as HDF5 inside (https://keras.io/api/models/model_saving_apis/model_saving_and_loading/).
Reading those directly spares the stages after training the seconds that importing TensorFlow takes.
"""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError

LOGITS_LAYER = "logits"
_LABELS_ENTRY = "labels.json"
_METADATA_ENTRY = "metadata.json"
_CONFIG_ENTRY = "config.json"
_WEIGHTS_ENTRY = "model.weights.h5"
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Head:
    """A linear classifier on bottlenecks: logits = features @ weights + bias.

    Attributes:
        weights: float32 [feature_length, num_labels].
        bias: float32 [num_labels].
        labels: Label names in the order of the logits.
    """

    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    labels: tuple[str, ...]


def pack(keras_file: bytes, labels: list[str]) -> bytes:
    """Add the labels to a `.keras` file and take out the dates, so that equal heads give equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(keras_file)) as source, zipfile.ZipFile(packed, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename in (_METADATA_ENTRY, _CONFIG_ENTRY):
                content = json.dumps(_without_accidents(json.loads(content))).encode()
            target.writestr(zipfile.ZipInfo(entry.filename, _FIXED_DATE), content)
        target.writestr(zipfile.ZipInfo(_LABELS_ENTRY, _FIXED_DATE), json.dumps(labels, ensure_ascii=False))
    return packed.getvalue()


def read_head(path: Path) -> Head:
    """Read a head that `pack` wrote.

    Raises:
        PipelineError: If the file is missing, damaged, or some other Keras file.
    """
    try:
        with zipfile.ZipFile(path) as file, h5py.File(io.BytesIO(file.read(_WEIGHTS_ENTRY))) as weights:
            variables = _logits_variables(weights)
            return Head(variables[0], variables[1], tuple(json.loads(file.read(_LABELS_ENTRY))))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise PipelineError(
            found=f"{path} cannot be read ({error})",
            expected="a head written by the stage `train`",
            remedy="run `dvc repro`",
        ) from error


def _without_accidents(value: Any) -> Any:
    """Take out what differs from run to run: dates, and addresses of objects in memory (which only save space)."""
    if isinstance(value, dict):
        kept = {key: _without_accidents(inner) for key, inner in value.items() if key != "shared_object_id"}
        return {**kept, "date_saved": "1980-01-01@00:00:00"} if "date_saved" in kept else kept
    return [_without_accidents(inner) for inner in value] if isinstance(value, list) else value


def _logits_variables(weights: h5py.File) -> list[npt.NDArray[np.float32]]:
    """Return kernel and bias of the only layer that has variables."""
    found = [group["vars"] for group in weights["layers"].values() if len(group.get("vars", ()))]
    if len(found) != 1 or len(found[0]) != 2:
        raise ValueError("not one layer with kernel and bias")
    return [np.asarray(found[0][name], np.float32) for name in ("0", "1")]
