"""What `viewfinder trainable` does: makes a model that goes on learning, and tells what one has learned."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.unknown import LEARNED, OFF
from pipeline.errors import ModelError
from pipeline.files import layout
from pipeline.heads.head_file import Head, read_head
from pipeline.heads.inputs import learned_rows
from pipeline.heads.replay import centres_of, check_of, mean_squared_length
from pipeline.heads.teaching import recipe_for
from pipeline.litert.head import features_of
from pipeline.litert.interpreter import Model
from pipeline.litert.learner import Learner
from pipeline.litert.probes import probes
from pipeline.litert.trainable import HeadShape, with_training
from pipeline.shipping.checkpoint import read_checkpoint
from pipeline.shipping.learning_folder import MODEL, read_features, shape_of, write_learning_folder
from pipeline.shipping.manifest import read_manifest
from pipeline.takes.staging import staged
from pipeline.tools.results import further_heads_of, tell_of_heads_left_out
from pipeline.tools.tables import text_table

_NUM_CHECK_FRAMES = 16  # of a label
_MAX_DIFFERENCE = 1e-6  # of a probability, before anything was learned


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        num_new_labels: That there is room for.
        batch_size: Rows of a training step.
        num_centres: Of each label, against forgetting.
    """

    num_new_labels: int
    batch_size: int
    num_centres: int


def trainable(request: Request) -> Path:
    """Write models/trainable/, whole or not at all.

    Returns:
        The folder.

    Raises:
        InputError: If there is no deployed model, or no bottlenecks of its scheme.
        ModelError: If the deployed model has no head of ours, or another than models/heads/ holds.
    """
    deployed = read_manifest(layout.DEPLOYED, "a deployed model", "run `make repro`, which deploys one")
    tell_of_heads_left_out("trainable", further_heads_of(deployed))
    scheme, shipped = deployed["scheme"], (layout.DEPLOYED / "model.tflite").read_bytes()
    head = read_head(layout.head(scheme))
    rows, _ = learned_rows(scheme, OFF if head.threshold is None else LEARNED)
    backbone = features_of(shipped)
    shape = HeadShape(len(head.weights), len(head.labels), request.num_new_labels, head.threshold is not None)
    model = with_training(backbone, head.weights, head.bias, shape, request.batch_size)
    _prove(model, shipped, backbone, head, deployed)
    replay = centres_of(rows, shape, request.num_centres)
    with staged(layout.TRAINABLE) as staging:
        write_learning_folder(
            staging,
            model,
            shape,
            replay,
            check_of(rows, shape, _NUM_CHECK_FRAMES),
            recipe_for(mean_squared_length(rows)),
            deployed,
        )
    more = len(model) - len(shipped)
    told = f"{scheme}, {len(model):,} bytes ({more:+,} against model.tflite)"
    sys.stderr.write(f"trainable: {told}, room for {request.num_new_labels} new labels, {len(replay)} centres\n")
    return layout.TRAINABLE


def learned(path: Path) -> str:
    """Return what a checkpoint knows, as a table for a terminal.

    Raises:
        InputError: If models/trainable or the checkpoint is not there.
        ModelError: If the checkpoint is damaged, or one of another model.
    """
    manifest = read_manifest(layout.TRAINABLE, "a model that learns", "make it: viewfinder trainable")
    checkpoint, num_named = read_checkpoint(path, manifest), shape_of(manifest).num_named
    start = Learner((layout.TRAINABLE / MODEL).read_bytes()).save()
    check = read_features(layout.TRAINABLE, manifest["check"])
    before = check.are_right(start["weights"], start["bias"], num_named)
    after = check.are_right(checkpoint.weights, checkpoint.bias, num_named)
    lines = [
        _line(label, "test frames", [before[check.rows == row], after[check.rows == row]])
        for row, label in enumerate(manifest["labels"])
    ]
    examples = checkpoint.examples
    known = examples.are_right(checkpoint.weights, checkpoint.bias, num_named)
    first = len(manifest["labels"])
    lines += [
        _line(label, "what it was taught by", [np.zeros(0, bool), known[examples.rows == row]])
        for row, label in enumerate(checkpoint.new_labels, first)
    ]
    return text_table(("label", "of", "frames", "right before", "right now"), lines) + "\n"


def _line(label: str, of: str, flags: Sequence[npt.NDArray[np.bool_]]) -> tuple[str, ...]:
    return (label, of, str(len(flags[-1])), *(f"{one.mean():.0%}" if len(one) else "-" for one in flags))


def _prove(model: bytes, shipped: bytes, backbone: bytes, head: Head, deployed: Mapping[str, Any]) -> None:
    """Compare with what is deployed, from pixels.

    Raises:
        ModelError: If features are not the backbone's bit for bit, or probabilities not those of the deployed model.
    """
    learner, run_shipped, run_backbone = Learner(model), Model(shipped), Model(backbone)
    if list(head.labels) != deployed["labels"]:
        raise _another(f"{layout.DEPLOYED} knows {', '.join(deployed['labels'])}, its head {', '.join(head.labels)}")
    for picture in probes(run_shipped.input_pixels):
        features, probabilities = learner.infer(picture)
        if not np.array_equal(features, run_backbone(picture)):
            raise _another("features of the model that learns differ from those of the deployed one")
        known = len(head.labels)  # of the first head, behind which others may stand
        difference = float(np.abs(probabilities[:known] - run_shipped(picture)[:known]).max())
        if not difference <= _MAX_DIFFERENCE:
            raise _another(f"probabilities of the model that learns are off by {difference:.2g}")


def _another(found: str) -> ModelError:
    return ModelError(
        found=found,
        expected=f"a head in {layout.head('*').parent}/ that is the deployed model's",
        remedy="run `dvc repro`, and this command again",
    )
