"""Stage `inspect`: tells what is wrong with the data, and what to film next. It refuses nothing.

Reads data/frames, data/splits.csv, data/bottlenecks/float32, what heads without each take say of it (build/crossval/,
plots/crossval/float32), models/backbone/float32.tflite and the float32 head; writes build/inspect.json, pictures in
plots/inspect/, and data/statistics/<label>/<take>.parquet (schema `tables.STATISTICS`).
Nothing waits for it: what it finds is for a person to look at. float32 stands for all schemes, as the data is theirs.
"""

import json
import sys
from collections.abc import Sequence
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
from pipeline.inspecting.heat import HeatMapper
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
    takes = read_takes(layout.SPLITS)
    jobs = [_job(take) for take in takes]
    map_takes(
        jobs,
        layout.STATISTICS,
        stage="inspect",
        engine=engine_of(config.engine),
        cache=project_cache(),
        keys=layout.STATISTICS_KEYS,
    )
    evidence = _evidence(takes)
    found = [
        *mislabelled(evidence, config.inspect),
        *copies(evidence, config.inspect),
        *dull(evidence, config.inspect),
        *odd_takes(evidence, config.inspect),
    ]
    heat, looked_at = _heat(evidence, config)
    learning = pd.read_csv(layout.learning_curve(layout.REFERENCE_SCHEME), keep_default_na=False, dtype={"label": str})
    accuracy, without_copies = accuracy_without(evidence, found)
    told = {
        "asked_heads": bool(evidence.is_held_out.any()),
        "findings": [one.to_json() for one in found],
        "accuracy": _number(accuracy),
        "accuracy_without_copies": _number(without_copies),
        "judged_by_their_border": looked_at,
        "film_next": next_takes(evidence, learning),
    }
    with staged(layout.INSPECTION) as staging:
        for kind, findings in by_kind(found).items():
            picture = _picture(kind, findings, config.inspect.num_thumbnails)
            if kind in _ASK_HEADS and not evidence.is_held_out.any():
                picture = message(
                    "Nobody can tell", "After `mode: finetune` the backbone, and so every head, knows every take."
                )
            write_bytes(staging / f"{kind}.png", picture)
        write_bytes(staging / "heat.png", heat)
    write_text(layout.INSPECTED, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    sys.stderr.write(_summary(told))


def _job(take: Take) -> TakeJob:
    source = layout.FRAMES / take.table
    sha256 = sha256_of_file(source)
    compute = partial(statistics_of_take, source, sha256)
    return TakeJob.of(f"{take.label}/{take.name}", take.table, compute, {"frames": sha256})


def _evidence(takes: Sequence[Take]) -> Evidence:
    scheme = layout.REFERENCE_SCHEME
    rows = read_rows(layout.bottlenecks(scheme), takes)
    said = pd.read_csv(layout.crossval_predictions(scheme), keep_default_na=False, dtype={"frame_id": str, "take": str})
    probabilities = np.load(layout.crossval_probabilities(scheme)).reshape(-1, len(rows.labels))
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


def _heat(evidence: Evidence, config: InspectStage) -> tuple[bytes, list[str]]:
    """Draw where the model looks in the middle frame of each take; tell which takes it judges by their border."""
    try:
        mapper = HeatMapper(
            layout.backbone(layout.REFERENCE_SCHEME).read_bytes(), read_head(layout.head(layout.REFERENCE_SCHEME))
        )
    except ModelError as error:
        return message("No heat maps", f"This is {error.found}."), []
    frames, by_border = list[tuple[float, Captioned]](), list[str]()
    pixels = mapper.input_pixels
    for take, group in evidence.table.groupby("take", sort=False):
        label, frame_id = group["label"].iloc[0], group["frame_id"].iloc[len(group) // 2]
        image = _image(str(take), frame_id)
        heat = mapper(to_model_input(image, pixels, config.resize), evidence.labels.index(label))
        lines = (str(take).partition("/")[2], label, f"{heat.border_percent:.0f}% of the heat at the border")
        frames.append((heat.border_percent, Captioned(with_heat(image, heat.cells), lines)))
        if heat.border_percent >= config.inspect.min_border_percent:
            by_border.append(f"{take}: {heat.border_percent:.0f}% of what speaks for {label} lies at the border")
    frames.sort(key=lambda one: -one[0])
    shown = [frame for _, frame in frames[: config.inspect.num_thumbnails]]
    how = (
        "orange speaks for the label (class activation maps); the outermost cells, "
        f"{heat.border_area_percent:.0f}% of the picture, are its border\n"
        f"the middle frame of each take, those judged by their border first; {len(shown)} of {len(frames)} shown"
    )
    return captioned_frames("Where the model looks", how, shown), by_border


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
