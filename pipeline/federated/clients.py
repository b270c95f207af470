"""Whose rows are whose: takes, persons that a table names, or clients that are made up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigurationError, InputError
from pipeline.federated.standardizing import Standardization
from pipeline.takes.assignment import place_of, recordings_of
from pipeline.takes.hand_made import rows_of, telling_what_is_wrong
from pipeline.takes.rows import Rows

COLUMNS = ("take", "client")
SHARED = -1  # instead of a client: rows that all have

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clients:
    """Rows, and the client that holds each.

    Attributes:
        rows: All rows.
        client_of_row: int64 [num_rows], indices into `names`; `SHARED` for the pictures of other things, which come
            with the app.
        names: Of the clients.
        share_takes: Whether frames of one take are with several clients.
    """

    rows: Rows
    client_of_row: Indices
    names: tuple[str, ...]
    share_takes: bool

    def folds(self, num_folds: int) -> list[Indices]:
        """Deal what is held out to folds: clients, or, where they share takes, takes.

        They go round the folds in the order of a hash of their names, each label beginning where the one before ended.
        One that alone has a label is never held out.

        Args:
            num_folds: How many, at most.

        Returns:
            For each fold the indices of its rows.

        Raises:
            InputError: If nothing can be held out, or a fold would hold all rows of a label.
        """
        groups, names = self.groups()
        is_labelled = self.rows.are_of_labels & (self.client_of_row != SHARED)
        present = np.unique(groups[groups != SHARED]).tolist()
        first_label = {group: int(self.rows.label_indices[groups == group].min()) for group in present}
        every = range(len(self.rows.labels))
        holders = [np.unique(groups[is_labelled & (self.rows.label_indices == label)]) for label in every]
        stay = {int(found[0]) for found in holders if len(found) == 1}
        in_order = sorted(set(first_label) - stay, key=lambda group: (first_label[group], place_of(names[group])))
        folds = [np.flatnonzero(np.isin(groups, in_order[start::num_folds])) for start in range(num_folds)]
        folds = [fold for fold in folds if len(fold)]
        for fold in folds or [np.arange(len(groups))]:
            left = np.setdiff1d(np.arange(len(groups)), fold)
            lacking = set(every) - set(self.rows.label_indices[left].tolist())
            if lacking:
                raise InputError(
                    found=f"no client is left to learn {self.rows.labels[min(lacking)]} from while others are held out",
                    expected="each label with several clients, and folds that leave one of them",
                    remedy="take more folds (--folds), or name more clients",
                )
        return folds

    def standardized(self) -> tuple["Clients", Standardization]:
        """Return the same with features by the scale of what all have; without such pictures they stay as they are."""
        scale = Standardization.of(self.rows.features[self.client_of_row == SHARED])
        return replace(self, rows=replace(self.rows, features=scale.applied(self.rows.features))), scale

    def groups(self) -> tuple[Indices, Sequence[str]]:
        """Return for each row what is held out together, `SHARED` for what never is, and the names of these."""
        if not self.share_takes:
            return self.client_of_row, self.names
        takes, of_row = np.unique(_recordings(self.rows), return_inverse=True)
        return np.where(self.client_of_row == SHARED, SHARED, of_row).astype(np.int64), takes.tolist()


def takes_as_clients(rows: Rows) -> Clients:
    """Let each take be a client; a photo and the video of the same press of the button are one."""
    takes = _recordings(rows)
    return _clients(rows, takes, sorted(set(takes[~_are_strangers(rows)])))


def clients_of_table(rows: Rows, path: Path) -> Clients:
    """Read who filmed what.

    Args:
        rows: All rows.
        path: A table with the columns take (`hammer/IMG_0412.mov`) and client, a row for each take.

    Raises:
        InputError: If the table is missing or damaged, names a take that is not there, or leaves one out.
    """
    client_of_take, takes = _read_table(path), {unit.take for unit in rows.units if not unit.is_stranger}
    for take in client_of_take:
        if take not in takes:
            near = get_close_matches(take, sorted(takes), 1)
            raise InputError(
                found=f"{path}: there is no take `{take}`",
                expected="takes of data/splits.csv, as `<label>/<take>`",
                remedy=f"did you mean `{near[0]}`?" if near else "correct or remove the row",
            )
    left_out = sorted(takes - set(client_of_take))
    if left_out:
        raise InputError(
            found=f"{path}: {len(left_out)} takes without a client, such as `{left_out[0]}`",
            expected="a row for each take",
            remedy="add them",
        )
    names = np.array([client_of_take.get(rows.units[index].take, "") for index in rows.unit_indices], object)
    return _clients(rows, names, sorted(set(client_of_take.values())))


def made_up_clients(rows: Rows, num_clients: int, skew: float | None, seed: int) -> Clients:
    """Deal takes to clients that nobody is; frames, if there are fewer takes, or frames and copies, if fewer of these.

    With a skew each client draws a mixture of labels from a Dirichlet distribution, and then what it holds (T. Hsu et
    al., Measuring the Effects of Non-Identical Data Distribution, 2019, https://arxiv.org/abs/1909.06335).

    Args:
        rows: All rows.
        num_clients: How many.
        skew: Concentration of the distribution: the lower, the fewer labels a client has; None for even mixtures.
        seed: Of what is drawn.

    Raises:
        ConfigurationError: If there are more clients than rows.
    """
    takes, is_stranger = _recordings(rows), _are_strangers(rows)
    frames = np.array([f"{take}\n{frame}" for take, frame in zip(takes, rows.frame_ids, strict=True)], object)
    copies = np.array([f"{frame}\n{copy}" for frame, copy in zip(frames, rows.copies, strict=True)], object)
    for items in (takes, frames, copies):
        names = sorted(set(items[~is_stranger]))
        if len(names) >= num_clients:
            break
    else:
        raise ConfigurationError(
            found=f"--num-clients {num_clients}, and {len(names)} frames and copies of them",
            expected="at least one for each client",
            remedy="make fewer clients, or add takes",
        )
    label_of = dict(zip(items, rows.label_indices, strict=True))
    client_of = dict(
        zip(names, dealt(np.array([label_of[name] for name in names]), num_clients, skew, seed), strict=True)
    )
    client_of_row = np.array([client_of.get(item, SHARED) for item in items], np.int64)
    return Clients(rows, client_of_row, tuple(f"client {i}" for i in range(num_clients)), items is not takes)


def dealt(label_indices: Indices, num_clients: int, skew: float | None, seed: int) -> Indices:
    """Deal items to clients, which take turns; every client gets as many as another, or one more.

    Args:
        label_indices: int64 [num_items]; at least as many as clients.
        num_clients: How many.
        skew: See `made_up_clients`.
        seed: Of what is drawn.

    Returns:
        The client of each item, int64 [num_items].
    """
    generator, num_items = np.random.default_rng(seed), len(label_indices)
    order = generator.permutation(num_items)
    found = np.zeros(num_items, np.int64)
    if skew is None:
        found[order] = np.arange(num_items) % num_clients
        return found
    labels = np.unique(label_indices)
    waiting = [order[label_indices[order] == label].tolist() for label in labels]
    mixtures = generator.dirichlet(np.full(len(labels), skew), num_clients)
    for turn in range(num_items):
        client = turn % num_clients
        chances = mixtures[client] * [len(items) > 0 for items in waiting]
        if not chances.sum():  # what it would have is all gone
            chances = np.array([float(len(items)) for items in waiting])
        label = generator.choice(len(labels), p=chances / chances.sum())
        found[waiting[label].pop()] = client
    return found


def _clients(rows: Rows, name_of_row: npt.NDArray[np.object_], names: Sequence[str]) -> Clients:
    index_of = {name: index for index, name in enumerate(names)}
    shared = _are_strangers(rows)
    found = [SHARED if shared[i] else index_of[name] for i, name in enumerate(name_of_row)]
    return Clients(rows, np.array(found, np.int64), tuple(names), share_takes=False)


def _are_strangers(rows: Rows) -> npt.NDArray[np.bool_]:
    return np.array([unit.is_stranger for unit in rows.units], bool)[rows.unit_indices]


def _recordings(rows: Rows) -> npt.NDArray[np.object_]:
    """Return the take of each row; of a live photo it is that of its video."""
    recording_of = dict[str, str]()
    for label in {unit.label for unit in rows.units}:
        recording_of |= recordings_of(
            {unit.take for unit in rows.units if unit.label == label and not unit.is_stranger}
        )
    of_unit = [recording_of.get(unit.take, unit.take) for unit in rows.units]
    return np.array(of_unit, object)[rows.unit_indices]


def _read_table(path: Path) -> dict[str, str]:
    found = dict[str, str]()
    remedy = "correct it, or leave --clients out: then each take is a client"
    with telling_what_is_wrong(f"the table {path}", COLUMNS, remedy):
        for line, (take, client) in rows_of(path, COLUMNS):
            if not take or not client:
                raise ValueError(f"line {line} has not two fields")
            if found.setdefault(take, client) != client:
                raise ValueError(f"line {line} gives `{take}` to another client")
    return found
