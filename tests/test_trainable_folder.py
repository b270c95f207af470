"""`viewfinder trainable`: the folder, what proves it, and what a phone brings back."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save

from bench.heads import rows_of
from bench.schemes import Pictures
from pipeline.errors import InputError, ModelError
from pipeline.files import layout, sha256_of_file, write_bytes, write_text
from pipeline.heads.head_file import Head, to_bytes
from pipeline.heads.replay import LabelledFeatures, centres_of
from pipeline.heads.teaching import Recipe, recipe_for, teach
from pipeline.litert.head import append_head
from pipeline.litert.interpreter import Model
from pipeline.litert.learner import Learner
from pipeline.litert.metadata import embed_labels
from pipeline.litert.probes import probes
from pipeline.litert.trainable import HeadShape
from pipeline.shipping.checkpoint import ENTRY, read_checkpoint
from pipeline.shipping.learning_folder import read_features
from pipeline.takes.rows import read_rows
from pipeline.takes.splits import read_takes
from pipeline.tools.cli import viewfinder
from tests import tiny_models, tiny_project
from tests.test_deploy import deploy_tiny

FOLDER = layout.TRAINABLE


def start(*arguments: str) -> Result:
    return CliRunner().invoke(viewfinder, ["trainable", *arguments])


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text())
    return found


def deploy_with_none() -> None:
    """Deploy a model that knows two labels and what is none of them, with its head and its bottlenecks beside it."""
    write_text(Path("dvc.yaml"), "")
    write_text(Path("params.yaml"), "")
    deploy_tiny("float32")
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["float32"])
    weights, bias = tiny_models.head(3)
    write_bytes(layout.head("float32"), to_bytes(Head(weights, bias, tiny_project.LABELS, 0.5)))
    model = append_head(tiny_models.backbone(), weights, bias, 2)
    content = embed_labels(model, tiny_project.LABELS, name="tiny", description="tiny", threshold=0.5)
    write_bytes(layout.DEPLOYED / "model.tflite", content)


@pytest.fixture
def made(folder: Path) -> Path:
    deploy_with_none()
    done = start("--batch-size", "16", "--new-labels", "3", "--centres", "4")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "models/trainable\n"
    assert "room for 3 new labels, 12 centres" in done.stderr
    return folder


def test_the_manifest_describes_every_file(made: Path) -> None:
    found = manifest()
    assert found["head"] == {
        "num_features": 12,
        "num_labels": 2,
        "num_new_labels": 3,
        "knows_none": True,
        "num_outputs": 6,
        "batch_size": 16,
    }
    assert found["labels"] == (FOLDER / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert set(found["files"]) == {path.name for path in FOLDER.iterdir()} - {"manifest.json"}
    for name, entry in found["files"].items():
        assert entry == {"size_bytes": (FOLDER / name).stat().st_size, "sha256": sha256_of_file(FOLDER / name)}
    deployed = json.loads((layout.DEPLOYED / "manifest.json").read_text())
    assert (found["input"], found["made_of"]) == (deployed["input"], deployed["version"])
    learner = Learner((FOLDER / "trainable.tflite").read_bytes())
    assert (learner.batch_size, learner.num_outputs, learner.num_features) == (16, 6, 12)


def test_the_model_answers_as_the_deployed_one(made: Path) -> None:
    learner = Learner((FOLDER / "trainable.tflite").read_bytes())
    shipped = Model((layout.DEPLOYED / "model.tflite").read_bytes())
    for picture in probes(shipped.input_pixels):
        np.testing.assert_allclose(learner.infer(picture)[1], [*shipped(picture), 0, 0, 0], atol=1e-6)


def test_replay_is_made_of_train_frames_and_check_of_test_frames(made: Path) -> None:
    found = manifest()
    replay, check = (read_features(FOLDER, found[name]) for name in ("replay", "check"))
    assert replay.rows.tolist() == [0] * 4 + [1] * 4 + [5] * 4
    assert (FOLDER / "replay.bin").read_bytes() == replay.features.astype("<f4").tobytes()
    rows = read_rows(layout.bottlenecks("float32"), read_takes(layout.SPLITS), strangers=layout.STRANGERS)
    frames = rows.only(rows.are_frames)
    for index, row in enumerate([0, 1, 5]):
        own = frames.features[(frames.label_indices == index) & frames.are_for_training]
        centres = replay.features[replay.rows == row]
        assert (centres >= own.min(0) - 1e-5).all()
        assert (centres <= own.max(0) + 1e-5).all()
    tested = frames.only(~frames.are_for_training)
    assert check.rows.tolist() == [0] * 5 + [1] * 5
    np.testing.assert_array_equal(check.features, tested.features)


def test_the_golden_training_comes_out_as_it_says(made: Path) -> None:
    golden = json.loads((FOLDER / "golden.json").read_text())
    replay = read_features(FOLDER, manifest()["replay"])
    learner = Learner((FOLDER / "trainable.tflite").read_bytes())
    features, labels = replay.features[golden["replay"]], np.eye(6, dtype=np.float32)[golden["rows"]]
    assert golden["rows"][0] == 2  # a label that is new
    losses = [learner.train(features, labels, golden["learning_rate"], golden["momentum"]) for _ in golden["losses"]]
    np.testing.assert_allclose(losses, golden["losses"], atol=golden["max_difference"])
    np.testing.assert_allclose(learner.save()["bias"], golden["bias"], atol=golden["max_difference"])
    assert abs(losses[-1] - losses[0]) > golden["max_difference"]  # it would notice a head that learns nothing


def test_the_same_again_gives_the_same_bytes_and_other_options_another_version(made: Path) -> None:
    before = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    start("--batch-size", "16", "--new-labels", "3", "--centres", "4")
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == before
    start("--batch-size", "16", "--new-labels", "2", "--centres", "4")
    assert manifest()["version"] != json.loads(before["manifest.json"])["version"]


def test_a_model_that_knows_its_labels_alone_learns_too(folder: Path) -> None:
    write_text(Path("dvc.yaml"), "")
    write_text(Path("params.yaml"), "")
    deploy_tiny("int8")
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["float32"])
    layout.bottlenecks("float32").rename(layout.bottlenecks("int8"))
    assert start().exit_code == 0
    assert set(manifest()["replay"]["rows"]) == {0, 1}
    assert manifest()["head"]["num_outputs"] == 6


def test_what_is_not_there_is_told(folder: Path) -> None:
    write_text(Path("dvc.yaml"), "")
    write_text(Path("params.yaml"), "")
    done = start()
    assert done.exit_code == InputError.exit_status
    assert "models/deployed/manifest.json cannot be read" in done.stderr
    assert "a deployed model" in done.stderr
    done = start("--checkpoint", "learned.safetensors")
    assert "models/trainable/manifest.json cannot be read" in done.stderr
    assert "viewfinder trainable" in done.stderr


def test_a_head_that_is_not_the_deployed_models_is_told(folder: Path) -> None:
    deploy_with_none()
    weights, bias = tiny_models.head(3)
    write_bytes(
        layout.head("float32"),
        to_bytes(Head(weights, bias + np.array([1, 0, 0], np.float32), tiny_project.LABELS, 0.5)),
    )
    done = start()
    assert done.exit_code == ModelError.exit_status
    assert "probabilities of the model that learns are off by" in done.stderr
    write_bytes(layout.head("float32"), to_bytes(Head(weights, bias, ("cup", "pot"), 0.5)))
    assert "models/deployed knows cup, rote Möhre, its head cup, pot" in start().stderr
    assert not FOLDER.exists()


def test_features_that_are_not_the_deployed_models_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy_with_none()
    infer = Learner.infer
    monkeypatch.setattr(
        Learner, "infer", lambda learner, image: (infer(learner, image)[0] + 1, infer(learner, image)[1])
    )
    assert "features of the model that learns differ from those of the deployed one" in start().stderr


def test_centres_of_few_frames_are_the_frames() -> None:
    features = np.repeat(np.eye(3, 12, dtype=np.float32), 2, axis=0)  # each frame twice
    labels = np.array([0, 0, 0, 0, 1, 1])
    rows = rows_of([features], Pictures("made up", np.zeros((6, 1, 1, 3), np.uint8), labels, np.arange(6)))
    found = centres_of(rows, HeadShape(12, 2, 1, knows_none=False), 8)
    assert found.rows.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(np.unique(found.features, axis=0), np.unique(features, axis=0))


# ---- what a phone brings back


def checkpoint(**changes: Any) -> bytes:
    """Teach a label as a phone does, and return the file that it saves, in which something may be changed."""
    learner, found = Learner((FOLDER / "trainable.tflite").read_bytes()), manifest()
    examples = np.full((4, 12), 3, np.float32)
    replay = read_features(FOLDER, found["replay"])
    teach(learner, LabelledFeatures(examples, np.full(4, 2)), replay, Recipe(0.01, steps=50), seed=0)
    told = {"format": 1, "version": found["version"], "new_labels": ["stapler"], "example_rows": [2] * 4}
    told |= {name: value for name, value in changes.items() if name in told}
    arrays = learner.save() | {"examples": examples}
    arrays |= {name: value for name, value in changes.items() if name in arrays}
    content: bytes = save(arrays, metadata={changes.get("entry", ENTRY): json.dumps(told)})
    return content


def test_a_checkpoint_tells_what_was_learned(made: Path) -> None:
    write_bytes(Path("a.safetensors"), checkpoint())
    found = read_checkpoint(Path("a.safetensors"), manifest())
    assert (found.new_labels, found.examples.rows.tolist()) == (("stapler",), [2] * 4)
    learner = Learner((FOLDER / "trainable.tflite").read_bytes())
    learner.restore({"weights": found.weights, "bias": found.bias})
    np.testing.assert_array_equal(learner.save()["weights"], found.weights)
    done = start("--checkpoint", "a.safetensors")
    assert done.exit_code == 0, done.stderr
    told = [re.split(r" {2,}", line.strip()) for line in done.stdout.splitlines()]
    assert [line[0] for line in told] == ["label", "cup", "rote Möhre", "stapler"]
    assert told[0][1:] == ["of", "frames", "right before", "right now"]
    assert told[1][1:3] == ["test frames", "5"]
    assert told[3][1:] == ["what it was taught by", "4", "-", "100%"]


WRONG: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda content: content[:-5], "is no checkpoint, or a damaged one"),
    "no safetensors": (lambda _: b"nothing", "is no checkpoint, or a damaged one"),
    "another version": (lambda _: checkpoint(version="0123"), "a checkpoint of the model 0123\n"),
    "another format": (lambda _: checkpoint(format=9), "its header is not of format 1"),
    "a head": (lambda _: checkpoint(entry="viewfinder_head"), f"its header has no entry `{ENTRY}`"),
    "another shape": (
        lambda _: checkpoint(weights=np.zeros((5, 12), np.float32)),
        "`weights` is float32 [5, 12], not float32 [6, 12]",
    ),
    "another type": (lambda _: checkpoint(bias=np.zeros(6)), "`bias` is float64 [6], not float32 [6]"),
    "no numbers": (lambda _: checkpoint(bias=np.full(6, np.nan, np.float32)), "`bias` holds what is no number"),
    "too many labels": (
        lambda _: checkpoint(new_labels=list("abcd")),
        "it names 4 new labels, and there is room for 3",
    ),
    "a label without a name": (
        lambda _: checkpoint(new_labels=[]),
        "an example belongs to a label that it does not name",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_checkpoint_is_refused(made: Path, what: str) -> None:
    change, told = WRONG[what]
    write_bytes(Path("a.safetensors"), change(checkpoint()))
    with pytest.raises(ModelError) as refused:
        read_checkpoint(Path("a.safetensors"), manifest())
    assert told in str(refused.value)


def test_a_checkpoint_and_a_page_do_not_go_together(made: Path) -> None:
    assert "--checkpoint makes nothing, so it does not go with --page." in start("--checkpoint", "a", "--page").stderr


def test_a_checkpoint_that_is_not_there_is_told(made: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint a\.safetensors"):
        read_checkpoint(Path("a.safetensors"), manifest())


def test_a_lesson_is_the_same_each_time_and_falls_in_loss(made: Path) -> None:
    found = manifest()
    replay = read_features(FOLDER, found["replay"])
    taught = LabelledFeatures(np.full((4, 12), 3, np.float32), np.full(4, 2))
    recipe = recipe_for(float((replay.features**2).sum(1).mean()))
    ends = []
    for steps in (1, 200, 200):
        learner = Learner((FOLDER / "trainable.tflite").read_bytes())
        loss = teach(learner, taught, replay, Recipe(recipe.learning_rate, steps=steps), seed=5)
        ends.append((loss, learner.save()["bias"].tolist()))
    assert ends[1] == ends[2]
    assert ends[1][0] < ends[0][0] / 2
