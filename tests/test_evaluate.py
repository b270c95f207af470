import json
import math
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from pipeline.config.evaluate import EvaluateConfig, EvaluateStage
from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate, spread
from pipeline.files import layout, sha256_of_file, write_bytes, write_text
from pipeline.heads.classifier import classifier
from pipeline.heads.head_file import Head, to_bytes
from pipeline.heads.held_out import ask, ask_once, held_out_frames, predictions_of
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.litert.runtimes import Classifier, classify, open_classifier
from pipeline.metrics.classification import (
    Predictions,
    agreement,
    expected_calibration_error,
    largest_difference,
    score,
    take_accuracy,
)
from pipeline.metrics.predictions import COLUMNS
from pipeline.takes.cache import TakeCache, cache_folder
from pipeline.takes.splits import read_takes
from tests import tiny_models, tiny_project, tiny_results

CONFIG = EvaluateConfig(
    runtime="litert",
    num_calibration_bins=10,
    num_reference_frames=4,
)

KEYS = {
    *("scored_by", "standard_error", "intervals", "worst_recall", "test", "baseline_accuracy"),
    *("accuracy", "take_accuracy", "macro_f1", "log_loss", "expected_calibration_error", "agreement_with_float32"),
    *("accuracy_drop", "per_class", "size_bytes", "num_test_frames", "model_sha256"),
    *("num_test_takes", "scheme", "backbone", "runtime", "num_reference_frames", "agreement_with_litert"),
    *("largest_probability_difference_litert", "agreement_with_reference_kernels", "compressed_size_bytes"),
    "largest_probability_difference_reference_kernels",
}


def write_model(scheme: str, *, swap: bool = False) -> None:
    """Write what a classifier with random weights is made of, not cross-validated; swapped, it says the opposite."""
    weights, bias = tiny_models.head(num_labels=2)
    if swap:
        weights, bias = weights[:, ::-1], bias[::-1]
    head = Head(weights, bias, tiny_project.LABELS)
    write_bytes(layout.backbone(scheme), tiny_models.backbone())
    write_bytes(layout.held_out_head(scheme), to_bytes(head))
    write_bytes(layout.model(scheme), classifier(tiny_models.backbone(), head, name="tiny"))
    tiny_project.have_no_further_heads(scheme)
    write_text(layout.crossval_figures(scheme), "{}")
    write_text(layout.crossval_predictions(scheme), ",".join(COLUMNS) + "\n")


def predictions(actual: list[int], probabilities: list[list[float]], takes: list[str] | None = None) -> Predictions:
    num = len(actual)
    return Predictions(
        labels=("a", "b", "c", "d", "e")[: len(probabilities[0])],
        takes=tuple(takes or [f"t{i}" for i in range(num)]),
        frame_ids=tuple(map(str, range(num))),
        actual=np.array(actual),
        probabilities=np.array(probabilities, np.float32),
    )


def test_the_metrics_file_keeps_its_contract(folder: Path) -> None:
    tiny_project.make()
    write_model("float32")
    write_model("int8", swap=True)
    evaluate(EvaluateStage("float32", "stretch", tiny_project.BACKBONE.name, CONFIG))
    evaluate(EvaluateStage("int8", "stretch", tiny_project.BACKBONE.name, CONFIG))
    reference, swapped = (json.loads(layout.evaluation(scheme).read_text()) for scheme in ("float32", "int8"))
    assert set(reference) == set(swapped) == KEYS
    assert set(reference["per_class"]) == set(tiny_project.LABELS)
    assert (reference["scored_by"], reference["accuracy"]) == ("test", reference["test"]["accuracy"])
    assert (reference["agreement_with_float32"], reference["accuracy_drop"]) == (1, 0)
    assert swapped["agreement_with_float32"] == 0
    assert swapped["accuracy_drop"] == pytest.approx(2 * reference["accuracy"] - 1)
    assert swapped["size_bytes"] == layout.model("int8").stat().st_size
    assert swapped["compressed_size_bytes"] == len(zlib.compress(layout.model("int8").read_bytes(), 9))
    assert (reference["num_test_frames"], reference["num_test_takes"]) == (2 * tiny_project.NUM_FRAMES, 2)
    assert (swapped["scheme"], swapped["backbone"]) == ("int8", "tiny")
    assert swapped["model_sha256"] == sha256_of_file(layout.model("int8"))
    table = pd.read_csv(layout.predictions("int8"))
    assert table["is_right"].mean() == pytest.approx(swapped["accuracy"])
    confusion = pd.read_csv(layout.confusion("int8"))
    diagonal = confusion[confusion["actual"] == confusion["predicted"]]
    assert diagonal["num_frames"].sum() / confusion["num_frames"].sum() == pytest.approx(swapped["accuracy"])


