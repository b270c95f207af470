"""Stage `evaluate`: scores a model as a phone would run it.

Reads models/backbone/{<scheme>,float32}.tflite and the heads that have never seen the test takes
(models/heads/held_out/, models/multihead/), data/frames, data/splits.csv, what cross-validation found, and models/
classifiers/<scheme>; writes build/evaluation/<scheme>.json and plots/evaluation/<scheme>/{predictions,confusion}.csv.
Cross-validation leads: it rests on every take, the test part on few. The test takes add what it cannot see, from pixels
to label: the very backbone that is shipped runs on the test frames behind the one preprocessing function, by default in
LiteRT. The float32 model answers to the same frames, once for all schemes, since the take cache keeps what it says.
Whether the runtimes agree is measured, too: the metrics have the same keys whichever runtime was chosen, whatever is
installed.
"""

import json
import sys
import zlib
from typing import Any

import numpy as np

from pipeline.config.application import run_stage
from pipeline.config.evaluate import LITERT, REFERENCE, EvaluateStage
from pipeline.errors import InputError
from pipeline.files import layout, sha256_of_bytes, write_text
from pipeline.heads.held_out import (
    Answers,
    HeldOutFrame,
    ask_once,
    held_out_classifier,
    held_out_frames,
    predict,
    predictions_of,
)
from pipeline.metrics.classification import CROSSVAL, Predictions, agreement, largest_difference, score
from pipeline.metrics.figures import with_intervals
from pipeline.metrics.further import HeadScore, agreement_of_heads, predictions_from_pixels
from pipeline.metrics.intervals import accuracy_difference_interval
from pipeline.metrics.predictions import read_scored
from pipeline.takes.cache import project_cache
from pipeline.takes.splits import TEST, read_takes

_COMPRESSION_LEVEL = 9  # zlib's best; zip and gzip, in which apps travel, hold the same


