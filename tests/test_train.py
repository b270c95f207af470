import contextlib
import json
import re
import struct
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save
from scipy.special import log_softmax, softmax

from pipeline.config.train import TrainStage
from pipeline.errors import ModelError
from pipeline.files import layout
from pipeline.heads.choosing import DEFAULT_STRENGTH, STRENGTHS, choose, temperature_of
from pipeline.heads.head_file import Head, read_head, to_bytes
from pipeline.heads.regression import fit_path
from pipeline.heads.training import fit_head, train_head
from pipeline.heads.weighing import output_weights, row_weights
from pipeline.takes.examples import FeatureFile
from pipeline.takes.folds import deal
from pipeline.takes.rows import Rows, Unit, read_rows
from pipeline.takes.splits import read_takes
from pipeline.train import train
from tests import tiny_models, tiny_project

LABELS = ("a", "b")


def blobs(num_each: tuple[int, ...], seed: int = 0, *, num_takes: int = 4, num_copies: int = 0) -> Rows:
    """Overlapping clouds in four dimensions, one a label, dealt out to takes."""
    generator = np.random.default_rng(seed)
    shifts = np.linspace(-0.5, 0.5, len(num_each))
    features = [generator.normal(shift, 1, (num, 4)) for num, shift in zip(num_each, shifts, strict=True)]
    labels = tuple("abcdefgh"[: len(num_each)])
    units = [
        Unit(label, f"{label}/{take}.mp4", "train", is_whole=True) for label in labels for take in range(num_takes)
    ]
    label_indices = np.repeat(np.arange(len(num_each)), num_each)
    takes = [np.arange(num) % num_takes for num in num_each]
    rows = Rows(
        np.concatenate(features).astype(np.float32),
        label_indices,
        label_indices * num_takes + np.concatenate(takes),
        np.zeros(sum(num_each), np.int64),
        np.array([str(number) for number in range(sum(num_each))], object),
        labels,
        tuple(units),
    )
    return rows if not num_copies else with_copies(rows, num_copies)


def with_copies(rows: Rows, num_copies: int) -> Rows:
    """Add copies, which are the frames themselves."""
    tile = 1 + num_copies
    return replace(
        rows,
        features=np.tile(rows.features, (tile, 1)),
        label_indices=np.tile(rows.label_indices, tile),
        unit_indices=np.tile(rows.unit_indices, tile),
        copies=np.repeat(np.arange(tile), len(rows)),
        frame_ids=np.tile(rows.frame_ids, tile),
    )


def test_the_shipped_head_has_learned_from_all_takes_and_the_other_not_from_test_takes(folder: Path) -> None:
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["int8"])
    train(TrainStage("int8", tiny_project.TRAINING, tiny_project.OFF))
    rows = read_rows(layout.bottlenecks("int8"), read_takes(layout.SPLITS))
    shipped, held_out = read_head(layout.head("int8")), read_head(layout.held_out_head("int8"))
    assert shipped.labels == held_out.labels == tiny_project.LABELS
    for head, known in ((shipped, rows), (held_out, rows.only(rows.are_for_training))):
        expected = train_head(known, tiny_project.TRAINING, title="").head
        assert np.array_equal(head.weights, expected.weights)
        assert (known.features @ head.weights + head.bias).argmax(1).tolist() == known.label_indices.tolist()
    assert not np.array_equal(shipped.weights, held_out.weights)
    assert pd.read_csv(layout.training_curves("int8"))["regularization"].tolist() == list(STRENGTHS)


@pytest.mark.parametrize("changes", [{"final": "train"}, {"mode": "finetune"}])
def test_a_head_that_leaves_test_takes_out_is_the_shipped_one(folder: Path, changes: dict[str, str]) -> None:
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["int8"])
    train(TrainStage("int8", replace(tiny_project.TRAINING, **changes), tiny_project.UNKNOWN))  # type: ignore[arg-type]
    assert layout.head("int8").read_bytes() == layout.held_out_head("int8").read_bytes()


@pytest.mark.parametrize("num_labels", [2, 3])
def test_the_solution_is_the_minimum_of_what_is_minimized(num_labels: int) -> None:
    rows = blobs((60, 30, 20)[:num_labels])
    weights = row_weights(rows.label_indices, num_labels, class_balance=True)
    strength = 0.03
    matrix, bias = next(fit_path(rows.features, rows.label_indices, weights, [strength]))
    deviation = rows.features.std(0)

    def value(matrix: np.ndarray, bias: np.ndarray) -> float:
        logits = rows.features @ matrix + bias
        losses = -log_softmax(logits, axis=1)[np.arange(len(rows)), rows.label_indices]
        standardized = matrix * deviation[:, np.newaxis]
        if num_labels == 2:  # scikit-learn regularizes the difference between the two columns
            penalty = np.square(standardized[:, 1] - standardized[:, 0]).sum()
        else:
            penalty = np.square(standardized).sum()
        return float(np.average(losses, weights=weights) + strength / 2 * penalty)

    least, generator = value(matrix, bias), np.random.default_rng(0)
    for _ in range(50):
        other = matrix + generator.normal(0, 0.02, matrix.shape), bias + generator.normal(0, 0.02, bias.shape)
        assert value(*other) > least - 1e-6


