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

from pipeline.config.train import TrainStage
from pipeline.errors import ModelError
from pipeline.files import layout
from pipeline.heads.head_file import Head, read_head, to_bytes
from pipeline.heads.training import class_weights, train_head
from pipeline.takes.examples import Examples, FeatureFile, read_examples
from pipeline.takes.splits import read_takes
from pipeline.train import train
from tests import tiny_models, tiny_project


def blobs(num_each: tuple[int, int], seed: int = 0) -> Examples:
    """Two overlapping clouds in four dimensions."""
    generator = np.random.default_rng(seed)
    features = [generator.normal(shift, 1, (num, 4)) for num, shift in zip(num_each, (-0.5, 0.5), strict=True)]
    return Examples(np.concatenate(features).astype(np.float32), np.repeat([0, 1], num_each))


def test_a_head_learns_and_its_file_holds_the_best_checkpoint(folder: Path) -> None:
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["int8"])
    train(TrainStage("int8", tiny_project.TRAINING))
    curves = pd.read_csv(layout.training_curves("int8"))
    assert list(curves["step"]) == [20, 40, 60]
    head = read_head(layout.head("int8"))
    assert head.labels == tiny_project.LABELS
    validation = read_examples(layout.bottlenecks("int8"), read_takes(layout.SPLITS), "validation")
    logits = np.asarray(validation.features) @ head.weights + head.bias
    accuracy = float(np.mean(logits.argmax(1) == validation.label_indices))
    best = curves.iloc[curves["validation_loss"].argmin()]
    assert accuracy == pytest.approx(best["validation_accuracy"]) == 1.0
    assert list((layout.TENSORBOARD / "int8").rglob("events.out.tfevents.*"))


@pytest.mark.slow
def test_equal_seeds_give_equal_bytes_and_other_seeds_others(folder: Path) -> None:
    def file(seed: int) -> bytes:
        config = replace(tiny_project.TRAINING, seed=seed)
        log_folder = Path("logs")
        trained = train_head(blobs((40, 40)), blobs((9, 9), 1), ["a", "b"], config, title="", log_folder=log_folder)
        return to_bytes(trained.head)

    assert file(3) == file(3)
    assert file(3) != file(4)


@pytest.mark.slow
def test_class_balance_gives_rare_labels_their_say(folder: Path) -> None:
    def share_of_rare(class_balance: bool) -> float:
        config = replace(tiny_project.TRAINING, class_balance=class_balance, steps=200)
        trained = train_head(
            blobs((400, 20)), blobs((50, 50), 1), ["a", "b"], config, title="", log_folder=Path("logs")
        )
        head = trained.head
        return float(np.mean((blobs((200, 200), 2).features @ head.weights + head.bias).argmax(1)))

    assert share_of_rare(class_balance=False) < 0.35
    assert 0.4 < share_of_rare(class_balance=True) < 0.6


def test_class_weights_average_to_one() -> None:
    labels = np.repeat([0, 1, 2], [6, 3, 1])
    weights = class_weights(labels, 3)
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert weights[labels].mean() == pytest.approx(1)


def test_examples_are_frames_and_copies_to_train_but_frames_alone_to_validate(folder: Path) -> None:
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["float32"])
    takes = read_takes(layout.SPLITS)
    counts = {part: len(read_examples(layout.bottlenecks("float32"), takes, part)) for part in ("train", "validation")}
    assert counts == {"train": 2 * 2 * tiny_project.NUM_FRAMES, "validation": 2 * tiny_project.NUM_FRAMES}


@pytest.mark.slow
def test_features_in_a_file_train_the_very_same_head(folder: Path) -> None:
    examples, validation = blobs((40, 40)), blobs((9, 9), 1)
    files = [FeatureFile(folder), FeatureFile(folder)]
    for file, source in zip(files, (examples, validation), strict=True):
        for start in range(0, len(source), 7):
            file.append(np.asarray(source.features)[start : start + 7])
    heads = [
        to_bytes(train_head(*pair, ["a", "b"], tiny_project.TRAINING, title="", log_folder=Path("logs")).head)
        for pair in (
            (examples, validation),
            (Examples(files[0], examples.label_indices), Examples(files[1], validation.label_indices)),
        )
    ]
    assert heads[0] == heads[1]
    assert [path.name for path in folder.iterdir()] == ["logs"]


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
    assert json.loads(metadata["viewfinder_head"]) == {"format": 1, "labels": ["rote Möhre", '"猫"\n']}
    Path("head").write_bytes(content)
    assert {name: array.shape for name, array in load_file("head").items()} == {"weights": (4, 2), "bias": (2,)}


@pytest.mark.slow
def test_equal_heads_give_equal_bytes_in_every_process() -> None:
    code = "import sys, tests.test_train as t; sys.stdout.buffer.write(t.to_bytes(t.some_head()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == to_bytes(some_head())


def file_with(*, entry: object = None, **arrays: np.ndarray) -> bytes:
    """A head's file, but for what is given."""
    usual = {"weights": some_head().weights, "bias": some_head().bias}
    description = {"format": 1, "labels": ["a", "b"]} if entry is None else entry
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
        (file_with(entry={"format": 2, "labels": ["a", "b"]}), "is not of format 1"),
        (file_with(entry=["a", "b"]), "is not of format 1"),
        (file_with(entry={"format": 1, "labels": "ab"}), "has no list of labels"),
        (file_with(entry={"format": 1, "labels": ["a"]}), r"weights \[4, 2\] and bias \[2\] do not fit 1 labels"),
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
