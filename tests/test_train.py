import io
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backbones.quiet_tensorflow import keras
from pipeline.bottlenecks import bottlenecks
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.config.train import TrainStage
from pipeline.errors import PipelineError
from pipeline.files import layout
from pipeline.heads.examples import Examples, FeatureFile, read_examples
from pipeline.heads.head_file import read_head
from pipeline.heads.training import class_weights, train_head
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
    bottlenecks(BottlenecksStage("stretch", tiny_project.BACKBONE, tiny_models.SCHEMES["int8"], "head"))
    train(TrainStage("int8", tiny_project.TRAINING))
    curves = pd.read_csv(layout.training_curves("int8"))
    assert list(curves["step"]) == [20, 40, 60]
    head = read_head(layout.head("int8"))
    assert head.labels == tiny_project.LABELS
    validation = read_examples(layout.bottlenecks("int8"), read_takes(layout.SPLITS), "validation")
    logits = np.asarray(validation.features) @ head.weights + head.bias
    accuracy = float(np.mean(logits.argmax(1) == validation.label_indices))
    best = curves.loc[curves["validation_loss"].idxmin()]
    assert accuracy == pytest.approx(best["validation_accuracy"]) == 1.0
    assert list((layout.TENSORBOARD / "int8").rglob("events.out.tfevents.*"))


def test_equal_seeds_give_equal_bytes_and_other_seeds_others(folder: Path) -> None:
    def file(seed: int) -> bytes:
        config = replace(tiny_project.TRAINING, seed=seed)
        log_folder = Path("logs")
        return train_head(blobs((40, 40)), blobs((9, 9), 1), ["a", "b"], config, title="", log_folder=log_folder).file

    assert file(3) == file(3)
    assert file(3) != file(4)


def test_the_head_file_is_a_keras_model_that_answers_the_same(folder: Path) -> None:
    trained = train_head(
        blobs((40, 40)), blobs((9, 9), 1), ["a", "b"], tiny_project.TRAINING, title="", log_folder=Path("logs")
    )
    Path("head.keras").write_bytes(trained.file)
    head = read_head(Path("head.keras"))
    features = blobs((5, 5), 2).features
    keras_logits = np.asarray(keras.saving.load_model("head.keras")(features))
    assert np.abs(keras_logits - (features @ head.weights + head.bias)).max() < 1e-5
    assert head.labels == ("a", "b")


def test_class_balance_gives_rare_labels_their_say(folder: Path) -> None:
    def share_of_rare(class_balance: bool) -> float:
        config = replace(tiny_project.TRAINING, class_balance=class_balance, steps=200)
        trained = train_head(
            blobs((400, 20)), blobs((50, 50), 1), ["a", "b"], config, title="", log_folder=Path("logs")
        )
        Path("head.keras").write_bytes(trained.file)
        head = read_head(Path("head.keras"))
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
    bottlenecks(BottlenecksStage("stretch", tiny_project.BACKBONE, tiny_models.SCHEMES["float32"], "head"))
    takes = read_takes(layout.SPLITS)
    counts = {part: len(read_examples(layout.bottlenecks("float32"), takes, part)) for part in ("train", "validation")}
    assert counts == {"train": 2 * 2 * tiny_project.NUM_FRAMES, "validation": 2 * tiny_project.NUM_FRAMES}


def test_features_in_a_file_train_the_very_same_head(folder: Path) -> None:
    examples, validation = blobs((40, 40)), blobs((9, 9), 1)
    files = [FeatureFile(folder), FeatureFile(folder)]
    for file, source in zip(files, (examples, validation), strict=True):
        for start in range(0, len(source), 7):
            file.append(np.asarray(source.features)[start : start + 7])
    heads = [
        train_head(*pair, ["a", "b"], tiny_project.TRAINING, title="", log_folder=Path("logs")).file
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


@pytest.mark.parametrize("content", [None, b"", b"PK no zip"])
def test_a_missing_or_damaged_head(folder: Path, content: bytes | None) -> None:
    if content is not None:
        Path("head.keras").write_bytes(content)
    with pytest.raises(PipelineError, match=r"head\.keras cannot be read"):
        read_head(Path("head.keras"))


def test_some_other_keras_file_is_no_head(folder: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    model.save("other.keras")
    assert io.BytesIO(Path("other.keras").read_bytes()).read(2) == b"PK"
    with pytest.raises(PipelineError, match=r"other\.keras cannot be read"):
        read_head(Path("other.keras"))