def test_copies_of_all_rows_change_nothing() -> None:
    alone, copied = (
        fit_head(rows, 0.03, class_balance=True) for rows in (blobs((40, 30)), blobs((40, 30), num_copies=2))
    )
    assert alone.weights == pytest.approx(copied.weights, abs=1e-3)


def test_features_may_be_of_any_scale_and_one_may_be_constant() -> None:
    rows = blobs((40, 40))
    scaled = replace(
        rows, features=rows.features * np.array([1e-3, 1, 1e4, 0], np.float32) + np.array([0, 5, 0, 3], np.float32)
    )
    plain = replace(rows, features=rows.features * np.array([1, 1, 1, 0], np.float32))
    logits = [
        one.features @ head.weights + head.bias
        for one in (scaled, plain)
        for head in [fit_head(one, 0.03, class_balance=False)]
    ]
    assert logits[0] == pytest.approx(logits[1], abs=2e-2)


def test_equal_rows_give_equal_bytes() -> None:
    files = {to_bytes(train_head(blobs((40, 40)), tiny_project.TRAINING, title="").head) for _ in range(2)}
    assert len(files) == 1


def test_the_strength_is_chosen_that_is_right_on_takes_that_were_held_out() -> None:
    """Forty features tell takes apart, one is useful, and a fifth is mislabelled: weak learns takes by heart."""
    generator = np.random.default_rng(0)
    rows = blobs((120, 120), num_takes=40)
    of_take = generator.normal(0, 1, (80, 40))[rows.unit_indices]
    is_mislabelled = (generator.random(80) < 0.2)[rows.unit_indices]
    useful = generator.normal(np.where(is_mislabelled, 1 - rows.label_indices, rows.label_indices), 0.3)
    noisy = replace(rows, features=np.hstack([of_take, useful[:, np.newaxis]]).astype(np.float32))
    choice = choose(noisy, deal(noisy.units, range(80)), STRENGTHS, class_balance=False, keep_percent=95)
    path = choice.path.set_index("regularization")["out_of_fold_accuracy"]
    assert choice.strength == path.idxmax() == 0.3
    assert path[0.3] > path[0.0003] + 0.05


def test_where_nothing_can_be_held_out_the_usual_strength_is_taken() -> None:
    rows = blobs((20, 20), num_takes=1)
    choice = choose(rows, deal(rows.units, [0, 1]), STRENGTHS, class_balance=True, keep_percent=95)
    assert (choice.strength, choice.temperature, len(choice.path)) == (DEFAULT_STRENGTH, 1.0, 0)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_too_much_or_too_little_confidence(temperature: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (20000, 3))
    drawn = (generator.random((20000, 1)) > softmax(logits, axis=1).cumsum(1)).sum(1)
    found = temperature_of(temperature * logits, drawn, np.ones(20000, np.float32))
    assert found == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("optimizer", ["lbfgs", pytest.param("adamw", marks=pytest.mark.slow)])
def test_class_balance_gives_rare_labels_their_say(folder: Path, optimizer: str) -> None:
    def share_of_rare(class_balance: bool) -> float:
        config = replace(tiny_project.TRAINING, class_balance=class_balance, steps=200, optimizer=optimizer)
        head = train_head(blobs((400, 20)), config, title="").head
        return float(np.mean((blobs((200, 200), 2).features @ head.weights + head.bias).argmax(1)))

    assert share_of_rare(class_balance=False) < 0.35
    assert 0.35 < share_of_rare(class_balance=True) < 0.65


def test_class_weights_average_to_one() -> None:
    labels = np.repeat([0, 1, 2], [6, 3, 1])
    weights = output_weights(labels, 3, class_balance=True)
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert weights[labels].mean() == pytest.approx(1)
    assert (row_weights(labels, 3, class_balance=False) == 1).all()


@pytest.mark.slow
def test_a_head_trained_in_steps_depends_on_the_seed_alone_and_tensorboard_sees_it(folder: Path) -> None:
    def file(seed: int) -> bytes:
        config = replace(tiny_project.TRAINING, optimizer="adamw", seed=seed)
        trained = train_head(blobs((40, 40)), config, title="", log_folder=Path("logs"))
        assert trained.curves["step"].tolist() == [20, 40, 60]
        assert trained.strength is None
        return to_bytes(trained.head)

    assert file(3) == file(3)
    assert file(3) != file(4)
    assert list(Path("logs").rglob("events.out.tfevents.*"))


