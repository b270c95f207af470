"""Trains and scores a further head: another question about the takes, on the bottlenecks that are there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.config.crossval import CrossvalConfig
from pipeline.config.heads import ONE
from pipeline.config.train import HEAD, TrainingConfig
from pipeline.config.unknown import UnknownConfig
from pipeline.errors import InputError
from pipeline.files.layout import LABELS
from pipeline.heads.crossvalidation import cross_validate
from pipeline.heads.head_file import Head
from pipeline.heads.questions import YES, relabelled, yes_or_no
from pipeline.heads.training import train_both
from pipeline.metrics.classification import Predictions
from pipeline.metrics.further import HeadScore
from pipeline.metrics.many import ManyPredictions
from pipeline.metrics.predictions import COLUMNS
from pipeline.metrics.unknown import figures_of
from pipeline.takes.answers import Answers
from pipeline.takes.engines import Engine
from pipeline.takes.lookalikes import without_lookalikes
from pipeline.takes.rows import Rows
from pipeline.takes.splits import TEST, TRAIN

THRESHOLD_OF_MANY = 0.5  # where `says_yes_or_no` has put it


@dataclass(frozen=True)
class Settings:
    """How heads are trained and scored, as the first head is."""

    training: TrainingConfig
    unknown: UnknownConfig
    crossval: CrossvalConfig


@dataclass(frozen=True)
class FurtherHead:
    """What comes of a question.

    Attributes:
        held_out: A head that has never seen the test takes.
        final: The head that is shipped.
        predictions: What cross-validation's heads say about each frame that they have not seen; empty if the backbone
            has learned from the takes.
        score: Of cross-validation; empty likewise.
    """

    held_out: Head
    final: Head
    predictions: pd.DataFrame
    score: HeadScore


def train_further(
    rows: Rows, kind: str, answers: Answers, settings: Settings, *, title: str, engine: Engine
) -> FurtherHead:
    """Train a head and cross-validate it.

    Args:
        rows: Of all takes, under the labels of the first head.
        kind: `one` or `many`, see `config.heads`.
        answers: The labels of each take.
        settings: How.
        title: For the progress bar.
        engine: Trains the heads of cross-validation's folds.

    Raises:
        InputError: If a label has no frame to train on.
    """
    if kind == ONE:
        return _of_one(relabelled(rows, answers), settings, title, engine)
    labels = sorted({label for found in answers.values() for label in found})
    rows_of = {label: yes_or_no(rows, answers, label) for label in labels}
    for label, of_label in rows_of.items():
        _refuse_few_takes(of_label, (YES,), settings.training.mode, of=f" of `{label}`")
    return _of_many(rows_of, answers, settings, title, engine)


def _of_one(rows: Rows, settings: Settings, title: str, engine: Engine) -> FurtherHead:
    _refuse_few_takes(rows, rows.labels, settings.training.mode)
    kept, lookalikes = without_lookalikes(rows)
    held_out, final = _trained(kept, settings, title)
    if settings.training.mode != HEAD:
        return FurtherHead(held_out, final, pd.DataFrame(columns=list(COLUMNS)), HeadScore({}, {}))
    predictions, asked = _cross_validated(kept, settings, title, engine)
    score = HeadScore.of(predictions, num_bins=settings.crossval.num_calibration_bins)
    if len(asked):
        score.figures["unknown"] = figures_of(asked) | {"lookalikes": {one.take: one.label for one in lookalikes}}
    return FurtherHead(held_out, final, predictions.table(), score)


def _of_many(
    rows_of: Mapping[str, Rows], answers: Answers, settings: Settings, title: str, engine: Engine
) -> FurtherHead:
    """Train a yes-or-no head for each label, and put them side by side.

    A softmax over two logits is the sigmoid of their difference.
    """
    labels = tuple(rows_of)
    pairs = [_trained(rows, settings, f"{title} {label}", says_yes_or_no=True) for label, rows in rows_of.items()]
    held_out, final = (side_by_side(labels, heads) for heads in zip(*pairs, strict=True))
    if settings.training.mode != HEAD:
        return FurtherHead(held_out, final, pd.DataFrame(columns=list(COLUMNS)), HeadScore({}, {}))
    with engine.session():
        found = {
            label: _cross_validated(rows, settings, f"{title} {label}", engine, says_yes_or_no=True)[0]
            for label, rows in rows_of.items()
        }
    predictions = ManyPredictions.of(found, set(answers))
    score = HeadScore.of(predictions, num_bins=settings.crossval.num_calibration_bins)
    return FurtherHead(held_out, final, predictions.table(), score)


def side_by_side(labels: tuple[str, ...], heads: tuple[Head, ...]) -> Head:
    """Return one head of labels that may be true together, of a head for each that says `no` or `yes`."""
    weights = np.stack([head.weights[:, head.labels.index(YES)] - head.weights[:, 0] for head in heads], axis=1)
    bias = np.array([head.bias[head.labels.index(YES)] - head.bias[0] for head in heads], np.float32)
    return Head(weights, bias, labels, THRESHOLD_OF_MANY, labels_exclude_each_other=False)


def _trained(rows: Rows, settings: Settings, title: str, *, says_yes_or_no: bool = False) -> tuple[Head, Head]:
    """Return a head that has not seen the test takes, and the one that is shipped."""
    held_out, final = train_both(
        rows,
        settings.training,
        keep_percent=settings.unknown.keep_percent,
        says_yes_or_no=says_yes_or_no,
        title=title,
    )
    return held_out.head, final.head


def _refuse_few_takes(rows: Rows, labels: Sequence[str], mode: str, *, of: str = "") -> None:
    """Raise InputError unless each label has a take to hold out beside one to train on.

    Where the backbone has learned from train takes, these are one for training and one for testing.
    """
    for label in labels:
        parts = [unit.part for unit in rows.units if unit.label == label]
        lacking = [part for part in (TRAIN, TEST) if part not in parts] if mode != HEAD else []
        if len(parts) < 2 or lacking:
            part = f" for {' and '.join(lacking)}" if lacking else ""
            raise InputError(
                found=f"label '{label}'{of} has {len(parts)} take(s){part and f', and none{part}'}",
                expected="a take to hold out beside one to train on (with mode: finetune in the parts test and train)",
                remedy=f"name more takes in {LABELS}, or film some",
            )


def _cross_validated(
    rows: Rows, settings: Settings, title: str, engine: Engine, *, says_yes_or_no: bool = False
) -> tuple[Predictions, pd.DataFrame]:
    found = cross_validate(
        rows,
        settings.training,
        num_folds=settings.crossval.num_folds,
        percents=settings.crossval.learning_percents,
        title=title,
        keep_percent=settings.unknown.keep_percent,
        says_yes_or_no=says_yes_or_no,
        engine=engine,
    )
    return found.predictions, found.asked
