"""Stage `report`: draws what there is to see in the results.

Reads the predictions and metrics of the schemes in `quantization`, and data/frames for the thumbnails; writes
plots/pictures/*.png, which `dvc plots show` puts on its page. It comes before `gate`, so that a refused model can be
looked at.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from pipeline.config.application import run_stage
from pipeline.config.report import ReportStage
from pipeline.files import layout, write_bytes
from pipeline.images.codec import decode_jpeg
from pipeline.metrics.candidates import candidate_of
from pipeline.metrics.predictions import read_predictions
from pipeline.pictures.canvas import letters_without_font, message, short
from pipeline.pictures.confusion import confusion_matrices
from pipeline.pictures.contact_sheet import Thumbnail, contact_sheet
from pipeline.pictures.reliability import reliability_diagrams
from pipeline.pictures.tradeoff import tradeoff
from pipeline.takes.single_frame import read_frame
from pipeline.takes.staging import staged


def report(config: ReportStage) -> None:
    """Write the pictures, all or none."""
    with staged(layout.PICTURES) as staging:
        for name, content in pictures(config).items():
            write_bytes(staging / name, content)
    missing = letters_without_font(read_predictions(layout.predictions(config.deploy))["take"])
    if missing:
        sys.stderr.write(
            f"report: no font on this machine has {' '.join(missing)}, so pictures show {short(missing[0])} and the "
            "like; one of the family Noto Sans would\n"
        )
    sys.stderr.write(f"report: pictures are in {layout.PICTURES}/\n")


def pictures(config: ReportStage) -> dict[str, bytes]:
    """Return PNG files by name."""
    deployed = config.deploy
    reference = read_predictions(layout.predictions(layout.REFERENCE_SCHEME))
    chosen = read_predictions(layout.predictions(deployed))
    tables = {f"{deployed} (deployed)": chosen}
    if deployed != layout.REFERENCE_SCHEME:
        tables = {layout.REFERENCE_SCHEME: reference} | tables
    return {
        "confusion.png": confusion_matrices(tables, list(_metrics(deployed)["per_class"])),
        "tradeoff.png": _tradeoff(deployed, config.quantization),
        "reliability.png": reliability_diagrams(tables, num_bins=config.report.num_calibration_bins),
        "worst_errors.png": _worst_errors(deployed, chosen, config.report.num_thumbnails),
        "lost_to_quantization.png": _lost(config, reference),
    }


def _tradeoff(deployed: str, schemes: Sequence[str]) -> bytes:
    """Draw the schemes that are listed; all of them are scored by now, since metrics/schemes is a dependency."""
    candidates = {scheme: candidate_of(_metrics(scheme)) for scheme in schemes}
    shown = _metrics(deployed)
    return tradeoff(
        list(candidates.values()),
        chosen=candidates[deployed],
        chosen_is="deployed",
        title="What each scheme gives and costs",
        accuracy_label=f"accuracy on {shown['num_test_frames']:,} test frames, %",
        num_threads=shown["num_threads"],
    )


def _worst_errors(deployed: str, chosen: pd.DataFrame, max_thumbnails: int) -> bytes:
    """Draw the errors that the deployed model is surest of, one of each take."""
    wrong = {deployed: chosen[~chosen["is_right"]]}
    if wrong[deployed].empty:
        return message(f"{deployed} gets every test frame right", f"all {len(chosen):,} of them")
    title = f"The worst errors of {deployed}: surest and wrong"
    return _sheet(title, "{scheme} gets {frames} wrong", wrong, chosen, max_thumbnails)


def _lost(config: ReportStage, reference: pd.DataFrame) -> bytes:
    """Draw what float32 gets right and the deployed scheme does not; if float32 is deployed, the other listed ones."""
    schemes = [config.deploy]
    if config.deploy == layout.REFERENCE_SCHEME:
        schemes = [scheme for scheme in config.quantization if scheme != config.deploy]
    if not schemes:
        return message("Nothing to compare", f"`quantization` in params.yaml lists {config.deploy} alone.")
    lost = {scheme: _lost_by(scheme, reference) for scheme in schemes}
    if all(rows.empty for rows in lost.values()):
        names = " and ".join(schemes)
        return message("Nothing is lost", f"Every test frame that float32 gets right is right in {names}, too.")
    title = f"Right in float32, wrong in {' or '.join(schemes)}"
    return _sheet(title, "{scheme} loses {frames}", lost, reference, config.report.num_thumbnails)


def _lost_by(scheme: str, reference: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of a scheme that are wrong, for frames that float32 gets right."""
    table, key = read_predictions(layout.predictions(scheme)), ["take", "frame_id"]
    right_before = pd.MultiIndex.from_frame(reference.loc[reference["is_right"], key])
    return table[~table["is_right"] & pd.MultiIndex.from_frame(table[key]).isin(right_before)]


def _sheet(
    title: str, sentence: str, rows: Mapping[str, pd.DataFrame], every: pd.DataFrame, max_thumbnails: int
) -> bytes:
    """Draw the surest frame of each take, with how many there are: neighbours in a video are near-copies.

    Args:
        title: What the frames have in common.
        sentence: What a scheme does with frames, with the places {scheme} and {frames}.
        rows: Predictions to draw by scheme, at least one in all.
        every: Predictions for all test frames.
        max_thumbnails: Of all schemes together, which take turns.
    """
    shown = _surest_of_each_take(rows)
    in_take = every.groupby("take").size()
    thumbnails = [
        replace(thumbnail(row), note=_told(sentence, row["scheme"], row["num_frames"], in_take[row["take"]]))
        for row in shown.head(max_thumbnails).to_dict("records")
    ]
    counted = [
        f"{_told(sentence, scheme, len(table), len(every))}, in {table['take'].nunique()} take(s)"
        for scheme, table in rows.items()
    ]
    how = f"✗ what it says, ✓ what it is; the surest of each take, {len(thumbnails)} of {len(shown)} shown"
    return contact_sheet(title, "\n".join([*counted, how]), thumbnails)


def _surest_of_each_take(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a row for each scheme and take, with the columns scheme and num_frames, the surest first by turns."""
    joined = pd.concat([table.assign(scheme=scheme) for scheme, table in rows.items()])
    ordered = joined.sort_values(["probability", "take", "frame_id"], ascending=[False, True, True], kind="stable")
    counts = ordered.groupby(["scheme", "take"])["frame_id"].transform("size")
    surest = ordered.assign(num_frames=counts).drop_duplicates(["scheme", "take"])
    return surest.assign(turn=surest.groupby("scheme").cumcount()).sort_values("turn", kind="stable")


def _told(sentence: str, scheme: str, count: int, num_frames: int) -> str:
    frames = f"{count:,} of {num_frames:,} frames" if num_frames > 1 else "it"  # a photo is a take of one frame
    return sentence.format(scheme=scheme, frames=frames)


def thumbnail(row: dict[Any, Any]) -> Thumbnail:
    """Fetch the frame that a row of predictions is about."""
    image, seconds = read_frame(row["take"], row["frame_id"])
    name = row["take"].partition("/")[2]
    return Thumbnail(
        image=decode_jpeg(image),
        actual=row["actual"],
        predicted=row["predicted"],
        probability=row["probability"],
        origin=name if seconds is None else f"{name} at {seconds:.1f} s",
    )


def _metrics(scheme: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(layout.metrics(scheme).read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Run the stage from the command line."""
    run_stage("report", ReportStage, report)


if __name__ == "__main__":
    main()