def test_frames_are_thinned_out_evenly_where_memory_is_short(folder: Path) -> None:
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["float32"])
    takes, tables = read_takes(layout.SPLITS), layout.bottlenecks("float32")
    every = read_rows(tables, takes)
    assert len(every) == 2 * len(takes) * tiny_project.NUM_FRAMES
    thin = read_rows(tables, takes, max_bytes=every.features.nbytes // 2)
    of_take = [name.rpartition("-")[2] for name in thin.frame_ids[thin.unit_indices == 0]]
    assert of_take == ["0", "2", "4"] * 2  # frames, and their copies
    assert thin.are_frames.sum() * 2 == len(thin)


@given(st.lists(st.integers(0, 29), max_size=50))
def test_a_feature_file_gives_any_rows_as_an_array_does(indices: list[int]) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    file = FeatureFile(Path(tempfile.gettempdir()))
    for part in (vectors[:11], vectors[11:11], vectors[11:]):
        file.append(part)
    assert np.array_equal(file[np.array(indices, int)], vectors[np.array(indices, int)])
    assert np.array_equal(np.asarray(file), vectors)
    assert file.shape == vectors.shape


def some_head() -> Head:
    weights = np.arange(8, dtype=np.float32).reshape(4, 2)
    return Head(weights, np.array([0.5, -0.5], np.float32), ("rote Möhre", '"猫"\n'))


def test_a_head_is_read_as_it_was_written(folder: Path) -> None:
    Path("head").write_bytes(to_bytes(some_head()))
    found = read_head(Path("head"))
    assert (found.weights.tolist(), found.bias.tolist()) == (some_head().weights.tolist(), [0.5, -0.5])
    assert found.labels == some_head().labels


def test_the_file_is_what_safetensors_says_it_is(folder: Path) -> None:
    """An 8-byte length, a JSON header, the arrays: https://github.com/huggingface/safetensors#format."""
    content = to_bytes(some_head())
    (num_header_bytes,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + num_header_bytes])["__metadata__"]
    assert json.loads(metadata["viewfinder_head"]) == {
        "format": 2,
        "labels": ["rote Möhre", '"猫"\n'],
        "threshold": None,
    }
    Path("head").write_bytes(content)
    assert {name: array.shape for name, array in load_file("head").items()} == {"weights": (4, 2), "bias": (2,)}


@pytest.mark.slow
def test_equal_heads_give_equal_bytes_in_every_process() -> None:
    code = "import sys, tests.test_train as t; sys.stdout.buffer.write(t.to_bytes(t.some_head()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == to_bytes(some_head())


def file_with(*, entry: object = None, **arrays: np.ndarray) -> bytes:
    """A head's file, but for what is given."""
    usual = {"weights": some_head().weights, "bias": some_head().bias}
    description = {"format": 2, "labels": ["a", "b"]} if entry is None else entry
    return save(usual | arrays, metadata={"viewfinder_head": json.dumps(description)})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "header too small"),
        (b"PK no zip", "header too large"),
        (to_bytes(some_head())[:40], "invalid header length"),
        (to_bytes(some_head())[:-1], "file not fully covered"),
        (save({"weights": np.zeros((4, 2), np.float32)}), "it holds no `bias`"),
        (save({"weights": np.zeros((4, 2), np.float32), "bias": np.zeros(2, np.float32)}), "has no entry"),
        (file_with(weights=np.zeros((4, 2))), "`weights` is float64, not float32"),
        (file_with(entry={"format": 1, "labels": ["a", "b"]}), "is not of format 2"),
        (file_with(entry=["a", "b"]), "is not of format 2"),
        (file_with(entry={"format": 2, "labels": "ab"}), "has no list of labels"),
        (file_with(entry={"format": 2, "labels": ["a"]}), r"weights \[4, 2\] and bias \[2\] do not fit 1 labels"),
        (
            file_with(entry={"format": 2, "labels": ["a", "b"], "threshold": 0.5}),
            r"weights \[4, 2\] and bias \[2\] do not fit 2 labels, and one output more for what is none of them",
        ),
        (file_with(entry={"format": 2, "labels": ["a"], "threshold": "high"}), "a threshold that is no probability"),
        (file_with(entry={"format": 2, "labels": ["a"], "threshold": 1.5}), "a threshold that is no probability"),
        (file_with(bias=np.zeros(3, np.float32)), r"bias \[3\] do not fit 2 labels"),
    ],
)
def test_a_missing_damaged_or_foreign_head(folder: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        Path("head").write_bytes(content)
    with pytest.raises(ModelError, match=rf"head cannot be read \(.*{reason}.*\)\n  expected: a head written by"):
        read_head(Path("head"))


@given(st.integers(0, len(to_bytes(some_head())) - 1), st.integers(0, 255))
def test_a_damaged_byte_never_ends_in_another_error(position: int, value: int) -> None:
    content = bytearray(to_bytes(some_head()))
    content[position] = value
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(ModelError):
            assert read_head(Path(file.name)).weights.shape == (4, 2)


def test_tensorboard_starts() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tensorboard.main", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+\.\d+", done.stdout, re.MULTILINE)
