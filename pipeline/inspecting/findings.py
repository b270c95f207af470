"""Finds what a person should look at. Each function looks for one kind of fault, and returns it by take."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.config.inspect import InspectConfig
from pipeline.files.suffixes import VIDEO_SUFFIXES
from pipeline.inspecting.evidence import Evidence

MISLABELLED, COPY, DULL, ODD = "mislabelled", "copy", "dull", "odd"
_NUM_COMPARED_AT_ONCE = 512
_MIN_OF_VIDEO = 0.5  # share of its frames that must look like something else for its label to be doubted
_MIN_OTHERS = 0.5  # accuracy of a label's other takes below which a poor take says nothing
_COMPARED = {
    "brightness": ("darker", "brighter"),
    "sharpness": ("less sharp", "sharper"),
    "contrast": ("flatter", "harsher"),
}


@dataclass(frozen=True)
class Finding:
    """One thing to look at.

    Attributes:
        kind: `mislabelled`, `copy`, `dull` or `odd`.
        takes: "<label>/<take>" of those that it is about.
        frame_ids: A frame of each of these takes to show.
        num_frames: How many frames of the first take it is about, and of how many.
        text: What it is, in a sentence.
    """

    kind: str
    takes: tuple[str, ...]
    frame_ids: tuple[str, ...]
    num_frames: tuple[int, int]
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return it as what can be written as JSON."""
        return asdict(self)


def mislabelled(evidence: Evidence, config: InspectConfig) -> list[Finding]:
    """Find frames that heads without their take are sure to be something else; of a video, half of them at least.

    (A video shows one thing. A few of its frames that are taken for another are the model's errors, not the label's.)

    The margin is the probability of the best other label minus that of the given one: the normalized margin of
    confident learning (Northcutt et al., https://arxiv.org/abs/1911.00068). A fixed limit finds more of planted errors
    here, at as few false alarms, than the limits for each label that the paper derives, which want more takes.
    """
    actual = np.array([evidence.labels.index(label) for label in evidence.table["label"]])
    answers = np.nan_to_num(evidence.probabilities)
    given = answers[np.arange(len(answers)), actual]
    is_odd = evidence.is_held_out & (answers.max(1) - given > config.min_margin)
    found = []
    for take, group in evidence.table[is_odd].groupby("take", sort=False):
        said = answers[group.index]
        label = evidence.labels[int(said.sum(0).argmax())]
        surest = group.index[int(said.max(1).argmax())]
        num = (len(group), int((evidence.table["take"] == take).sum()))
        if _is_video(str(take)) and num[0] < _MIN_OF_VIDEO * num[1]:
            continue
        text = f"{take}: {_frames(*num)} could be {label}"
        found.append(Finding(MISLABELLED, (str(take),), (evidence.table["frame_id"][surest],), num, text))
    return sorted(found, key=lambda one: -one.num_frames[0] / one.num_frames[1])


def copies(evidence: Evidence, config: InspectConfig) -> list[Finding]:
    """Find takes that show what others show: remuxed, encoded again, trimmed, cropped a little, bursts of one scene.

    Two frames are copies if their hashes differ in few bits and their features are alike, or if their features are
    nearly the same. Of features the mean over all frames is taken away: it is common to all, and more so in some
    architectures than in others.
    """
    sample = _sample(evidence.table["take"], config.max_compared_frames)
    takes, frame_ids = (evidence.table[column].to_numpy()[sample] for column in ("take", "frame_id"))
    names, numbers, sizes = np.unique(takes, return_inverse=True, return_counts=True)
    shares: dict[tuple[int, int], float] = {}
    shown: dict[tuple[int, int], tuple[int, int]] = {}
    pairs = _alike(evidence, sample, numbers, config)
    of_takes = pairs["take"] * len(names) + pairs["other_take"]
    for number, group in pairs.groupby(of_takes):
        one, other = divmod(int(str(number)), len(names))
        first, second = (one, other) if one < other else (other, one)
        share = group["row"].nunique() / int(sizes[one])
        if share > shares.get((first, second), 0.0):
            best = group.iloc[int(group["likeness"].to_numpy().argmax())]
            rows = (int(best["row"]), int(best["other_row"]))
            shares[first, second], shown[first, second] = share, rows if one < other else rows[::-1]
    found = []
    for (one, other), share in sorted(shares.items()):
        if share >= config.min_copied_percent / 100:
            ids = (str(frame_ids[shown[one, other][0]]), str(frame_ids[shown[one, other][1]]))
            found.append(_copy(evidence, (str(names[one]), str(names[other])), ids, share))
    return found


