"""The heads that are trained without a fold: what cross-validation computes, in jobs that may run on other machines.

A job travels with all rows, which are put together to bytes once. What comes back are the heads, a row each; they are
asked where the stage runs.
"""

import math
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits

from pipeline.config.train import TrainingConfig
from pipeline.files.os_errors import telling_full_disk
from pipeline.heads.choosing import DEFAULT_STRENGTH, DEFAULT_THRESHOLD
from pipeline.heads.head_file import Head
from pipeline.heads.training import fit_head, train_head
from pipeline.heads.unknown import MAX_HEADS, without_label
from pipeline.keys.processor import PROCESSOR, processor_features
from pipeline.processes.progress import Progress
from pipeline.takes.assignment import place_of
from pipeline.takes.engines import Engine
from pipeline.takes.jobs import TakeJob
from pipeline.takes.rows import Rows, Unit
from pipeline.takes.tables import read_parquet, reader_of

ALL = 100  # percent

_NO_LABEL = -1
_SCHEMA = pa.schema(
    [
        ("percent", pa.int16()),
        ("label", pa.int32()),
        ("threshold", pa.float64()),
        ("weights", pa.list_(pa.float32())),
        ("bias", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class FoldSettings:
    """How the heads of all folds are trained.

    Attributes:
        training: As the shipped head is.
        percents: Shares of the takes that further heads learn from; heads that are trained in steps learn from all.
        keep_percent: Of the labels' frames, at the threshold.
        says_yes_or_no: See `train_head`.
        title: For the progress bars.
    """

    training: TrainingConfig
    percents: tuple[int, ...]
    keep_percent: float
    says_yes_or_no: bool
    title: str


@dataclass(frozen=True)
class FoldHeads:
    """What is trained without a fold.

    Attributes:
        of_percent: Heads by the share of the other takes that they have learned from; `ALL` chose its own settings, the
            others take its strength.
        num_takes: How many takes of labels each share is.
        without_label: Heads that do not know one label, by its index (see `unknown.ask_without_a_label`).
    """

    of_percent: dict[int, Head]
    num_takes: dict[int, int]
    without_label: dict[int, Head]


class FoldTraining:
    """Trains heads without one fold or another."""

    def __init__(self, rows: Rows, folds: Sequence[Sequence[int]], settings: FoldSettings) -> None:
        """Keep what to train on.

        Args:
            rows: All frames and copies.
            folds: Indices of the units that are held out together.
            settings: How.
        """
        self.rows = rows
        self.folds = folds
        self.settings = settings

    def __reduce__(self) -> tuple[Callable[..., "FoldTraining"], tuple[bytes]]:
        """Travel as bytes, the same object for each job, so that an engine sends them to a machine once."""
        return _unpacked, (self._packed,)

    @cached_property
    def _packed(self) -> bytes:
        return pickle.dumps((self.rows, self.folds, self.settings), protocol=5)

    def run(self, engine: Engine) -> list[FoldHeads]:
        """Train the heads of all folds.

        Args:
            engine: Runs a job for each fold; the heads are the same wherever.

        Raises:
            PipelineError: If a fold cannot be computed, or the disk is full.
        """
        jobs = self.jobs()
        with (
            TemporaryDirectory(ignore_cleanup_errors=True) as folder,  # a thread may still write when Ctrl-C comes
            telling_full_disk(Path(folder)),
            Progress(self.settings.title, total=len(jobs), unit="fold") as progress,
            closing(engine.run(jobs, Path(folder))) as outcomes,
        ):
            for _, error in outcomes:
                if error:
                    raise error
                progress.update()
            return [self._read(number, Path(folder) / job.output) for number, job in enumerate(jobs)]

    def jobs(self) -> list[TakeJob]:
        """Return a job for each fold."""
        depends_on = {
            "rows": self.rows.sha256(),
            "folds": self.folds,
            "settings": asdict(self.settings),
            PROCESSOR: processor_features(),
        }
        return [
            TakeJob.of(
                f"{self.settings.title}, fold {number + 1}",
                Path(f"{number}.parquet"),
                partial(self.table, number),
                depends_on | {"fold": number},
            )
            for number in range(len(self.folds))
        ]

    def table(self, number: int) -> pa.RecordBatchReader:
        """Train the heads of a fold.

        Args:
            number: Of the fold.

        Returns:
            A table with a row for each head: percent, label (the one that it does not know, or -1), threshold, weights
            and bias.
        """
        return reader_of(self._trained(number), _SCHEMA)

    def _trained(self, number: int) -> Iterator[dict[str, Any]]:
        settings, training = self.settings, self.settings.training
        train = self.rows.only(~self.rows.of_units(self.folds[number]))
        whole = train_head(
            train,
            training,
            title=f"{settings.title}, head",
            keep_percent=settings.keep_percent,
            says_yes_or_no=settings.says_yes_or_no,
        )
        yield _row(whole.head)
        strength = DEFAULT_STRENGTH if whole.strength is None else whole.strength
        fit = partial(fit_head, strength=strength, class_balance=training.class_balance)

        def fit_some(percent: int) -> dict[str, Any]:
            chosen = some_units(train.units, np.unique(train.unit_indices).tolist(), train.labels, percent)
            return _row(fit(train.only(train.of_units(chosen))), percent=percent)

        def fit_without(label: int) -> dict[str, Any]:
            frames = without_label(train.only(train.are_frames), label)
            return _row(fit(frames, threshold=DEFAULT_THRESHOLD), label=label)

        percents = settings.percents if whole.strength is not None else ()
        labels = self._left_out(number)
        with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as executor:
            yield from chain(executor.map(fit_some, percents), executor.map(fit_without, labels))  # all are begun here

    def _left_out(self, number: int) -> list[int]:
        """Return the indices of labels that heads of a fold are to be trained without: those that it shows."""
        rows = self.rows
        if not rows.have_others or number >= max(1, MAX_HEADS // len(rows.labels)):
            return []
        shown = rows.label_indices[rows.of_units(self.folds[number]) & rows.are_frames & rows.are_of_labels]
        found: list[int] = np.unique(shown).tolist()
        return found if len(found) > 1 else []  # beside it, another label must be asked about

    def _read(self, number: int, path: Path) -> FoldHeads:
        labels, of_percent, without = self.rows.labels, dict[int, Head](), dict[int, Head]()
        for row in read_parquet(path).to_pylist():
            left_out, bias = row["label"], np.array(row["bias"], np.float32)
            weights = np.array(row["weights"], np.float32).reshape(-1, len(bias))
            known = tuple(label for index, label in enumerate(labels) if index != left_out)
            head = Head(weights, bias, known, row["threshold"])
            if left_out == _NO_LABEL:
                of_percent[row["percent"]] = head
            else:
                without[left_out] = head
        return FoldHeads(of_percent, self._num_takes(number), without)

    def _num_takes(self, number: int) -> dict[int, int]:
        units, labels = self.rows.units, self.rows.labels
        left = sorted({*np.unique(self.rows.unit_indices).tolist()} - {*self.folds[number]})
        return {
            percent: sum(units[index].label in labels for index in some_units(units, left, labels, percent))
            for percent in (*self.settings.percents, ALL)
        }


def some_units(units: Sequence[Unit], present: Sequence[int], labels: Sequence[str], percent: int) -> list[int]:
    """Return a share of the units of each label, at least one of each, those with the lowest places.

    What is none of the labels is there as a whole: it does not grow with what is filmed.

    Args:
        units: All units.
        present: Indices of those to choose from, sorted.
        labels: What is a label.
        percent: How large the share is.
    """
    of_label: dict[str, list[int]] = {}
    for index in present:
        of_label.setdefault(units[index].label, []).append(index)
    chosen = []
    for label, group in of_label.items():
        if label not in labels:
            chosen += group
            continue
        ordered = sorted(group, key=lambda index: place_of(f"learning/{units[index]}"))
        chosen += ordered[: max(1, math.floor(percent * len(group) / 100 + 0.5))]
    return sorted(chosen)


def _row(head: Head, *, percent: int = ALL, label: int = _NO_LABEL) -> dict[str, Any]:
    weights: npt.NDArray[np.float32] = np.ascontiguousarray(head.weights, np.float32)
    return {
        "percent": percent,
        "label": label,
        "threshold": head.threshold,
        "weights": weights.ravel(),
        "bias": head.bias,
    }


def _unpacked(packed: bytes) -> FoldTraining:
    return FoldTraining(*pickle.loads(packed))
