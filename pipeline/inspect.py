"""Stage `inspect`: tells what is wrong with the data, and what to film next. It refuses nothing.

Reads data/frames, data/splits.csv, data/bottlenecks/float32, what heads without each take say of it (build/crossval/,
plots/crossval/float32), models/backbone/float32.tflite and the float32 head; writes build/inspect.json, pictures in
plots/inspect/, and data/statistics/<label>/<take>.parquet (schema `tables.STATISTICS`).
Nothing waits for it: what it finds is for a person to look at. float32 stands for all schemes, as the data is theirs.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.application import run_stage
from pipeline.config.inspect import InspectStage
from pipeline.errors import ModelError
from pipeline.files import layout, sha256_of_file, write_bytes, write_text
from pipeline.heads.head_file import read_head
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.inspecting.advice import next_takes
from pipeline.inspecting.evidence import Evidence, gather
from pipeline.inspecting.findings import (
    COPY,
    DULL,
    MISLABELLED,
    ODD,
    Finding,
    accuracy_without,
    by_kind,
    copies,
    dull,
    mislabelled,
    odd_takes,
)
from pipeline.inspecting.heat import Heat, HeatMapper
from pipeline.per_take.statistics import statistics_of_take
from pipeline.pictures.canvas import message
from pipeline.pictures.captioned import Captioned, captioned_frames, with_heat
from pipeline.takes.cache import project_cache
from pipeline.takes.engines import engine_of
from pipeline.takes.jobs import TakeJob
from pipeline.takes.rows import read_rows
from pipeline.takes.runner import map_takes
from pipeline.takes.single_frame import read_frame
from pipeline.takes.splits import Take, read_takes
from pipeline.takes.staging import staged

_TITLES = {
    MISLABELLED: ("Could be something else", "heads that have not seen the take are sure of another label"),
    COPY: ("Show the same", "two takes side by side, which are scored as if they were strangers"),
    DULL: ("Teach nothing", "too dark, too bright, blurred, or the same as the frame before"),
    ODD: (
        "Not recognized, though the others of the label are",
        "a take with such a place, light or distance is missed",
    ),
}
_ASK_HEADS = (MISLABELLED, ODD)  # found by what heads say of takes that they have not seen
_NOTHING = {
    MISLABELLED: ("No label looks wrong", "Heads without their take say the same, or are not sure."),
    COPY: ("No take shows what another shows", "So each is scored by a head that has not seen it."),
    DULL: ("Every frame shows something", "None is dark, white, blurred beyond use, or the same as the one before."),
    ODD: ("Every take is like the others of its label", "Heads without it recognize it, or miss the others, too."),
}


def inspect(config: InspectStage) -> None:
    """Look for faults, and write what was found."""
    takes = [take for take in read_takes(layout.SPLITS) if take.shows_a_label]
    map_takes(
        [_job(take) for take in takes],
        layout.STATISTICS,
        stage="inspect",
        engine=engine_of(config.engine),
        cache=project_cache(),
        keys=layout.STATISTICS_KEYS,
    )
    evidence = _evidence(takes)
    looks = (mislabelled, copies, dull, odd_takes)
    found = [finding for look in looks for finding in look(evidence, config.inspect)]
    heat, by_border = _heat(evidence, config)
    with staged(layout.INSPECTION) as staging:
        for name, content in (_pictures(found, evidence, config.inspect.num_thumbnails) | heat).items():
            write_bytes(staging / name, content)
    told = _told(evidence, found, by_border)
    write_text(layout.INSPECTED, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    sys.stderr.write(_summary(told))


def _told(evidence: Evidence, found: Sequence[Finding], by_border: Sequence[str]) -> dict[str, Any]:
    """Return what is found as what can be written as JSON."""
    learning = pd.read_csv(layout.learning_curve(layout.REFERENCE_SCHEME), keep_default_na=False, dtype={"label": str})
    accuracy, without_copies = accuracy_without(evidence, found)
    return {
        "asked_heads": bool(evidence.is_held_out.any()),
        "findings": [one.to_json() for one in found],
        "accuracy": _number(accuracy),
        "accuracy_without_copies": _number(without_copies),
        "judged_by_their_border": list(by_border),
        "film_next": next_takes(evidence, learning),
    }


def _pictures(found: Sequence[Finding], evidence: Evidence, max_frames: int) -> dict[str, bytes]:
    """Return a PNG file for each kind of finding, by name."""
    drawn = {f"{kind}.png": _picture(kind, findings, max_frames) for kind, findings in by_kind(found).items()}
    if not evidence.is_held_out.any():
        unknown = message(
            "Nobody can tell", "After `mode: finetune` the backbone, and so every head, knows every take."
        )
        drawn |= {f"{kind}.png": unknown for kind in _ASK_HEADS}
    return drawn


def _job(take: Take) -> TakeJob:
    source = layout.FRAMES / take.table
    sha256 = sha256_of_file(source)
    compute = partial(statistics_of_take, source, sha256)
    return TakeJob.of(take.full_name, take.table, compute, {"frames": sha256}, reads=[source])


def _evidence(takes: Sequence[Take]) -> Evidence:
    scheme = layout.REFERENCE_SCHEME
    rows = read_rows(layout.bottlenecks(scheme), takes)
    said = pd.read_csv(layout.crossval_predictions(scheme), keep_default_na=False, dtype={"frame_id": str, "take": str})
    probabilities = np.load(layout.crossval_probabilities(scheme)).reshape(-1, len(rows.labels))
    probabilities = probabilities / probabilities.sum(1, keepdims=True)  # given that it is one of the labels
    return gather(rows, layout.STATISTICS, said, probabilities)


def _picture(kind: str, findings: Sequence[Finding], max_frames: int) -> bytes:
    """Draw a frame of each finding, of copies one of each take."""
    if not findings:
        return message(*_NOTHING[kind])
    frames = [
        Captioned(_image(take, frame_id), (take.partition("/")[2], take.partition("/")[0], _why(kind, one, number)))
        for one in findings
        for number, (take, frame_id) in enumerate(zip(one.takes, one.frame_ids, strict=True))
    ]
    title, how = _TITLES[kind]
    shown = min(len(frames), max_frames)
    subtitle = f"{how}\n{len(findings)} found; {shown} of {len(frames)} frames shown"
    return captioned_frames(title, subtitle, frames[:shown], columns=4 if kind == COPY else 6)


def _why(kind: str, one: Finding, number: int) -> str:
    if kind == COPY:
        return "" if number else f"{100 * one.num_frames[0] / one.num_frames[1]:.0f}% of its frames"
    return one.text.partition(": ")[2].partition(";")[0].partition(", of the label's")[0]


def _image(take: str, frame_id: str) -> np.ndarray:
    return decode_jpeg(read_frame(take, frame_id)[0])


def _heat(evidence: Evidence, config: InspectStage) -> tuple[dict[str, bytes], list[str]]:
    """Draw where the model looks, in the middle frame of each take and in its surest errors.

    Returns:
        PNG files by name; and a sentence for each take that is judged by its border.
    """
    try:
        mapper = HeatMapper(
            layout.backbone(layout.REFERENCE_SCHEME).read_bytes(), read_head(layout.head(layout.REFERENCE_SCHEME))
        )
    except ModelError as error:
        nothing = message("No heat maps", f"This is {error.found}.")
        return {"heat.png": nothing, "heat_errors.png": nothing}, []
    actual = {row: evidence.labels.index(evidence.table["label"].iloc[row]) for row in _middles(evidence)}
    said = {row: int(evidence.probabilities[row].argmax()) for row in _surest_errors(evidence)}
    looks = [_look(evidence, row, label, mapper, config.resize) for row, label in actual.items()]
    errors = [_look(evidence, row, label, mapper, config.resize) for row, label in said.items()]
    by_border = [
        f"{look.take}: {look.heat.border_percent:.0f}% of what speaks for {look.label} lies at the border"
        for look in looks
        if look.heat.border_percent >= config.inspect.min_border_percent
    ]
    num = config.inspect.num_thumbnails
    return {"heat.png": _looks_drawn(looks, num), "heat_errors.png": _errors_drawn(errors, num)}, by_border


@dataclass(frozen=True)
class _Look:
    """Where the model looks in a frame for a label."""

    take: str
    shows: str
    label: str
    frame: np.ndarray
    heat: Heat

    def drawn(self) -> Captioned:
        """Return the frame with its heat."""
        says = self.label if self.label == self.shows else f"✗ {self.label}, ✓ {self.shows}"
        border = f"{self.heat.border_percent:.0f}% of the heat at the border"
        return Captioned(with_heat(self.frame, self.heat.cells), (self.take.partition("/")[2], says, border))


def _look(evidence: Evidence, row: int, label_index: int, mapper: HeatMapper, resize: str) -> _Look:
    take, shows, frame_id = (str(evidence.table[column].iloc[row]) for column in ("take", "label", "frame_id"))
    frame = decode_jpeg(read_frame(take, frame_id)[0])
    heat = mapper(to_model_input(frame, mapper.input_pixels, resize), label_index)
    return _Look(take, shows, evidence.labels[label_index], frame, heat)


def _middles(evidence: Evidence) -> list[int]:
    """Return the row of the middle frame of each take."""
    rows = evidence.table.groupby("take", sort=False).indices.values()
    return [int(of_take[len(of_take) // 2]) for of_take in rows]


def _surest_errors(evidence: Evidence) -> list[int]:
    """Return the row of the frame of each take that heads without it are surest and wrong about, the surest first."""
    sureness = np.nan_to_num(evidence.probabilities).max(1)
    wrong = np.flatnonzero(evidence.is_held_out & ~evidence.is_right)
    takes = evidence.table["take"].to_numpy()
    ordered = sorted(wrong.tolist(), key=lambda row: -sureness[row])
    first: dict[str, int] = {}
    for row in ordered:
        first.setdefault(str(takes[row]), row)
    return list(first.values())


def _looks_drawn(looks: Sequence[_Look], max_frames: int) -> bytes:
    ordered = sorted(looks, key=lambda look: -look.heat.border_percent)[:max_frames]
    how = (
        "orange speaks for the label (class activation maps); the outermost cells, "
        f"{ordered[0].heat.border_area_percent:.0f}% of the picture, are its border\n"
        f"the middle frame of each take, those judged by their border first; {len(ordered)} of {len(looks)} shown"
    )
    return captioned_frames("Where the model looks", how, [look.drawn() for look in ordered])


def _errors_drawn(errors: Sequence[_Look], max_frames: int) -> bytes:
    if not errors:
        return message("No error to look into", "Heads without a take get each of its frames right, or there are none.")
    how = (
        "orange speaks for the wrong label (✗), not for the right one (✓)\n"
        f"the surest error of each take; {min(len(errors), max_frames)} of {len(errors)} shown"
    )
    drawn = [look.drawn() for look in errors[:max_frames]]
    return captioned_frames("What the model looks at where it errs", how, drawn)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _summary(told: dict[str, Any]) -> str:
    counts = {kind: sum(one["kind"] == kind for one in told["findings"]) for kind in _TITLES}
    words = {
        MISLABELLED: "could bear another label",
        COPY: "pairs show the same",
        DULL: "have frames that teach nothing",
        ODD: "are not like the others of their label",
    }
    asked = [kind for kind in words if told["asked_heads"] or kind not in _ASK_HEADS]
    lines = ["inspect: of the takes, " + ", ".join(f"{counts[kind]} {words[kind]}" for kind in asked)]
    if not told["asked_heads"]:
        lines.append("inspect: whether labels are right nobody can tell: the backbone has learned from every take")
    if counts[COPY] and told["accuracy_without_copies"] is not None:
        lines.append(f"inspect: accuracy {told['accuracy']:.3f}, without copies {told['accuracy_without_copies']:.3f}")
    if told["film_next"]:
        lines.append(f"inspect: film next: {told['film_next'][0]}")
    lines.append(f"inspect: {layout.INSPECTION}/ shows them, `viewfinder report` tells all")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the stage from the command line."""
    run_stage("inspect", InspectStage, inspect)


if __name__ == "__main__":
    main()