def evaluate(config: EvaluateStage) -> None:
    """Score one scheme's model."""
    frames = list(held_out_frames(read_takes(layout.SPLITS)))
    if not frames:
        raise InputError(
            found=f"no test frame in {layout.FRAMES}/",
            expected="test frames of each label",
            remedy="add takes, and run `dvc repro`: the stage `frames` tells which label lacks which part",
        )
    runtime, resize, model = config.evaluate.runtime, config.resize, held_out_classifier(config.scheme, config.backbone)
    answers = ask_once(model, frames, resize, runtime, title=f"evaluate@{config.scheme}", cache=project_cache())
    beside = answers
    if config.scheme != layout.REFERENCE_SCHEME:
        reference_model = held_out_classifier(layout.REFERENCE_SCHEME, config.backbone)
        beside = ask_once(reference_model, frames, resize, runtime, title="  float32 beside it", cache=project_cache())
    predictions, reference = (predictions_of(frames, *each.first) for each in (answers, beside))
    metrics = (
        figures(predictions, reference, config)
        | _agreement_of_runtimes(model, predictions, frames, config)
        | _file(config)
        | further_figures(answers, beside, frames, config)
    )
    write_text(layout.predictions(config.scheme), predictions.table().to_csv(index=False, lineterminator="\n"))
    write_text(layout.confusion(config.scheme), predictions.confusion().to_csv(index=False, lineterminator="\n"))
    write_text(layout.evaluation(config.scheme), json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    test = metrics["test"]
    sys.stderr.write(
        f"evaluate@{config.scheme}: accuracy {test['accuracy']:.3f} on {test['num_test_frames']} frames of "
        f"{test['num_test_takes']} test takes, from pixels to label\n"
    )


def figures(predictions: Predictions, reference: Predictions, config: EvaluateStage) -> dict[str, Any]:
    """Return the figures that lead, those of the test takes under `test`, and which of them the leading ones are.

    Args:
        predictions: For the test frames.
        reference: float32's for the same frames.
        config: Of the stage.
    """
    test = score(predictions, reference, num_bins=config.evaluate.num_calibration_bins)
    test = with_intervals(test, predictions)
    leading = json.loads(layout.crossval_figures(config.scheme).read_text(encoding="utf-8"))
    scored_by = CROSSVAL if leading else TEST
    if not leading:
        leading = {key: value for key, value in test.items() if key not in ("agreement_with_float32", "accuracy_drop")}
    if scored_by == CROSSVAL:
        tables = [read_scored(scheme) for scheme in (config.scheme, layout.REFERENCE_SCHEME)]
    else:
        tables = [one.table() for one in (predictions, reference)]
    leading["accuracy_drop"] = float(tables[1]["is_right"].mean() - tables[0]["is_right"].mean())
    if drop := accuracy_difference_interval(*tables):
        leading["intervals"]["accuracy_drop"] = dict(zip(("low", "high"), drop, strict=True))
    return {
        "scored_by": scored_by,
        **leading,
        "agreement_with_float32": test["agreement_with_float32"],
        "test": test,
    }


def further_figures(
    answers: Answers, beside: Answers, frames: list[HeldOutFrame], config: EvaluateStage
) -> dict[str, Any]:
    """Return the figures of the further heads under `heads`; nothing if there are none.

    Args:
        answers: Of the model that is scored, for the test frames.
        beside: float32's for the same frames.
        frames: The test frames.
        config: Of the stage.
    """
    known, reference = (
        json.loads(layout.further_figures(scheme).read_text(encoding="utf-8"))
        for scheme in (config.scheme, layout.REFERENCE_SCHEME)
    )
    names, found = [(frame.take, frame.frame_id) for frame in frames], dict[str, Any]()
    for number, output in enumerate(answers.outputs[1:], 1):
        told, told_of_reference = known[output.name], reference[output.name]
        here, there = answers.of(number), beside.of(number)
        test, beside_it = (
            HeadScore.of(
                predictions_from_pixels(each, names, output.labels, told["answers"], kind=told["kind"]),
                num_bins=config.evaluate.num_calibration_bins,
            )
            for each in (here, there)
        )
        found[output.name] = {
            "kind": told["kind"],
            "scored_by": CROSSVAL if told["figures"] else TEST,
            **_leading(told, test).beside(_leading(told_of_reference, beside_it)),
            "agreement_with_float32": agreement_of_heads(here, there, kind=told["kind"]),
            "test": test.figures,
        }
    return {"heads": found} if found else {}


def _leading(told: dict[str, Any], test: HeadScore) -> HeadScore:
    """Return what cross-validation found, or where nothing can be held out what the test takes did."""
    return HeadScore(told["figures"], told["right_answers"]) if told["figures"] else test


def _agreement_of_runtimes(
    model: bytes, predictions: Predictions, frames: list[HeldOutFrame], config: EvaluateStage
) -> dict[str, object]:
    """Compare the chosen runtime with LiteRT on all frames, and LiteRT with its reference kernels on a few.

    With the runtime `litert` the first comparison is of something with itself.
    """
    resize, runtime = config.resize, config.evaluate.runtime
    litert = predictions if runtime == LITERT else predict(model, frames, resize, LITERT, title="  litert beside it")
    few = spread(len(frames), config.evaluate.num_reference_frames)
    chosen = [frames[i] for i in few]
    plain = (
        predictions.only(few)
        if runtime == REFERENCE
        else predict(model, chosen, resize, REFERENCE, title="  reference kernels beside it")
    )
    return {
        "agreement_with_litert": agreement(predictions, litert),
        "largest_probability_difference_litert": largest_difference(predictions, litert),
        "agreement_with_reference_kernels": agreement(litert.only(few), plain),
        "largest_probability_difference_reference_kernels": largest_difference(litert.only(few), plain),
        "num_reference_frames": len(few),
        "runtime": runtime,
    }


def spread(num_frames: int, num_wanted: int) -> np.ndarray:
    """Return indices of frames, int64 [at most num_wanted], at equal distances from the first to the last frame."""
    return np.linspace(0, num_frames - 1, min(num_frames, num_wanted)).round().astype(np.int64)


def _file(config: EvaluateStage) -> dict[str, object]:
    """Tell what there is to tell of the file itself."""
    content = layout.model(config.scheme).read_bytes()
    return {
        "size_bytes": len(content),
        "compressed_size_bytes": len(zlib.compress(content, _COMPRESSION_LEVEL)),
        "scheme": config.scheme,
        "backbone": config.backbone,
        "model_sha256": sha256_of_bytes(content),
    }


def main() -> None:
    """Run the stage from the command line."""
    run_stage("evaluate", EvaluateStage, evaluate)


if __name__ == "__main__":
    main()
