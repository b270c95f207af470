"""How well a classifier tells that a picture shows none of its labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.metrics.intervals import Interval, interval_of, share_interval

# Kinds of what heads are asked about, none of which they have learned from: frames of labels; pictures of
# data/strangers; frames of takes in data/videos/_none; frames of a label that a head does not know; and those of the
# others, by the same head.
LABEL, STRANGER, NONE_TAKE, LEFT_OUT, OTHERS = "label", "stranger", "none", "left out", "others"

_COLUMNS = ("kind", "take", "left_out", "probability", "threshold", "is_refused")
_NUM_RESAMPLES = 500
_MAX_UNKNOWN = 2000  # frames that are compared with all known ones; of more, evenly spread ones are

Floats = npt.NDArray[np.float64]


def asked_table(
    kind: Sequence[str] = (),
    take: Sequence[str] = (),
    probability: npt.ArrayLike = (),
    threshold: float | None = None,
    left_out: str = "",
) -> pd.DataFrame:
    """Return a row for each frame that a head was asked about.

    Args:
        kind: See the module.
        take: "<label>/<take>", or the path of a picture.
        probability: Of the most probable label, 0..1.
        threshold: Of the head: a frame with less is refused.
        left_out: The label that the head does not know.

    Returns:
        kind, take, left_out, probability, threshold, is_refused.
    """
    table = pd.DataFrame({"kind": list(kind), "take": list(take), "probability": np.asarray(probability, np.float64)})
    table = table.assign(left_out=left_out, threshold=threshold, is_refused=table["probability"] < (threshold or 0))
    return table[list(_COLUMNS)]


def figures_of(asked: pd.DataFrame) -> dict[str, Any]:
    """Return how well known and unknown things are told apart.

    Args:
        asked: See `asked_table`.

    Returns:
        kept (share of the labels' frames that the thresholds keep), and for `strangers`, `none` (takes of _none, if
        there are any) and `left_out` (the mean over labels, and each under per_class) auroc (how often a known frame
        has the higher probability of two, one known and one unknown) and refused (share that the thresholds refuse);
        each with its 95% interval over takes and pictures under `intervals`, and how many there are. Empty if nothing
        was asked.
    """
    if not len(asked):
        return {}
    kinds = {kind: asked[asked["kind"] == kind] for kind in (LABEL, STRANGER, NONE_TAKE, LEFT_OUT, OTHERS)}
    known = kinds[LABEL]
    found: dict[str, Any] = {
        "kept": float(1 - known["is_refused"].mean()),
        "intervals": {"kept": share_interval(~known["is_refused"].to_numpy(bool), known["take"])},
    }
    for name, kind in (("strangers", STRANGER), ("none", NONE_TAKE)):
        if len(kinds[kind]):
            found[name] = _told_apart(known, kinds[kind]) | {"num_frames": len(kinds[kind])}
    per_class = {
        str(label): _told_apart(others, unknown)
        for label, unknown in kinds[LEFT_OUT].groupby("left_out")
        if len(others := kinds[OTHERS][kinds[OTHERS]["left_out"] == label])
    }
    if per_class:
        means = {name: float(np.mean([one[name] for one in per_class.values()])) for name in ("auroc", "refused")}
        found["left_out"] = means | {"per_class": per_class}
    return found


def _told_apart(known: pd.DataFrame, unknown: pd.DataFrame) -> dict[str, Any]:
    refused = unknown["is_refused"].to_numpy(bool)
    auroc, interval = auroc_of(known, unknown)
    return {
        "auroc": auroc,
        "refused": float(refused.mean()),
        "intervals": {"auroc": interval, "refused": share_interval(refused, unknown["take"])},
    }


def auroc_of(known: pd.DataFrame, unknown: pd.DataFrame) -> tuple[float, Interval]:
    """Return the area under the ROC curve, and between what it lies, were other takes and pictures there.

    That is how often the known frame of a pair has the higher probability; a tie counts half. A bootstrap draws known
    and unknown takes (see `intervals`).

    Args:
        known: `take` and `probability` of each frame.
        unknown: The same.
    """
    if len(unknown) > _MAX_UNKNOWN:
        unknown = unknown.iloc[np.linspace(0, len(unknown) - 1, _MAX_UNKNOWN).round().astype(int)]
    takes, of_known = np.unique(known["take"].to_numpy(str), return_inverse=True)
    others, of_unknown = np.unique(unknown["take"].to_numpy(str), return_inverse=True)
    wins = np.zeros((len(takes), len(others)))
    probabilities = known["probability"].to_numpy()
    for value, other in zip(unknown["probability"], of_unknown, strict=True):
        is_won = (probabilities > value) + 0.5 * (probabilities == value)
        wins[:, other] += np.bincount(of_known, is_won, len(takes))
    sizes = np.bincount(of_known).astype(float), np.bincount(of_unknown).astype(float)
    auroc = float(wins.sum() / (sizes[0].sum() * sizes[1].sum()))
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(_NUM_RESAMPLES):
        rows, columns = (generator.multinomial(len(size), np.full(len(size), 1 / len(size))) for size in sizes)
        drawn.append(rows @ wins @ columns / ((rows @ sizes[0]) * (columns @ sizes[1])))
    return auroc, interval_of(np.array(drawn), min(len(takes), len(others)))
