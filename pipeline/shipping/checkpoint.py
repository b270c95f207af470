"""What a phone has learned, in a file: safetensors, which every language reads in a few lines and which runs no code.

The arrays are `weights` and `bias`, as the signature `save` gives them, and `examples`, the features of what was
taught: without them the next lesson would drive out this one. The header's metadata holds one entry, a JSON text with
the format, the version of the model (`version` in models/trainable/manifest.json), the names of the labels that were
taught, and the row of the head that each example belongs to.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from pipeline.errors import InputError, ModelError
from pipeline.heads.replay import LabelledFeatures

CHECKPOINT_FORMAT = 1
ENTRY = "viewfinder_checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """What a phone has learned.

    Attributes:
        weights: float32 [num_outputs, num_features].
        bias: float32 [num_outputs].
        new_labels: Names of the labels that were taught, in the order of their rows, behind those that shipped.
        examples: What they were taught by.
    """

    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    new_labels: tuple[str, ...]
    examples: LabelledFeatures


def read_checkpoint(path: Path, manifest: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint of the model that a manifest describes.

    Args:
        path: The file.
        manifest: Of models/trainable.

    Raises:
        ModelError: If the file is damaged, no checkpoint, or one of another model.
        InputError: If it is not there.
    """
    if not path.is_file():
        raise InputError(
            found=f"no checkpoint {path}", expected="a file that a phone or the page saved", remedy="name another one"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            told = _told(file.metadata() or {}, manifest)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
        return _checked(arrays, told, manifest["head"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            found=f"{path} is no checkpoint, or a damaged one ({error})",
            expected="a file that a phone or the page saved, whole",
            remedy="save it again",
        ) from error


def _told(metadata: Mapping[str, str], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the header's entry, of this model."""
    if ENTRY not in metadata:
        raise ValueError(f"its header has no entry `{ENTRY}`")
    told = json.loads(metadata[ENTRY])
    if not isinstance(told, dict) or told.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(f"its header is not of format {CHECKPOINT_FORMAT}: {metadata[ENTRY]}")
    if told.get("version") != manifest["version"]:
        raise ModelError(
            found=f"a checkpoint of the model {told.get('version')}",
            expected=f"one of the model {manifest['version']}",
            remedy="teach the labels anew: another model has other features, or other labels",
        )
    return told


def _checked(
    arrays: Mapping[str, npt.NDArray[np.float32]], told: Mapping[str, Any], head: Mapping[str, Any]
) -> Checkpoint:
    rows = np.array(told["example_rows"], np.int64)
    expected = {
        "weights": (head["num_outputs"], head["num_features"]),
        "bias": (head["num_outputs"],),
        "examples": (len(rows), head["num_features"]),
    }
    for name, shape in expected.items():
        found = arrays[name]
        if found.dtype != np.float32 or found.shape != shape:
            raise ValueError(f"`{name}` is {found.dtype} {list(found.shape)}, not float32 {list(shape)}")
        if not np.isfinite(found).all():
            raise ValueError(f"`{name}` holds what is no number")
    new_labels, first = tuple(map(str, told["new_labels"])), head["num_labels"]
    if len(new_labels) > head["num_new_labels"]:
        raise ValueError(f"it names {len(new_labels)} new labels, and there is room for {head['num_new_labels']}")
    if not np.isin(rows, first + np.arange(len(new_labels))).all():
        raise ValueError("an example belongs to a label that it does not name")
    return Checkpoint(arrays["weights"], arrays["bias"], new_labels, LabelledFeatures(arrays["examples"], rows))
