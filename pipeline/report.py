"""Stage `report`: draws what there is to see in the results.

Reads the predictions, curves and metrics of the schemes in `quantization`, and data/frames for the thumbnails; writes
plots/pictures/*.png, which `dvc plots show` puts on its page. What is drawn of frames is about those that the leading
figures are of (see `metrics.predictions.read_scored`). It comes before `gate`, so that a refused model can be looked
at.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config.application import run_stage
from pipeline.config.heads import ONE
from pipeline.config.report import ReportStage
from pipeline.files import layout, write_bytes
from pipeline.files.suffixes import PHOTO_SUFFIXES
from pipeline.images.codec import decode_jpeg
from pipeline.metrics.candidates import candidate_of
from pipeline.metrics.classification import CROSSVAL
from pipeline.metrics.predictions import read_predictions, read_scored
from pipeline.pictures.canvas import letters_without_font, message, short
from pipeline.pictures.confusion import confusion_matrices
from pipeline.pictures.contact_sheet import Thumbnail, contact_sheet
from pipeline.pictures.curves import training_curves
from pipeline.pictures.recalls import learning_curve, recalls
from pipeline.pictures.reliability import reliability_diagrams
from pipeline.pictures.tradeoff import tradeoff
from pipeline.pictures.unknown import known_and_unknown
from pipeline.takes.single_frame import number_of, read_frame
from pipeline.takes.staging import staged


def report(config: ReportStage) -> None:
    """Write the pictures, all or none."""
    with staged(layout.PICTURES) as staging:
        for name, content in pictures(config).items():
            write_bytes(staging / name, content)
    missing = letters_without_font(read_scored(config.deploy)["take"])
    if missing:
        sys.stderr.write(
            f"report: no font on this machine has {' '.join(missing)}, so pictures show {short(missing[0])} and the "
            "like; one of the family Noto Sans would\n"
        )
    sys.stderr.write(f"report: pictures are in {layout.PICTURES}/\n")


def pictures(config: ReportStage) -> dict[str, bytes]:
    """Return PNG files by name."""
    deployed = config.deploy
    reference = read_scored(layout.REFERENCE_SCHEME)
    chosen = read_scored(deployed)
    tables = {f"{deployed} (deployed)": chosen}
    if deployed != layout.REFERENCE_SCHEME:
        tables = {layout.REFERENCE_SCHEME: reference} | tables
    metrics = _metrics(deployed)
    drawn = {
        "confusion.png": confusion_matrices(tables, list(metrics["per_class"])),
        "recalls.png": _recalls(config),
        "learning_curve.png": _learning_curve(deployed),
        "training.png": _training(config.quantization),
        "tradeoff.png": _tradeoff(deployed, config.quantization),
        "reliability.png": reliability_diagrams(tables, num_bins=config.report.num_calibration_bins),
        "unknown.png": _unknown(deployed),
        "worst_errors.png": _worst_errors(deployed, chosen, config.report.num_thumbnails),
        "lost_to_quantization.png": _lost(config, reference),
    }
    drawn |= _heads(dict.fromkeys([layout.REFERENCE_SCHEME, deployed]))
    tuning = pd.read_csv(layout.FINETUNE_CURVES)
    if not tuning.empty:
        drawn["finetuning.png"] = training_curves({"backbone": tuning}, over="epoch", figures=["loss"])
    return drawn


def _heads(schemes: Iterable[str]) -> dict[str, bytes]:
    """Draw what each further head takes for what; of labels that may be true together, how many are found."""
    metrics = {scheme: _metrics(scheme).get("heads", {}) for scheme in schemes}
    drawn = {}
    for head, one in list(metrics.values())[-1].items():
        figures = {scheme: heads[head] for scheme, heads in metrics.items()}
        if one["kind"] == ONE and one["scored_by"] == CROSSVAL:
            tables = {scheme: read_predictions(layout.further_plots(scheme) / f"{head}.csv") for scheme in figures}
            drawn[f"head_{head}.png"] = confusion_matrices(tables, list(one["per_class"]))
        elif all(each.get("intervals") for each in figures.values()):
            drawn[f"head_{head}.png"] = _recalls_of(figures)
    return drawn


def _recalls(config: ReportStage) -> bytes:
    """Draw the share of each label that is right, the worst first, of the deployed scheme beside float32."""
    shown = dict.fromkeys([layout.REFERENCE_SCHEME, config.deploy])
    metrics = {scheme: _metrics(scheme) for scheme in shown}
    if not all(one["intervals"] for one in metrics.values()):
        return message("Nothing to tell yet", "One take is too little to tell how sure a figure is.")
    return _recalls_of(metrics)


def _recalls_of(metrics: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Draw the recalls of a head, which have intervals, by scheme; the last scheme is the deployed one."""
    figures = {
        scheme: {
            label: {"recall": one["per_class"][label]["recall"], **interval}
            for label, interval in one["intervals"]["recall"].items()
        }
        for scheme, one in metrics.items()
    }
    one, of_deployed = list(metrics.values())[-1], list(figures.values())[-1]
    labels = sorted(of_deployed, key=lambda label: of_deployed[label]["recall"])
    seen = "held out once" if one["scored_by"] == CROSSVAL else "not trained on"
    subtitle = f"{one['num_test_frames']:,} frames of {one['num_test_takes']:,} takes, each {seen}"
    return recalls(figures, labels, subtitle)


