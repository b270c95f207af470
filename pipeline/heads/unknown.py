"""Asks heads about what they have never been shown: each label in turn is left out, as if nobody knew it."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from pipeline.heads.choosing import DEFAULT_THRESHOLD, threshold_of
from pipeline.heads.training import fit_head
from pipeline.metrics.unknown import LEFT_OUT, OTHERS, asked_table
from pipeline.processes.progress import counted
from pipeline.takes.rows import Rows

_MAX_HEADS = 60  # with more labels, fewer folds are asked


def ask_without_a_label(
    rows: Rows,
    folds: Sequence[Sequence[int]],
    strengths: Sequence[float],
    *,
    class_balance: bool,
    keep_percent: float,
    title: str,
) -> pd.DataFrame:
    """Train heads without a label and without a fold, and ask them about the fold.

    What they learn that something is none of the labels from is the same as for the head that ships, so this tells what
    becomes of things that neither the labels nor data/strangers show. The heads learn from frames, without copies.

    Args:
        rows: All frames; some are none of the labels.
        folds: Indices of the units that are held out together.
        strengths: Of each fold's regularization.
        class_balance: Whether every label counts the same.
        keep_percent: Of the other labels' frames of the fold, at the threshold.
        title: For the progress bar.

    Returns:
        See `metrics.unknown.asked_table`.
    """
    frames = rows.only(rows.are_frames)
    num_folds = max(1, min(len(folds), _MAX_HEADS // len(rows.labels)))
    of_labels = frames.are_of_labels

    def ask(number_and_label: tuple[int, int]) -> pd.DataFrame:
        number, label = number_and_label
        is_held_out, shows_it = frames.of_units(folds[number]), frames.label_indices == label
        head = fit_head(
            without_label(frames.only(~is_held_out), label),
            strengths[number],
            class_balance=class_balance,
            threshold=DEFAULT_THRESHOLD,
        )
        known, unknown = frames.only(is_held_out & of_labels & ~shows_it), frames.only(is_held_out & shows_it)
        if not len(known) or not len(unknown):
            return asked_table()
        probabilities = head.probabilities(np.concatenate([known.features, unknown.features]))
        units = np.concatenate([known.unit_indices, unknown.unit_indices])
        return asked_table(
            kind=[OTHERS] * len(known) + [LEFT_OUT] * len(unknown),
            take=[rows.units[index].take for index in units],
            left_out=rows.labels[label],
            probability=probabilities.max(1),
            threshold=threshold_of(probabilities[: len(known)], keep_percent),
        )

    tasks = list(product(range(num_folds), range(len(rows.labels))))
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as executor:
        asked = executor.map(ask, tasks)
        found = list(counted(asked, f"{title}, without a label", total=len(tasks), unit="head", leave=False))
    return pd.concat([table for table in found if len(table)] or found[:1], ignore_index=True)


def without_label(rows: Rows, label: int) -> Rows:
    """Return the rows that show another label or none, as rows that do not know of that label."""
    kept = rows.only(rows.label_indices != label)
    labels = rows.labels[:label] + rows.labels[label + 1 :]
    return replace(kept, label_indices=kept.label_indices - (kept.label_indices > label), labels=labels)