def test_cross_validation_leads_and_the_test_takes_stand_beside_it(folder: Path) -> None:
    tiny_project.make()
    for scheme, wrong in (("float32", []), ("int8", [2, 3])):
        write_model(scheme)
        table = tiny_results.predictions(wrong)
        write_text(layout.crossval_predictions(scheme), table.to_csv(index=False))
        found = {"accuracy": float(table["is_right"].mean()), "num_test_frames": 99, "intervals": {"accuracy": {}}}
        write_text(layout.crossval_figures(scheme), json.dumps(found))
    evaluate(EvaluateStage("int8", "stretch", tiny_project.BACKBONE.name, CONFIG))
    metrics = json.loads(layout.evaluation("int8").read_text())
    assert (metrics["scored_by"], metrics["accuracy"], metrics["num_test_frames"]) == ("crossval", 0.8, 99)
    assert metrics["accuracy_drop"] == pytest.approx(0.2)
    assert metrics["intervals"]["accuracy_drop"] == {"low": 0.0, "high": pytest.approx(0.4)}
    assert metrics["test"]["accuracy_drop"] == 0  # both have the same head here
    assert metrics["test"]["num_test_frames"] == 2 * tiny_project.NUM_FRAMES


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_held_out_frames_are_scored_through_the_one_preprocessing_function(folder: Path, resize: str) -> None:
    tiny_project.make()
    write_model("float32")
    frames = list(held_out_frames(read_takes(layout.SPLITS)))
    model = Model(layout.model("float32").read_bytes())
    expected = [model(to_model_input(decode_jpeg(frame.image), 16, resize)) for frame in frames]
    answers = ask(layout.model("float32").read_bytes(), frames, resize, "litert", title="")
    found = predictions_of(frames, *answers.first)
    assert np.array_equal(found.probabilities, np.stack(expected))
    assert found.takes == ("cup/test.mp4",) * 5 + ("rote Möhre/test.mp4",) * 5


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by a title each time that a model runs on frames."""
    titles = list[str]()

    def recording(*arguments: Any, title: str, unit: str) -> list[Any]:
        titles.append(title.strip())
        return classify(*arguments, title=title, unit=unit)

    monkeypatch.setattr("pipeline.heads.held_out.classify", recording)
    return titles


def test_float32_runs_once_for_all_schemes(folder: Path, ran: list[str]) -> None:
    tiny_project.make()
    write_model("float32")
    write_model("int8", swap=True)
    for scheme in ("float32", "int8"):
        evaluate(EvaluateStage(scheme, "stretch", tiny_project.BACKBONE.name, CONFIG))
    plain = "reference kernels beside it"
    assert ran == ["evaluate@float32", plain, "evaluate@int8", plain]
    outputs = [layout.evaluation("int8"), layout.predictions("int8"), layout.confusion("int8")]
    found = [path.read_bytes() for path in outputs]
    shutil.rmtree(cache_folder())
    evaluate(EvaluateStage("int8", "stretch", tiny_project.BACKBONE.name, CONFIG))
    assert ran[4:] == ["evaluate@int8", "float32 beside it", plain]
    assert [path.read_bytes() for path in outputs] == found


@pytest.mark.parametrize(
    ("change", "is_kept"),
    [
        ({}, True),
        ({"model": "int8"}, False),
        ({"resize": "crop"}, False),
        ({"runtime": "reference"}, False),
        ({"frames": slice(1, None)}, False),
        ({"frames": slice(None, None, -1)}, False),
    ],
)
def test_only_the_very_question_is_answered_from_memory(
    folder: Path, ran: list[str], change: dict[str, Any], is_kept: bool
) -> None:
    tiny_project.make()
    write_model("float32")
    write_model("int8", swap=True)
    frames = list(held_out_frames(read_takes(layout.SPLITS)))
    question: dict[str, Any] = {"model": "float32", "resize": "stretch", "runtime": "litert", "frames": slice(None)}
    answers = []
    for one in (question, question | change):
        model, chosen = layout.model(one["model"]).read_bytes(), frames[one["frames"]]
        settings = (one["resize"], one["runtime"])
        kept = ask_once(model, chosen, *settings, title="", cache=TakeCache(Path("cache")))
        num_runs = len(ran)
        answers.append((kept.probabilities.tolist(), ask(model, chosen, *settings, title="").probabilities.tolist()))
        del ran[num_runs:]
    assert len(ran) == (1 if is_kept else 2)
    assert all(kept == asked for kept, asked in answers)


def test_what_runs_on_packages_that_no_key_names_is_asked_each_time(
    folder: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_project.make()
    write_model("float32")

    def open_here(content: bytes, *, runtime: str, resize: str) -> Classifier:
        return open_classifier(content, runtime="litert" if runtime == "arm64" else runtime, resize=resize)

    monkeypatch.setattr("pipeline.heads.held_out.open_classifier", open_here)
    frames = list(held_out_frames(read_takes(layout.SPLITS)))
    for _ in range(2):
        ask_once(layout.model("float32").read_bytes(), frames, "stretch", "arm64", title="", cache=TakeCache(folder))
    assert len(ran) == 2


@pytest.mark.parametrize("runtime", ["litert", "reference"])
def test_the_metrics_tell_whether_the_runtimes_agree(
    folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    opened = []

    def recording(content: bytes, *, runtime: str, resize: str) -> Classifier:
        opened.append(runtime)
        return open_classifier(content, runtime=runtime, resize=resize)

    monkeypatch.setattr("pipeline.heads.held_out.open_classifier", recording)
    tiny_project.make()
    write_model("float32")
    evaluate(EvaluateStage("float32", "stretch", tiny_project.BACKBONE.name, replace(CONFIG, runtime=runtime)))
    metrics = json.loads(layout.evaluation("float32").read_text())
    assert set(metrics) == KEYS
    assert (metrics["runtime"], metrics["num_reference_frames"]) == (runtime, 4)
    for kernels in ("litert", "reference_kernels"):
        assert metrics[f"agreement_with_{kernels}"] == 1
        assert metrics[f"largest_probability_difference_{kernels}"] < 1e-5
    assert set(opened) == {"litert", "reference"}


def test_agreement_and_largest_difference_of_a_case_worked_out_by_hand() -> None:
    one = predictions([0, 0], [[0.9, 0.1], [0.6, 0.4]])
    other = predictions([0, 0], [[0.8, 0.2], [0.3, 0.7]])
    assert agreement(one, other) == 0.5
    assert largest_difference(one, other) == pytest.approx(0.3)


@given(st.integers(1, 500), st.integers(1, 60))
def test_reference_frames_are_spread_over_all_frames(num_frames: int, num_wanted: int) -> None:
    chosen = spread(num_frames, num_wanted).tolist()
    assert len(set(chosen)) == min(num_frames, num_wanted)
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    assert num_wanted == 1 or chosen[-1] == num_frames - 1


def test_mediapipe_does_not_crop(folder: Path) -> None:
    tiny_project.make()
    write_model("float32")
    with pytest.raises(PipelineError, match="resize: crop with runtime: mediapipe\n  expected: resize: stretch"):
        evaluate(EvaluateStage("float32", "crop", tiny_project.BACKBONE.name, replace(CONFIG, runtime="mediapipe")))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("runtime", "tflite", "one of litert, reference, mediapipe, arm64"), ("num_reference_frames", 0, "at least 1")],
)
def test_settings_out_of_range(name: str, value: Any, expected: str) -> None:
    with pytest.raises(PipelineError, match=f"evaluate.{name}: {value}\n  expected: .*{expected}"):
        replace(CONFIG, **{name: value})


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


def test_the_usual_definitions() -> None:
    """Against scikit-learn, which takes half a second to import."""
    generator = np.random.default_rng(0)
    actual, predicted = generator.integers(0, 4, 60), generator.integers(0, 4, 60)
    predicted[predicted == 3] = 0  # one label is never predicted
    model = predictions(actual.tolist(), np.eye(5)[predicted].tolist())  # and one neither shown nor predicted
    every = list(range(5))
    expected = precision_recall_fscore_support(actual, predicted, labels=every, zero_division=0.0)
    per_class = score(model, model, num_bins=10)["per_class"]
    for index, found in enumerate(per_class.values()):  # type: ignore[attr-defined]
        assert list(found.values()) == pytest.approx([values[index] for values in expected[:3]])
    counts = model.confusion()["num_frames"].to_numpy().reshape(5, 5)
    assert np.array_equal(counts, confusion_matrix(actual, predicted, labels=every))


def test_held_out_frames_of_a_take_vote_and_confidence_breaks_ties() -> None:
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
