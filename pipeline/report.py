"""Stage `report`: draws what there is to see in the results.

Reads the predictions and metrics of the schemes in `quantization`, and data/frames for the thumbnails; writes
plots/pictures/*.png, which `dvc plots show` puts on its page. It comes before `gate`, so that a refused model can be
looked at.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline.config.application import run_stage
from pipeline.config.report import ReportStage
from pipeline.files import layout, write_bytes
from pipeline.images.codec import decode_jpeg
from pipeline.metrics.predictions import read_predictions
from pipeline.pictures.canvas import message
from pipeline.pictures.confusion import confusion_matrices
from pipeline.pictures.contact_sheet import Thumbnail, contact_sheet
from pipeline.pictures.reliability import reliability_diagrams
from pipeline.pictures.tradeoff import SchemeCosts, tradeoff
from pipeline.takes.single_frame import read_frame
from pipeline.takes.staging import staged


def report(config: ReportStage) -> None:
    """Write the pictures, all or none."""
    with staged(layout.PICTURES) as staging:
        for name, content in pictures(config).items():
            write_bytes(staging / name, content)
    sys.stderr.write(f"report: pictures are in {layout.PICTURES}/\n")


def pictures(config: ReportStage) -> dict[str, bytes]:
    """Return PNG files by name."""
    deployed = config.deploy
    reference = read_predictions(layout.predictions(layout.REFERENCE_SCHEME))
    chosen = read_predictions(layout.predictions(deployed))
    is_reference = deployed == layout.REFERENCE_SCHEME
    tables = {f"{deployed} (deployed)": chosen}
    if not is_reference:
        tables = {layout.REFERENCE_SCHEME: reference} | tables
    return {
        "confusion.png": confusion_matrices(tables, list(_metrics(deployed)["per_class"])),
        "tradeoff.png": _tradeoff(deployed, config.quantization),
        "reliability.png": reliability_diagrams(tables, num_bins=config.report.num_calibration_bins),
        "worst_errors.png": _worst_errors(deployed, chosen, config.report.num_thumbnails),
        "lost_to_quantization.png": _lost(deployed, reference, chosen, config.report.num_thumbnails),
    }


def _tradeoff(deployed: str, schemes: Sequence[str]) -> bytes:
    """Draw the schemes that are listed; all of them are scored by now, since metrics/schemes is a dependency."""
    metrics = [_metrics(scheme) for scheme in schemes]
    costs = [
        SchemeCosts(
            one["scheme"], one["accuracy"], one["size_bytes"], one["latency_ms"]["p50"], one["scheme"] == deployed
        )
        for one in metrics
    ]
    shown = _metrics(deployed)
    return tradeoff(costs, num_frames=shown["num_test_frames"], num_threads=shown["num_threads"])


def _worst_errors(deployed: str, chosen: pd.DataFrame, max_thumbnails: int) -> bytes:
    """Draw the errors that the deployed model is surest of."""
    wrong = chosen[~chosen["is_right"]]
    if wrong.empty:
        return message(f"{deployed} gets every test frame right", f"all {len(chosen):,} of them")
    title = f"The worst errors of {deployed}: surest and wrong"
    return _sheet(title, wrong, len(chosen), max_thumbnails)


def _lost(deployed: str, reference: pd.DataFrame, chosen: pd.DataFrame, max_thumbnails: int) -> bytes:
    """Draw the frames that float32 gets right and the deployed model gets wrong."""
    if deployed == layout.REFERENCE_SCHEME:
        return message("Nothing is lost", f"{deployed} itself is deployed, which the others are compared with")
    key = ["take", "frame_id"]
    right_before = pd.MultiIndex.from_frame(reference.loc[reference["is_right"], key])
    lost = chosen[~chosen["is_right"] & pd.MultiIndex.from_frame(chosen[key]).isin(right_before)]
    if lost.empty:
        return message(f"{deployed} loses nothing", "Every test frame that float32 gets right it gets right, too.")
    return _sheet(f"What float32 gets right and {deployed} gets wrong", lost, len(chosen), max_thumbnails)


def _sheet(title: str, rows: pd.DataFrame, num_frames: int, max_thumbnails: int) -> bytes:
    """Draw frames, the surest of each take first, then the second of each: neighbours in a video are near-copies."""
    ordered = rows.sort_values(["probability", "take", "frame_id"], ascending=[False, True, True], kind="stable")
    turn = ordered.groupby("take", sort=False).cumcount()
    shown = ordered.assign(turn=turn).sort_values("turn", kind="stable").head(max_thumbnails)
    counted = (
        f"✗ what it says, ✓ what it is. {len(rows):,} of {num_frames:,} test frames, {rows['take'].nunique()} take(s)"
    )
    how = "; the surest of each take first" + (f", {len(shown)} shown" if len(shown) < len(rows) else "")
    return contact_sheet(title, counted + how, [thumbnail(row) for row in shown.to_dict("records")])


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
    found: dict[str, Any] = json.loads(layout.metrics(scheme).read_text())
    return found


def main() -> None:
    """Run the stage from the command line."""
    run_stage("report", ReportStage, report)


if __name__ == "__main__":
    main()
