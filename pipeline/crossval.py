"""Stage `crossval`: scores heads like the shipped one on takes that they have never seen.

Reads data/bottlenecks/<scheme> and data/splits.csv; writes plots/crossval/<scheme>/predictions.csv, what each frame is
taken for by a head that was trained without its take, plots/crossval/<scheme>/learning.csv, how that grows with the
takes, plots/crossval/<scheme>/unknown.csv, what they say of things that are none of the labels, and in build/crossval/
<scheme>.json, the figures with their intervals, and <scheme>.npy, all probabilities.
The bottlenecks are what the phone computes, and the head behind them is one matrix: so this is the shipped arithmetic,
at the cost of training a few heads. A backbone that was fine-tuned has learned from the takes: nothing can be held out
any more, and the files are empty.
"""

import io
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.config.application import run_stage
from pipeline.config.crossval import CrossvalStage
from pipeline.config.train import HEAD
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.crossvalidation import LEARNING_COLUMNS, cross_validate
from pipeline.heads.inputs import learned_rows
from pipeline.metrics.figures import figures_alone
from pipeline.metrics.predictions import COLUMNS
from pipeline.metrics.unknown import OTHERS, asked_table, figures_of
from pipeline.takes.engines import engine_of


def crossval(config: CrossvalStage) -> None:
    """Cross-validate one scheme and write what came out."""
    if config.training.mode != HEAD:
        empty = [pd.DataFrame(columns=list(columns)) for columns in (COLUMNS, LEARNING_COLUMNS)]
        _write(config.scheme, empty[0], empty[1], asked_table(), {})
        _write_probabilities(config.scheme, np.zeros((0, 0), np.float32))
        sys.stderr.write(f"crossval@{config.scheme}: nothing, since the backbone has learned from the takes\n")
        return
    rows, lookalikes = learned_rows(config.scheme, config.unknown.mode)
    predictions, learning, asked = cross_validate(
        rows,
        config.training,
        num_folds=config.crossval.num_folds,
        percents=config.crossval.learning_percents,
        title=f"crossval@{config.scheme}",
        keep_percent=config.unknown.keep_percent,
        engine=engine_of(config.engine, at_once_here=1),  # a fold uses all processors by itself
    )
    figures = figures_alone(predictions, num_bins=config.crossval.num_calibration_bins)
    if len(asked):
        figures["unknown"] = figures_of(asked) | {"lookalikes": {one.take: one.label for one in lookalikes}}
    _write(config.scheme, predictions.table(), learning, asked, figures)
    _write_probabilities(config.scheme, predictions.probabilities)
    sys.stderr.write(f"crossval@{config.scheme}: {_told(figures)}\n")


def _told(figures: Mapping[str, Any]) -> str:
    text = f"accuracy {figures['accuracy']:.3f}"
    if figures["intervals"]:
        text += " ({low:.3f} to {high:.3f})".format(**figures["intervals"]["accuracy"])
    text += f" over {figures['num_test_frames']} frames of {figures['num_test_takes']} takes, each held out once"
    unknown = figures.get("unknown", {})
    if unknown:
        text += f"; {unknown['kept']:.1%} of them named"
    if strangers := unknown.get("strangers"):
        text += f", {strangers['refused']:.1%} of {strangers['num_frames']} strangers refused"
    return text


def _write(
    scheme: str, predictions: pd.DataFrame, learning: pd.DataFrame, asked: pd.DataFrame, figures: dict[str, object]
) -> None:
    write_text(layout.crossval_predictions(scheme), predictions.to_csv(index=False, lineterminator="\n"))
    write_text(layout.learning_curve(scheme), learning.to_csv(index=False, lineterminator="\n"))
    said = asked[asked["kind"] != OTHERS].round({"probability": 6, "threshold": 6})
    write_text(layout.crossval_unknown(scheme), said.to_csv(index=False, lineterminator="\n"))
    write_text(layout.crossval_figures(scheme), json.dumps(figures, indent=2, ensure_ascii=False) + "\n")


def _write_probabilities(scheme: str, probabilities: npt.NDArray[np.float32]) -> None:
    content = io.BytesIO()
    np.save(content, probabilities.astype(np.float32))
    write_bytes(layout.crossval_probabilities(scheme), content.getvalue())


def main() -> None:
    """Run the stage from the command line."""
    run_stage("crossval", CrossvalStage, crossval)


if __name__ == "__main__":
    main()
