"""Asks heads about what they have never been shown: each label in turn is left out, as if nobody knew it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from pipeline.heads.choosing import threshold_of
from pipeline.heads.head_file import Head
from pipeline.metrics.unknown import LEFT_OUT, OTHERS, asked_table
from pipeline.takes.rows import Rows

MAX_HEADS = 60  # that are trained without a label; with more labels, fewer folds are asked


def ask_without_a_label(
    rows: Rows, fold: Sequence[int], heads: Mapping[int, Head], *, keep_percent: float
) -> list[pd.DataFrame]:
    """Ask heads that do not know a label about a fold that they have not seen.

    What they learn that something is none of the labels from is the same as for the head that ships, so this tells what
    becomes of things that neither the labels nor data/strangers show. The heads learn from frames, without copies.

    Args:
        rows: All frames; some are none of the labels.
        fold: Indices of the units that were held out.
        heads: By the index of the label that each does not know; the fold shows it, and another one.
        keep_percent: Of the other labels' frames of the fold, at the threshold.

    Returns:
        A table for each head, see `metrics.unknown.asked_table`.
    """
    frames = rows.only(rows.are_frames & rows.are_of_labels & rows.of_units(fold))

    def ask(label: int, head: Head) -> pd.DataFrame:
        shows_it = frames.label_indices == label
        known, unknown = frames.only(~shows_it), frames.only(shows_it)
        probabilities = head.probabilities(np.concatenate([known.features, unknown.features]))
        units = np.concatenate([known.unit_indices, unknown.unit_indices])
        return asked_table(
            kind=[OTHERS] * len(known) + [LEFT_OUT] * len(unknown),
            take=[rows.units[index].take for index in units],
            left_out=rows.labels[label],
            probability=probabilities.max(1),
            threshold=threshold_of(probabilities[: len(known)], keep_percent),
        )

    with threadpool_limits(1):  # the same bits on any number of processors
        return [ask(label, head) for label, head in heads.items()]


def without_label(rows: Rows, label: int) -> Rows:
    """Return the rows that show another label or none, as rows that do not know of that label."""
    kept = rows.only(rows.label_indices != label)
    labels = rows.labels[:label] + rows.labels[label + 1 :]
    return replace(kept, label_indices=kept.label_indices - (kept.label_indices > label), labels=labels)