def _learning_curve(deployed: str) -> bytes:
    table = pd.read_csv(layout.learning_curve(deployed), keep_default_na=False, dtype={"label": str})
    if table.empty:
        return message("No learning curve", "It is drawn by cross-validation of heads that are trained by `lbfgs`.")
    return learning_curve(table, title=f"How {deployed} grows with the takes")


def _unknown(deployed: str) -> bytes:
    """Draw what heads say about what they know and what they do not."""
    table = pd.read_csv(layout.crossval_unknown(deployed), keep_default_na=False)
    if table.empty:
        return message(
            "Nobody was asked", "With `unknown.mode: learned` and `mode: head`, heads are, about other things."
        )
    return known_and_unknown(table, f"How sure {deployed} is of what it knows, and of what it does not")


def _training(schemes: Sequence[str]) -> bytes:
    """Draw how the heads were trained, over whatever that went."""
    tables = {scheme: pd.read_csv(layout.training_curves(scheme)) for scheme in schemes}
    over = next(iter(tables.values())).columns[0]
    if all(table.empty for table in tables.values()):
        return message("No curve", "There are too few takes to hold any out while the head is trained.")
    return training_curves(tables, over=over, figures=["loss", "accuracy"])


def _tradeoff(deployed: str, schemes: Sequence[str]) -> bytes:
    """Draw the schemes that are listed; all of them are scored by now, since metrics/schemes is a dependency."""
    candidates = {scheme: candidate_of(_metrics(scheme)) for scheme in schemes}
    shown = _metrics(deployed)
    return tradeoff(
        list(candidates.values()),
        chosen=candidates[deployed],
        chosen_is="deployed",
        title="What each scheme gives and costs",
        accuracy_label=f"accuracy on {shown['num_test_frames']:,} frames of takes that were not trained on, %",
        num_threads=shown["num_threads"],
    )


def _worst_errors(deployed: str, chosen: pd.DataFrame, max_thumbnails: int) -> bytes:
    """Draw the errors that the deployed model is surest of, one of each take."""
    wrong = {deployed: chosen[~chosen["is_right"]]}
    if wrong[deployed].empty:
        return message(f"{deployed} gets every frame right", f"all {len(chosen):,} of them")
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
        return message("Nothing is lost", f"Every frame that float32 gets right is right in {names}, too.")
    title = f"Right in float32, wrong in {' or '.join(schemes)}"
    return _sheet(title, "{scheme} loses {frames}", lost, reference, config.report.num_thumbnails)


def _lost_by(scheme: str, reference: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of a scheme that are wrong, for frames that float32 gets right."""
    table, key = read_scored(scheme), ["take", "frame_id"]
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
        every: Predictions for all frames that are scored.
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
        origin=_origin(name, row["frame_id"], seconds),
    )


def _origin(name: str, frame_id: str, seconds: float | None) -> str:
    """Tell where a frame is to be found: in a video by its second, in a folder by its place among the names."""
    if seconds is not None:
        return f"{name} at {seconds:.1f} s"
    return name if Path(name).suffix.lower() in PHOTO_SUFFIXES else f"{name}/, photo {number_of(frame_id) + 1} by name"


def _metrics(scheme: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(layout.metrics(scheme).read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Run the stage from the command line."""
    run_stage("report", ReportStage, report)


if __name__ == "__main__":
    main()
