"""The stage `crossval`, how takes are dealt out to folds, and between what figures lie."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.crossval import CrossvalConfig, CrossvalStage
from pipeline.crossval import crossval
from pipeline.files import layout
from pipeline.heads.crossvalidation import cross_validate
from pipeline.heads.training import train_head
from pipeline.metrics.classification import Predictions
from pipeline.metrics.intervals import intervals_of, standard_error
from pipeline.metrics.predictions import read_predictions
from pipeline.takes.folds import deal
from pipeline.takes.rows import Unit
from tests import tiny_models, tiny_project
from tests.test_train import blobs

CONFIG = CrossvalConfig(num_folds=5, learning_percents=[50], num_calibration_bins=10)


def units_of(counts: dict[str, int]) -> list[Unit]:
    return [Unit(label, f"{label}/{i}.mp4", "train", is_whole=True) for label, n in counts.items() for i in range(n)]


COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 12), min_size=2)


@given(COUNTS, st.integers(2, 7))
def test_each_take_is_held_out_once_and_never_the_last_of_its_label(counts: dict[str, int], num_folds: int) -> None:
    units = units_of(counts)
    folds = deal(units, range(len(units)), num_folds)
    held_out = [index for fold in folds for index in fold]
    assert sorted(held_out) == [index for index, unit in enumerate(units) if counts[unit.label] > 1]
    for fold in folds:
        for label, count in counts.items():
            assert sum(units[index].label == label for index in fold) < max(count, 2)
    sizes = [len(fold) for fold in folds]
    assert not folds or max(sizes) - min(sizes) <= 1


def test_a_take_is_in_the_same_fold_wherever_it_stands() -> None:
    units = units_of({"a": 6, "b": 7})
    names = [{units[index].take for index in fold} for fold in deal(units, range(13))]
    turned = units[::-1]
    assert [{turned[index].take for index in fold} for fold in deal(turned, range(13))] == names


def test_of_a_cut_take_the_train_block_always_stays() -> None:
    units = [Unit("a", "a/1.mp4", part, is_whole=False) for part in ("train", "validation", "test")]
    units += units_of({"b": 3})
    held_out = sorted(index for fold in deal(units, range(6)) for index in fold)
    assert held_out == [1, 2, 3, 4, 5]
    assert 1 not in {index for fold in deal(units, [0, 2, 3, 4, 5]) for index in fold}  # a block without a frame


def test_a_live_photo_is_held_out_with_its_video() -> None:
    units = units_of({"a": 6, "b": 6})
    units += [Unit("a", f"a/{i}.jpg", "train", is_whole=True) for i in range(6)]
    for fold in deal(units, range(len(units))):
        takes = {units[index].take for index in fold if units[index].label == "a"}
        assert {name.split(".")[0] + ".jpg" for name in takes} <= takes


def test_each_frame_is_scored_by_a_head_that_was_trained_without_its_take() -> None:
    rows = blobs((40, 30), num_copies=1)
    found, learning, asked = cross_validate(rows, tiny_project.TRAINING, num_folds=4, percents=[50], title="")
    frames = rows.only(rows.are_frames)
    assert asked.empty
    assert found.frame_ids == tuple(frames.frame_ids)
    assert found.actual.tolist() == frames.label_indices.tolist()
    for fold in deal(rows.units, range(8), 4):
        head = train_head(rows.only(~rows.of_units(fold)), tiny_project.TRAINING, title="").head
        is_held_out = frames.of_units(fold)
        logits = frames.features[is_held_out] @ head.weights + head.bias
        assert found.predicted[is_held_out].tolist() == logits.argmax(1).tolist()
    assert learning["percent"].tolist() == [50] * 3 + [100] * 3
    assert learning["num_takes"].tolist() == [4.0] * 3 + [6.0] * 3
    assert learning["label"].tolist() == ["", "a", "b"] * 2
    is_right = found.predicted == found.actual
    assert learning[learning["percent"] == 100]["recall"].tolist() == pytest.approx(
        [is_right.mean(), is_right[:40].mean(), is_right[40:].mean()]
    )


def test_a_share_that_is_the_same_takes_again_is_drawn_once() -> None:
    found = cross_validate(blobs((40, 30)), tiny_project.TRAINING, num_folds=4, percents=[1, 2, 99], title="")
    assert sorted(set(found.learning["percent"])) == [1, 100]


def test_the_stage_writes_figures_predictions_and_the_learning_curve(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["int8"])
    crossval(CrossvalStage("int8", tiny_project.TRAINING, tiny_project.UNKNOWN, CONFIG, tiny_project.ENGINE))
    figures = json.loads(layout.crossval_figures("int8").read_text())
    table = read_predictions(layout.crossval_predictions("int8"))
    assert len(table) == figures["num_test_frames"] == 6 * tiny_project.NUM_FRAMES
    assert figures["accuracy"] == table["is_right"].mean() == 1  # dark red and light blue are easily told apart
    assert figures["intervals"]["accuracy"] == {"low": pytest.approx(0.025 ** (1 / 6)), "high": 1}
    assert "agreement_with_float32" not in figures
    assert set(pd.read_csv(layout.learning_curve("int8"))["percent"]) == {50, 100}
    assert "crossval@int8: accuracy 1.000 (0.541 to 1.000) over 30 frames of 6 takes" in capsys.readouterr().err


def test_a_backbone_that_has_learned_from_the_takes_is_not_cross_validated(folder: Path) -> None:
    crossval(
        CrossvalStage(
            "int8", replace(tiny_project.TRAINING, mode="finetune"), tiny_project.UNKNOWN, CONFIG, tiny_project.ENGINE
        )
    )
    assert json.loads(layout.crossval_figures("int8").read_text()) == {}
    assert len(read_predictions(layout.crossval_predictions("int8"))) == 0


def predictions(num_takes: int, wrong: set[int], *, num_frames: int = 5) -> Predictions:
    """Takes of two labels in turns; of those that are wrong all frames are."""
    takes = np.repeat(np.arange(num_takes), num_frames)
    actual = takes % 2
    said = np.where(np.isin(takes, list(wrong)), 1 - actual, actual)
    return Predictions(
        labels=("a", "b"),
        takes=tuple(f"{'ab'[take % 2]}/{take}" for take in takes),
        frame_ids=tuple(map(str, range(len(takes)))),
        actual=actual,
        probabilities=np.where(said[:, np.newaxis] == [0, 1], 0.8, 0.2).astype(np.float32),
    )


def test_intervals_are_those_of_so_many_takes_not_of_so_many_frames() -> None:
    """Of twenty takes four are wrong: the share of successes of twenty trials, whose quantiles are known."""
    few, many = (intervals_of(predictions(20, {1, 4, 7, 10}, num_frames=n)) for n in (1, 50))
    assert few is not None
    assert many is not None
    assert few.accuracy == many.accuracy
    assert few.accuracy == {"low": pytest.approx(0.6), "high": pytest.approx(0.95)}  # of the binomial (20, 0.8) / 20
    assert few.take_accuracy == few.accuracy
    assert few.recall["a"]["high"] - few.recall["a"]["low"] > 0.35  # of ten takes


def test_takes_that_are_all_right_promise_no_more_than_so_many_trials() -> None:
    found = intervals_of(predictions(6, set()))
    assert found is not None
    assert found.accuracy == {"low": pytest.approx(0.025 ** (1 / 6)), "high": 1}
    assert found.recall["a"] == {"low": pytest.approx(0.025 ** (1 / 3)), "high": 1}
    nothing = intervals_of(predictions(6, set(range(6))))
    assert nothing is not None
    assert nothing.accuracy == {"low": 0, "high": pytest.approx(1 - 0.025 ** (1 / 6))}


def test_one_take_tells_nothing_of_others() -> None:
    assert intervals_of(predictions(1, set())) is None


def test_the_standard_error_is_that_of_a_share_of_takes() -> None:
    found = predictions(100, set(range(20)))
    error = standard_error(found.predicted == found.actual, found.takes)
    assert error == pytest.approx(np.sqrt(0.2 * 0.8 / 100), rel=0.05)
