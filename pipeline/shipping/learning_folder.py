"""models/trainable: what an app gets that goes on learning.

trainable.tflite (see `litert.trainable`), labels.txt, replay.bin and check.bin (features of what it knows), golden.json
(a training with known losses), manifest.json, which describes them all. Files of features hold float32 numbers, little
endian, row after row, and nothing else; the manifest tells their shape, and which row of the head each belongs to.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import write_bytes, write_text
from pipeline.heads.replay import LabelledFeatures
from pipeline.heads.teaching import Recipe
from pipeline.litert.learner import Learner
from pipeline.litert.trainable import HeadShape
from pipeline.shipping.manifest import entries_of, made_with, to_json, version_of

LEARNING_FORMAT = 1
MODEL, LABELS, REPLAY, CHECK, GOLDEN = "trainable.tflite", "labels.txt", "replay.bin", "check.bin", "golden.json"

_APP_FILES = (MODEL, LABELS, REPLAY)
_NUM_GOLDEN_STEPS = 10
_MAX_GOLDEN_DIFFERENCE = 1e-3  # of a loss and of a bias; kernels that add in another order differ by a thousandth of it


def write_learning_folder(
    folder: Path,
    model: bytes,
    shape: HeadShape,
    replay: LabelledFeatures,
    check: LabelledFeatures,
    recipe: Recipe,
    deployed: Mapping[str, Any],
) -> None:
    """Write all files.

    Args:
        folder: Where to.
        model: A .tflite file that learns.
        shape: Of its head.
        replay: What it is shown again while it learns.
        check: What tells whether it has forgotten something.
        recipe: How it is taught.
        deployed: The manifest of the model that it was made of.
    """
    learner = Learner(model)
    write_bytes(folder / MODEL, model)
    write_text(folder / LABELS, "".join(f"{label}\n" for label in deployed["labels"]))
    write_bytes(folder / REPLAY, _little_endian(replay))
    write_bytes(folder / CHECK, _little_endian(check))
    write_text(folder / GOLDEN, to_json(_golden(learner, shape, replay, recipe)))
    files = entries_of(folder)
    given, answer = deployed["input"], {"dtype": "float32", "threshold": deployed["output"]["threshold"]}
    identity = {"input": given, "output": answer, "files": {name: files[name] for name in _APP_FILES}}
    described = {
        "format": LEARNING_FORMAT,
        "version": version_of(identity),
        "made_of": deployed["version"],
        "scheme": deployed["scheme"],
        "backbone": deployed["backbone"],
        "input": given,
        "output": answer,
        "labels": deployed["labels"],
        "head": asdict(shape) | {"num_outputs": shape.num_outputs, "batch_size": learner.batch_size},
        "training": asdict(recipe),
        "replay": _described(REPLAY, replay),
        "check": _described(CHECK, check),
        "files": files,
        "made_with": made_with(),
    }
    write_text(folder / "manifest.json", to_json(described))


def read_features(folder: Path, described: Mapping[str, Any]) -> LabelledFeatures:
    """Read a file of features that the manifest describes under `replay` or `check`."""
    numbers = np.fromfile(folder / described["file"], "<f4").astype(np.float32)
    return LabelledFeatures(numbers.reshape(described["shape"]), np.array(described["rows"], np.int64))


def shape_of(manifest: Mapping[str, Any]) -> HeadShape:
    """Return the shape of the head that a manifest describes."""
    fields = ("num_features", "num_labels", "num_new_labels", "knows_none")
    return HeadShape(**{name: manifest["head"][name] for name in fields})


def _little_endian(one: LabelledFeatures) -> bytes:
    return np.ascontiguousarray(one.features, "<f4").tobytes()


def _described(name: str, one: LabelledFeatures) -> dict[str, object]:
    return {
        "file": name,
        "dtype": "float32",
        "byte_order": "little",
        "shape": list(one.features.shape),
        "rows": one.rows.tolist(),
    }


def _golden(learner: Learner, shape: HeadShape, replay: LabelledFeatures, recipe: Recipe) -> dict[str, object]:
    """Train on some of the centres, the first of which is taken for a new label, and note what came of each step."""
    num = min(len(replay), learner.batch_size - 1)  # a row of padding at least
    chosen = np.linspace(0, len(replay) - 1, num).round().astype(int)
    rows = replay.rows[chosen]
    rows[0] = shape.num_labels
    batch = LabelledFeatures(replay.features[chosen], rows)
    labels = batch.one_hot(shape.num_outputs)
    losses = [
        learner.train(batch.features, labels, recipe.learning_rate, recipe.momentum) for _ in range(_NUM_GOLDEN_STEPS)
    ]
    return {
        "rule": "train on these rows of replay.bin, padded with zeros, once for each loss; then save."
        " No loss and no bias differs by more than max_difference",
        "max_difference": _MAX_GOLDEN_DIFFERENCE,
        "learning_rate": recipe.learning_rate,
        "momentum": recipe.momentum,
        "replay": chosen.tolist(),
        "rows": rows.tolist(),
        "losses": losses,
        "bias": learner.save()["bias"].tolist(),
    }
