"""The file that a trained head is kept in: safetensors, which cannot run code and is read without Keras.

The arrays are `weights` and `bias`; the header's metadata holds one entry, a JSON text with the format's version, the
labels and the threshold. Equal heads give equal bytes: there is neither a date nor a version of a library in the file.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.errors import ModelError

FORMAT = 2  # raise it when files change so that an earlier version would misread them
INDEX = "index.json"
_ENTRY = "viewfinder_head"  # the only one: safetensors writes several in an order that changes from run to run


@dataclass(frozen=True)
class Head:
    """A linear classifier on bottlenecks: logits = features @ weights + bias.

    Attributes:
        weights: float32 [feature_length, num_outputs]; there are as many outputs as labels, and one more for what is
            none of them if there is a threshold and labels exclude each other.
        bias: float32 [num_outputs].
        labels: Label names in the order of the logits.
        threshold: Probability of the most probable label below which the picture shows none of them, 0..1; None if the
            head knows nothing but its labels.
        labels_exclude_each_other: Whether one label is true of a picture; else each is or is not, by itself.
    """

    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    threshold: float | None = None
    labels_exclude_each_other: bool = True

    @property
    def has_none(self) -> bool:
        """Tell whether the last output is for what is none of the labels."""
        return self.threshold is not None and self.labels_exclude_each_other

    @property
    def threshold_in_words(self) -> str:
        """Return the threshold for the end of a line; nothing if there is none."""
        return "" if self.threshold is None else f", none of them below {self.threshold:.2f}"

    def probabilities(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the probability of each label, in the arithmetic of the shipped graph: float32.

        Args:
            features: float32 [num_rows, feature_length].

        Returns:
            float32 [num_rows, num_labels]. If labels exclude each other, what a row lacks to 1 is the probability that
            it is none of them.
        """
        from scipy.special import expit, softmax  # noqa: PLC0415 - a tenth of a second for those who only read a head

        logits = features @ self.weights + self.bias
        every: npt.NDArray[np.float32] = softmax(logits, axis=1) if self.labels_exclude_each_other else expit(logits)
        return every[:, : len(self.labels)]


def to_bytes(head: Head) -> bytes:
    """Return the content of a head's file."""
    told: dict[str, object] = {"format": FORMAT, "labels": head.labels, "threshold": head.threshold}
    if not head.labels_exclude_each_other:  # an earlier version refuses such a file, as it expects one output more
        told["labels_exclude_each_other"] = False
    description = json.dumps(told, ensure_ascii=False)
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
            head = Head(_array(file, "weights"), _array(file, "bias"), *_described(file.metadata() or {}))
        _check_shapes(head)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            found=f"{path} cannot be read ({error})",
            expected="a head written by the stage `train`",
            remedy="run `dvc repro`, or `dvc checkout` if the file was changed by hand",
        ) from error
    return head


def index_of_heads(names: Iterable[str]) -> str:
    """Return index.json, which tells `read_further_heads` which heads a folder has, and in which order."""
    return json.dumps({"heads": list(names)}) + "\n"


def read_further_heads(folder: Path, *, held_out: bool = False) -> dict[str, Head]:
    """Read the heads beside the first, in the order of `heads` in params.yaml.

    Args:
        folder: That the stage `multihead` wrote for a scheme.
        held_out: Whether to read those that have never seen the test takes.

    Returns:
        The heads by name; none if `heads` is empty.

    Raises:
        ModelError: If a file is missing, damaged, or no head.
    """
    try:
        names = json.loads((folder / INDEX).read_text(encoding="utf-8"))["heads"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            found=f"{folder}/{INDEX} cannot be read ({error})",
            expected="the list of heads that the stage `multihead` writes",
            remedy="run `dvc repro`, or `dvc checkout` if the file was changed by hand",
        ) from error
    return {name: read_head(folder / ("held_out" if held_out else "") / f"{name}.safetensors") for name in names}


def _array(file: Any, name: str) -> npt.NDArray[np.float32]:
    if name not in file.keys():  # noqa: SIM118 - the file is no mapping
        raise ValueError(f"it holds no `{name}`")
    array: npt.NDArray[np.float32] = file.get_tensor(name)
    if array.dtype != np.float32:
        raise ValueError(f"`{name}` is {array.dtype}, not float32")
    return array


def _described(metadata: dict[str, str]) -> tuple[tuple[str, ...], float | None, bool]:
    """Read labels, threshold and whether one label is true from the header; ValueError if it is not that of a head."""
    if _ENTRY not in metadata:
        raise ValueError(f"its header has no entry `{_ENTRY}`")
    description = json.loads(metadata[_ENTRY])
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"its header is not of format {FORMAT}: {metadata[_ENTRY]}")
    labels = description.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"its header has no list of labels: {metadata[_ENTRY]}")
    threshold = description.get("threshold")
    if threshold is not None and not (isinstance(threshold, float) and 0 <= threshold <= 1):
        raise ValueError(f"its header has a threshold that is no probability: {metadata[_ENTRY]}")
    return tuple(labels), threshold, description.get("labels_exclude_each_other", True) is True


def _check_shapes(head: Head) -> None:
    num_outputs = len(head.labels) + head.has_none
    if head.weights.ndim != 2 or head.weights.shape[1:] != (num_outputs,) or head.bias.shape != (num_outputs,):
        shapes = f"weights {list(head.weights.shape)} and bias {list(head.bias.shape)}"
        beside = ", and one output more for what is none of them" if head.has_none else ""
        raise ValueError(f"{shapes} do not fit {len(head.labels)} labels{beside}")