def _alike(
    evidence: Evidence, sample: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], config: InspectConfig
) -> pd.DataFrame:
    """Compare all frames of a sample, some at a time: two thirds of a gigabyte would be needed for all at once.

    Args:
        evidence: All frames.
        sample: Which of them.
        numbers: The take of each, as a number.
        config: From when on two are alike.

    Returns:
        A row for each two alike frames of different takes, both ways: row, other_row (in the sample), take, other_take,
        likeness.
    """
    centred = evidence.features[sample] - evidence.features.mean(0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    hashes = np.frombuffer(b"".join(evidence.table["hash"].iloc[sample]), ">u8")
    parts = []
    for start in range(0, len(sample), _NUM_COMPARED_AT_ONCE):
        chunk = slice(start, start + _NUM_COMPARED_AT_ONCE)
        likeness = centred[chunk] @ centred.T
        is_near = np.bitwise_count(hashes[chunk][:, None] ^ hashes[None]) <= config.max_hash_distance
        alike = (likeness >= config.min_likeness) | (is_near & (likeness >= config.min_likeness_of_equal_hashes))
        rows, others = np.nonzero(alike & (numbers[chunk][:, None] != numbers[None]))
        columns = {"row": rows + start, "other_row": others, "likeness": likeness[rows, others]}
        parts.append(pd.DataFrame(columns))
    found = pd.concat(parts, ignore_index=True)
    return found.assign(take=numbers[found["row"]], other_take=numbers[found["other_row"]])


def _is_video(take: str) -> bool:
    return Path(take).suffix.lower() in VIDEO_SUFFIXES


def _copy(evidence: Evidence, takes: tuple[str, str], shown: tuple[str, str], share: float) -> Finding:
    rows = [evidence.table[evidence.table["take"] == take] for take in takes]
    labels = [group["label"].iloc[0] for group in rows]
    parts = [set(group["part"]) for group in rows]
    num = len(rows[0])
    consequence = (
        "under two labels, so one of them is wrong"
        if labels[0] != labels[1]
        else "in two parts, so what is tested was trained on"
        if "test" in parts[0] ^ parts[1]
        else "so the score is better than it will be"
    )
    text = f"{takes[0]} and {takes[1]} show the same ({share:.0%} of the frames), {consequence}"
    return Finding(COPY, takes, shown, (round(share * num), num), text)


def accuracy_without(evidence: Evidence, found: Iterable[Finding]) -> tuple[float, float]:
    """Return the accuracy over all frames that were held out, and over those of takes that have no copy."""
    copied = {take for one in found if one.kind == COPY for take in one.takes}
    is_left = evidence.is_held_out & ~evidence.table["take"].isin(copied).to_numpy()
    right = evidence.is_right
    return _mean(right[evidence.is_held_out]), _mean(right[is_left])


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def dull(evidence: Evidence, config: InspectConfig) -> list[Finding]:
    """Find frames that teach nothing: dark, white, blurred beyond use, or the same as the one before."""
    table = evidence.table
    kinds = {
        "too dark to see anything": table["brightness"] < config.min_brightness,
        "too bright to see anything": table["brightness"] > 255 - config.min_brightness,
        "blurred beyond use": table["sharpness"] < config.min_sharpness,
        "the same as the frame before": table["motion"] < config.min_motion,
    }
    found, told = [], pd.Series(False, index=table.index)
    for name, is_kind in kinds.items():
        for take, group in table[is_kind & ~told].groupby("take", sort=False):
            num = (len(group), int((table["take"] == take).sum()))
            middle = group["frame_id"].iloc[len(group) // 2]
            text = f"{take}: {_frames(*num)} {'are' if num[0] > 1 else 'is'} {name}"
            found.append(Finding(DULL, (str(take),), (middle,), num, text))
        told |= is_kind
    return found


def odd_takes(evidence: Evidence, config: InspectConfig) -> list[Finding]:
    """Find takes that heads without them do not recognize though they recognize the others of the label."""
    right = pd.Series(evidence.is_right[evidence.is_held_out].astype(float))
    table = evidence.table[evidence.is_held_out].reset_index(drop=True)
    of_take = right.groupby(table["take"]).mean()
    label_of = table.groupby("take")["label"].first()
    measured = table.groupby("take")[[*_COMPARED]].mean()
    found = []
    for take in map(str, of_take.index):
        accuracy = float(of_take[take])
        others = [str(other) for other in of_take.index if label_of[other] == label_of[take] and other != take]
        if not others or of_take[others].mean() < _MIN_OTHERS or accuracy > config.max_odd_accuracy:
            continue
        group = table[table["take"] == take]
        own = {name: float(measured[name][take]) for name in _COMPARED}
        differs = _differences(own, measured.loc[others])
        why = f"; it is {' and '.join(differs)} than they are" if differs else ""
        text = (
            f"{take}: {accuracy:.0%} of it is recognized, of the label's other takes {of_take[others].mean():.0%}{why}"
        )
        num = (round((1 - accuracy) * len(group)), len(group))
        wrong = group.index[right[group.index] == 0]
        found.append(Finding(ODD, (take,), (table["frame_id"][wrong[len(wrong) // 2]],), num, text))
    return sorted(found, key=lambda one: -one.num_frames[0] / one.num_frames[1])


def _differences(take: Mapping[str, float], others: pd.DataFrame) -> list[str]:
    """Tell how a take differs from others: outside of all of them, by a quarter at least."""
    told = []
    for name, (less, more) in _COMPARED.items():
        low, high = others[name].min(), others[name].max()
        if take[name] < 0.75 * low:
            told.append(less)
        elif take[name] > 1.25 * high:
            told.append(more)
    return told


def _sample(takes: "pd.Series[str]", max_frames: int) -> npt.NDArray[np.int64]:
    """Return rows, as many of each take as keeps their number below a limit, at equal distances."""
    stride = max(1, -(-len(takes) // max_frames))
    return np.flatnonzero(takes.groupby(takes).cumcount().to_numpy() % stride == 0)


def _frames(num: int, every: int) -> str:
    if every == 1:
        return "it"
    return f"{num} of {every} frames"


def by_kind(found: Sequence[Finding]) -> Mapping[str, list[Finding]]:
    """Return findings by their kind, each kind there, if only with none."""
    return {kind: [one for one in found if one.kind == kind] for kind in (MISLABELLED, COPY, DULL, ODD)}
