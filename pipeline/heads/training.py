"""Trains a linear head on bottlenecks: to convergence (`lbfgs`, the default) or for a number of steps (`adamw`)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.config.train import ALL_TAKES, HEAD, LBFGS, TrainingConfig
from pipeline.config.unknown import KEEP_PERCENT
from pipeline.heads.choosing import STRENGTHS, choose, least_margin_of
from pipeline.heads.head_file import Head
from pipeline.heads.regression import fit_path
from pipeline.heads.trained import TrainedHead
from pipeline.heads.weighing import row_weights
from pipeline.takes.folds import deal
from pipeline.takes.rows import Rows
from pipeline.takes.splits import VALIDATION


def train_head(
    rows: Rows,
    config: TrainingConfig,
    *,
    title: str,
    keep_percent: float = KEEP_PERCENT,
    says_yes_or_no: bool = False,
    log_folder: Path | None = None,
) -> TrainedHead:
    """Train a head; the same rows and settings give the same head, bit for bit, on one machine.

    Args:
        rows: Frames and their augmented copies; every label of `rows.labels` among them. If some are none of the
            labels, the head has an output for them, and a threshold.
        config: Settings.
        title: For the progress bar of `adamw`.
        keep_percent: Of the labels' frames, at the threshold.
        says_yes_or_no: Whether labels are `no` and `yes`. With `lbfgs` the head then says yes, with a probability above
            a half, from where on F1 is highest out of fold (see `choosing.least_margin_of`).
        log_folder: Where TensorBoard's event files of `adamw` go; None for none.
    """
    if config.optimizer == LBFGS:
        return _to_convergence(rows, config, keep_percent, says_yes_or_no=says_yes_or_no)
    # TensorFlow's seconds are for those who ask for them.
    from pipeline.heads.steps import train_in_steps  # noqa: PLC0415

    folds = _folds(rows, config.mode) if rows.have_others else ()
    return train_in_steps(rows, config, folds[:1], keep_percent=keep_percent, title=title, log_folder=log_folder)


def train_both(
    rows: Rows,
    config: TrainingConfig,
    *,
    title: str,
    keep_percent: float,
    says_yes_or_no: bool = False,
    log_folder: Path | None = None,
) -> tuple[TrainedHead, TrainedHead]:
    """Train a head that never sees the test takes, and the one that is shipped.

    They are the same unless the shipped one is to learn from all takes, and the backbone has not learned from any.

    Args:
        rows: Frames of all takes and their augmented copies.
        config: Settings.
        title: See `train_head`, as for all that follows.
        keep_percent: Of the labels' frames.
        says_yes_or_no: Whether labels are `no` and `yes`.
        log_folder: Of `adamw`.
    """
    trained = partial(
        train_head,
        config=config,
        title=title,
        keep_percent=keep_percent,
        says_yes_or_no=says_yes_or_no,
        log_folder=log_folder,
    )
    held_out = trained(rows.only(rows.are_for_training))
    return held_out, trained(rows) if config.final == ALL_TAKES and config.mode == HEAD else held_out


def fit_head(
    rows: Rows, strength: float, *, class_balance: bool, temperature: float = 1.0, threshold: float | None = None
) -> Head:
    """Fit a logistic regression of a given strength on all rows.

    Args:
        rows: To train on.
        strength: Of the regularization (see `regression`).
        class_balance: Whether every label counts the same.
        temperature: That logits are divided by.
        threshold: See `Head`; needed if some rows are none of the labels.
    """
    weights = row_weights(rows.label_indices, len(rows.labels), class_balance=class_balance)
    with threadpool_limits(1):  # the same bits on any number of processors; and faster, since the matrices are small
        matrix, bias = next(fit_path(rows.features, rows.label_indices, weights, [strength]))
    return Head(
        (matrix / temperature).astype(np.float32), (bias / temperature).astype(np.float32), rows.labels, threshold
    )


def _to_convergence(rows: Rows, config: TrainingConfig, keep_percent: float, *, says_yes_or_no: bool) -> TrainedHead:
    """Choose strength, temperature and threshold by holding units out, then train on all of them."""
    strengths = STRENGTHS if config.regularization is None else (config.regularization,)
    balance = config.class_balance
    choice = choose(rows, _folds(rows, config.mode), strengths, class_balance=balance, keep_percent=keep_percent)
    head = fit_head(
        rows, choice.strength, class_balance=balance, temperature=choice.temperature, threshold=choice.threshold
    )
    if says_yes_or_no:
        margin = least_margin_of(choice.logits[:, 1] - choice.logits[:, 0], choice.actual == 1)
        head = replace(head, bias=(head.bias - np.array([0, margin])).astype(np.float32))
    summary = f"regularization {choice.strength:g}, temperature {choice.temperature:.2f}"
    return TrainedHead(head, choice.path, summary + head.threshold_in_words, choice.strength)


def _folds(rows: Rows, mode: str) -> Sequence[Sequence[int]]:
    """Return the units that are held out together; a tuned backbone has learned from all but those of validation."""
    present = np.unique(rows.unit_indices).tolist()
    if mode == HEAD:
        return deal(rows.units, present)
    return [[index for index in present if rows.units[index].part == VALIDATION]]
