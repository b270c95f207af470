"""The file that a trained head is kept in: safetensors, which cannot run code and is read without Keras.

The arrays are `weights` and `bias`; the header's metadata holds one entry, a JSON text with the format's version and
the labels. Equal heads give equal bytes: there is neither a date nor a version of a library in the file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.errors import ModelError

FORMAT = 1  # raise it when files change so that an earlier version would misread them
_ENTRY = "viewfinder_head"  # the only one: safetensors writes several in an order that changes from run to run


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


def to_bytes(head: Head) -> bytes:
    """Return the content of a head's file."""
    description = json.dumps({"format": FORMAT, "labels": head.labels}, ensure_ascii=False)
    arrays = {"weights": np.ascontiguousarray(head.weights), "bias": np.ascontiguousarray(head.bias)}
    content: bytes = save(arrays, metadata={_ENTRY: description})
    return content


def read_head(path: Path) -> Head:
    """Read a head that `to_bytes` made.

    Raises:
        ModelError: If the file is missing, damaged, of another format, or no head.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            head = Head(_array(file, "weights"), _array(file, "bias"), _labels(file.metadata() or {}))
        _check_shapes(head)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            found=f"{path} cannot be read ({error})",
            expected="a head written by the stage `train`",
            remedy="run `dvc repro`, or `dvc checkout` if the file was changed by hand",
        ) from error
    return head


def _array(file: Any, name: str) -> npt.NDArray[np.float32]:
    if name not in file.keys():  # noqa: SIM118 - the file is no mapping
        raise ValueError(f"it holds no `{name}`")
    array: npt.NDArray[np.float32] = file.get_tensor(name)
    if array.dtype != np.float32:
        raise ValueError(f"`{name}` is {array.dtype}, not float32")
    return array


def _labels(metadata: dict[str, str]) -> tuple[str, ...]:
    """Read the labels from the header's metadata; ValueError if it is not that of a head."""
    if _ENTRY not in metadata:
        raise ValueError(f"its header has no entry `{_ENTRY}`")
    description = json.loads(metadata[_ENTRY])
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"its header is not of format {FORMAT}: {metadata[_ENTRY]}")
    labels = description.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"its header has no list of labels: {metadata[_ENTRY]}")
    return tuple(labels)


def _check_shapes(head: Head) -> None:
    num_labels = len(head.labels)
    if head.weights.ndim != 2 or head.weights.shape[1:] != (num_labels,) or head.bias.shape != (num_labels,):
        shapes = f"weights {list(head.weights.shape)} and bias {list(head.bias.shape)}"
        raise ValueError(f"{shapes} do not fit {num_labels} labels")
