import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.config.evaluate import EvaluateConfig, EvaluateStage
from pipeline.evaluate import evaluate, held_out_frames, predict
from pipeline.files import layout, write_bytes
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.head import append_head
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import embed_labels
from pipeline.metrics.classification import Predictions, expected_calibration_error, score, take_accuracy
from pipeline.takes.splits import read_takes
from tests import tiny_models, tiny_project

CONFIG = EvaluateConfig(num_threads=1, num_warmup_runs=1, num_latency_runs=5, num_calibration_bins=10)

KEYS = {
    *("accuracy", "take_accuracy", "macro_f1", "log_loss", "expected_calibration_error", "agreement_with_float32"),
    *("accuracy_drop", "per_class", "size_bytes", "latency_ms", "num_threads", "peak_memory_bytes", "num_test_frames"),
    *("num_test_takes", "scheme", "backbone"),
}


def write_model(scheme: str, *, swap: bool = False) -> None:
    """Write a classifier with random weights; swapped, it says the opposite."""
    weights, bias = tiny_models.head(num_labels=2)
    if swap:
        weights, bias = weights[:, ::-1], bias[::-1]
    model = append_head(tiny_models.backbone(), weights, bias)
    write_bytes(layout.model(scheme), embed_labels(model, tiny_project.LABELS, name="tiny", description="tiny"))


def predictions(actual: list[int], probabilities: list[list[float]], takes: list[str] | None = None) -> Predictions:
    num = len(actual)
    return Predictions(
        labels=("a", "b", "c")[: len(probabilities[0])],
        takes=tuple(takes or [f"t{i}" for i in range(num)]),
        frame_ids=tuple(map(str, range(num))),
        actual=np.array(actual),
        probabilities=np.array(probabilities, np.float32),
    )


def test_the_metrics_file_keeps_its_contract(folder: Path) -> None:
    tiny_project.make()
    write_model("float32")
    write_model("int8", swap=True)
    evaluate(EvaluateStage("float32", "stretch", tiny_project.BACKBONE, CONFIG))
    evaluate(EvaluateStage("int8", "stretch", tiny_project.BACKBONE, CONFIG))
    reference, swapped = (json.loads(layout.metrics(scheme).read_text()) for scheme in ("float32", "int8"))
    assert set(reference) == set(swapped) == KEYS
    assert set(reference["per_class"]) == set(tiny_project.LABELS)
    assert set(reference["latency_ms"]) == {"p50", "p90", "p99"}
    assert (reference["agreement_with_float32"], reference["accuracy_drop"]) == (1, 0)
    assert swapped["agreement_with_float32"] == 0
    assert swapped["accuracy_drop"] == pytest.approx(2 * reference["accuracy"] - 1)
    assert swapped["size_bytes"] == layout.model("int8").stat().st_size
    assert (reference["num_test_frames"], reference["num_test_takes"]) == (2 * tiny_project.NUM_FRAMES, 2)
    assert (swapped["scheme"], swapped["backbone"], swapped["num_threads"]) == ("int8", "tiny", 1)
    table = pd.read_csv(layout.predictions("int8"))
    assert table["is_right"].mean() == pytest.approx(swapped["accuracy"])
    confusion = pd.read_csv(layout.confusion("int8"))
    diagonal = confusion[confusion["actual"] == confusion["predicted"]]
    assert diagonal["num_frames"].sum() / confusion["num_frames"].sum() == pytest.approx(swapped["accuracy"])


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def held_out_frames_are_scored_from_pixels_through_the_one_preprocessing_function(folder: Path, resize: str) -> None:
    tiny_project.make()
    write_model("float32")
    frames = list(held_out_frames(read_takes(layout.SPLITS)))
    model = Model(layout.model("float32").read_bytes())
    expected = [model(to_model_input(decode_jpeg(frame.image), 16, resize)) for frame in frames]
    found = predict(layout.model("float32"), frames, resize, title="")
    assert np.array_equal(found.probabilities, np.stack(expected))
    assert found.takes == ("cup/test.mp4",) * 5 + ("rote Möhre/test.mp4",) * 5


def test_metrics_of_a_case_worked_out_by_hand() -> None:
    model = predictions([0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    reference = predictions([0, 0, 1, 1], [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    metrics = score(model, reference, num_bins=10)
    assert metrics["accuracy"] == 0.75
    assert metrics["accuracy_drop"] == 0.25
    assert metrics["agreement_with_float32"] == 0.75
    assert metrics["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.4) + math.log(0.8) + math.log(0.7)) / 4)
    per_class = metrics["per_class"]
    assert per_class == {
        "a": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)},
        "b": {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8)},
    }
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)


def held_out_frames_of_a_take_vote_and_confidence_breaks_ties() -> None:
    rows = [[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.9, 0.1], [0.4, 0.6]]
    assert take_accuracy(predictions([1, 1, 1, 0, 0], rows, ["x", "x", "x", "y", "y"])) == 1.0
    assert take_accuracy(predictions([0, 0, 0, 0, 0], rows, ["x", "x", "x", "y", "y"])) == 0.5


def test_a_label_that_is_never_predicted_scores_zero() -> None:
    metrics = score(*[predictions([0, 1, 2], [[0.8, 0.1, 0.1]] * 3)] * 2, num_bins=10)
    assert metrics["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}  # type: ignore[index]


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    always_sure = predictions([0, 0, 0, 1], [[0.95, 0.05]] * 4)
    assert expected_calibration_error(always_sure, 10) == pytest.approx(0.95 - 0.75)
    calibrated = predictions([0, 0, 0, 1], [[0.75, 0.25]] * 4)
    assert expected_calibration_error(calibrated, 10) == pytest.approx(0, abs=1e-7)
