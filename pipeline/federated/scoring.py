"""How good heads are on what was held out: the federated one, a central one, and each client's own."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.config.crossval import CrossvalStage
from pipeline.federated.clients import SHARED, Clients, Indices
from pipeline.federated.descent import Floats, Weights, descend, rows_of_client
from pipeline.federated.simulation import Settings
from pipeline.heads.choosing import DEFAULT_THRESHOLD
from pipeline.heads.head_file import Head
from pipeline.heads.training import train_head
from pipeline.heads.weighing import row_weights
from pipeline.metrics.classification import Predictions
from pipeline.processes.progress import counted
from pipeline.takes.rows import Rows

MAX_ALONE = 100  # clients that are trained alone; of more, so many are drawn


class Alone(NamedTuple):
    """Frames as clients name them that learn alone; every client is asked about what it does not hold.

    Attributes:
        is_right: bool [num_answers].
        takes: The take of each.
        num_clients: That were asked.
    """

    is_right: npt.NDArray[np.bool_]
    takes: list[str]
    num_clients: int


def weights_without(rows: Rows, held_out: Indices, *, class_balance: bool) -> Floats:
    """Return what rows count, float32 [num_rows]: as for a head that is trained on all but some; these count 0."""
    weights = np.zeros(len(rows), np.float32)
    kept = np.setdiff1d(np.arange(len(rows)), held_out)
    weights[kept] = row_weights(rows.label_indices[kept], len(rows.labels), class_balance=class_balance)
    return weights


def head_of(weights: Weights, rows: Rows, threshold: float = DEFAULT_THRESHOLD) -> Head:
    """Return a head with its labels, and the threshold if it knows what is none of them."""
    return Head(weights.matrix, weights.bias, rows.labels, threshold if rows.have_others else None)


def out_of_fold(rows: Rows, folds: Sequence[Indices], head_of_fold: Callable[[int], Head]) -> Predictions:
    """Return what heads say about the frames that were held out from them.

    Args:
        rows: All rows.
        folds: Indices of the rows that are held out together.
        head_of_fold: The head that has not seen a fold.
    """
    is_asked = rows.are_frames & rows.are_of_labels
    probabilities, asked = np.zeros((len(rows), len(rows.labels)), np.float32), list[Indices]()
    for number, fold in enumerate(folds):
        asked.append(fold[is_asked[fold]])
        probabilities[asked[-1]] = head_of_fold(number).probabilities(rows.features[asked[-1]])
    chosen = np.sort(np.concatenate(asked))
    return Predictions(
        labels=rows.labels,
        takes=tuple(rows.units[index].take for index in rows.unit_indices[chosen]),
        frame_ids=tuple(rows.frame_ids[chosen]),
        actual=rows.label_indices[chosen],
        probabilities=probabilities[chosen],
    )


def central(rows: Rows, folds: Sequence[Indices], config: CrossvalStage) -> Predictions:
    """Return what heads say about held-out frames that are trained as the shipped one, on all other rows together."""
    heads = [
        train_head(
            rows.only(~np.isin(np.arange(len(rows)), fold)),
            config.training,
            title="federate, central head",
            keep_percent=config.unknown.keep_percent,
        ).head
        for fold in counted(folds, "federate, central", total=len(folds), unit="fold")
    ]
    return out_of_fold(rows, folds, heads.__getitem__)


def alone(clients: Clients, settings: Settings, *, class_balance: bool) -> Alone:
    """Let clients learn without a server, as many steps as with one, and ask each about what it does not hold."""
    rows, (groups, _) = clients.rows, clients.groups()
    weights = weights_without(rows, np.zeros(0, np.int64), class_balance=class_balance)
    is_asked = rows.are_frames & rows.are_of_labels
    chosen = np.unique(clients.client_of_row[clients.client_of_row != SHARED])
    if len(chosen) > MAX_ALONE:
        chosen = np.sort(np.random.default_rng(settings.seed).choice(chosen, MAX_ALONE, replace=False))
    takes = np.array([rows.units[index].take for index in rows.unit_indices], object)
    flags, names = list[npt.NDArray[np.bool_]](), list[str]()
    for client in counted(chosen.tolist(), "federate, clients alone", total=len(chosen), unit="client"):
        own = rows_of_client(rows.features, rows.label_indices, weights, clients.client_of_row, client)
        start = Weights.zeros(rows.features.shape[1], rows.num_outputs)
        learned = descend(start, own, settings.learning_rate, settings.rounds * settings.local_epochs)
        others = is_asked & ~np.isin(groups, groups[clients.client_of_row == client])
        said = head_of(learned, rows).probabilities(rows.features[others]).argmax(1)
        flags.append(said == rows.label_indices[others])
        names += takes[others].tolist()
    return Alone(np.concatenate(flags), names, len(chosen))
