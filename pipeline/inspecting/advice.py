"""What to film next, in order of what it should gain."""

from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.inspecting.evidence import Evidence

_MIN_GAIN = 0.015  # of recall, that is worth a word
_MAX_PAIRS = 3
_FEW_TAKES = 5
_FEW_FRAMES = 0.2  # of the median of the labels
_MIN_CONFUSED = 0.02  # share of a label's frames that are taken for another
_DARK = 80.0  # mean grey of a dark take
_VARIED = 30.0  # grey levels that the lightest and the darkest take of a label should be apart


def next_takes(evidence: Evidence, learning: pd.DataFrame) -> list[str]:
    """Advise what to film, the greatest expected gain first.

    Args:
        evidence: All frames.
        learning: `LEARNING_COLUMNS`, a row for each share of the takes and each label: recall by number of takes.
    """
    takes = {label: evidence.table["take"][evidence.table["label"] == label].nunique() for label in evidence.labels}
    gains = {label: _gain(evidence, learning, label) for label in evidence.labels}
    ordered = sorted(evidence.labels, key=lambda label: -gains[label])
    told = [_takes_of(evidence, label, takes[label], gains[label]) for label in ordered if gains[label] >= _MIN_GAIN]
    few = [label for label in evidence.labels if takes[label] < _FEW_TAKES and gains[label] < _MIN_GAIN]
    told += [f"{label}: more takes, as {takes[label]} tell little" for label in few]
    return [*told, *_confused(evidence), *_imbalance(evidence)]


def _gain(evidence: Evidence, learning: pd.DataFrame, label: str) -> float:
    """Return what recall of a label should gain by twice as many takes: as much as the last doubling gained.

    A label that is recognized always gains nothing, and one without a curve what is missing.
    """
    of_label = evidence.is_held_out & (evidence.table["label"] == label).to_numpy()
    missing = 1 - float(evidence.is_right[of_label].mean()) if of_label.any() else 0.0
    curve = learning[learning["label"] == label].sort_values("num_takes")
    if len(curve) < 2:
        return missing
    takes, recalls = curve["num_takes"].to_numpy(), curve["recall"].to_numpy()
    half = float(np.interp(takes[-1] / 2, takes, recalls))
    return max(0.0, min(missing, float(recalls[-1]) - half)) if missing else 0.0


def _takes_of(evidence: Evidence, label: str, num_takes: int, gain: float) -> str:
    """Return a sentence for a label: how many takes, of what kind, and what they should bring."""
    brightness = evidence.table[evidence.table["label"] == label].groupby("take")["brightness"].mean()
    kinds = []
    if brightness.min() > _DARK:
        kinds.append("some of them in the dark")
    if brightness.max() - brightness.min() < _VARIED:
        kinds.append("in other light")
    kind = f", {' and '.join(kinds[:1])}" if kinds else ""
    return f"{label}: {max(3, num_takes // 2)} more takes{kind} (recall should rise by about {100 * gain:.0f} points)"


def _confused(evidence: Evidence) -> list[str]:
    """Return a sentence for each two labels that are taken for each other, the most often first."""
    held = evidence.is_held_out
    said = np.array(evidence.labels, object)[np.nan_to_num(evidence.probabilities).argmax(1)]
    labels = evidence.table["label"].to_numpy()
    pairs: dict[tuple[str, str], float] = {}
    for one, two in combinations(evidence.labels, 2):
        of_both = held & np.isin(labels, [one, two])
        swapped = of_both & (((labels == one) & (said == two)) | ((labels == two) & (said == one)))
        pairs[one, two] = float(swapped.sum() / max(of_both.sum(), 1))
    told = sorted(((share, pair) for pair, share in pairs.items() if share >= _MIN_CONFUSED), reverse=True)
    return [
        f"{one} and {two} are taken for each other ({share:.0%} of their frames): film both in the same places"
        for share, (one, two) in told[:_MAX_PAIRS]
    ]


def _imbalance(evidence: Evidence) -> list[str]:
    counts = {label: int((evidence.table["label"] == label).sum()) for label in evidence.labels}
    middle = float(np.median(list(counts.values())))
    return [
        f"{label}: {number} frames, where others have {middle:.0f}"
        for label, number in counts.items()
        if number < _FEW_FRAMES * middle
    ]
