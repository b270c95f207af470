"""Several heads behind one backbone: from the table of labels to what apps and tools read."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from bench import input_types
from pipeline.assemble import assemble
from pipeline.config.assemble import AssembleStage
from pipeline.config.deploy import DeployStage
from pipeline.config.evaluate import EvaluateStage
from pipeline.config.gate import GateConfig
from pipeline.config.heads import check_heads
from pipeline.config.multihead import MultiheadStage
from pipeline.config.report import ReportConfig, ReportStage
from pipeline.config.train import TrainStage
from pipeline.coreml.saved import SavedPackage
from pipeline.crossval import crossval
from pipeline.deploy import deploy
from pipeline.errors import ConfigurationError, InputError, ModelError, PipelineError
from pipeline.evaluate import evaluate
from pipeline.files import layout, write_text
from pipeline.gate import breaches_of
from pipeline.heads.choosing import least_margin_of
from pipeline.heads.crossvalidation import cross_validate
from pipeline.heads.further import side_by_side
from pipeline.heads.head_file import Head, read_further_heads, read_head, to_bytes
from pipeline.heads.questions import relabelled, yes_or_no
from pipeline.images.codec import encode_jpeg
from pipeline.litert.flatbuffer import num_backbone_operators, read_model
from pipeline.litert.foreign import heads_of
from pipeline.litert.head import append_head, features_of
from pipeline.litert.input_type import with_float_input
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import Output, embed_outputs, labels_file_of, read_outputs, read_threshold
from pipeline.litert.runtimes import open_classifier, signature
from pipeline.metrics.classification import Predictions
from pipeline.metrics.further import HeadScore, agreement_of_heads, predictions_from_pixels
from pipeline.metrics.intervals import accuracy_difference_interval, paired_difference_interval
from pipeline.metrics.many import ManyPredictions, figures_of_many
from pipeline.multihead import multihead
from pipeline.report import report
from pipeline.takes.answers import read_answers, unlisted_heads
from pipeline.takes.rows import read_rows
from pipeline.takes.splits import NONE, read_takes
from pipeline.tools.cli import viewfinder
from pipeline.tools.coreml import PACKAGE
from pipeline.tools.labelled_video import captioned
from pipeline.train import train
from pipeline.video import sample_frames
from tests import tiny_models, tiny_project
from tests.browsers import browser_path
from tests.clips import write_clip
from tests.conftest import PROJECT
from tests.test_crossval import CONFIG as CROSSVAL
from tests.test_evaluate import CONFIG
from tests.test_train import blobs

HEADS = {"shade": "one", "parts": "many"}
TABLE = """take,head,label
cup/*,shade,dark
rote Möhre/*,shade,light
cup/*,parts,handle
cup/*,parts,rim
rote Möhre/*,parts,leaf
rote Möhre/*,parts,rim
rote Möhre/train.mp4,parts,_none
"""
TAKES = [f"{label}/{part}.mp4" for label in tiny_project.LABELS for part in ("train", "validation", "test")]


@pytest.fixture
def project(folder: Path) -> Path:
    make()
    return folder


def make() -> None:
    """Make the tiny project with bottlenecks of one scheme, and two questions about its takes."""
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["float32"])
    write_text(layout.LABELS, TABLE)


def stage(heads: dict[str, str] = HEADS, *, mode: str = "head") -> MultiheadStage:
    training = replace(tiny_project.TRAINING, mode=mode)
    return MultiheadStage("float32", heads, training, tiny_project.UNKNOWN, CROSSVAL, tiny_project.ENGINE)


def table(*rows: str) -> Path:
    write_text(layout.LABELS, "\n".join(["take,head,label", *rows, ""]))
    return layout.LABELS


# The table of labels


def test_a_row_is_about_a_take_or_a_folder_and_the_take_wins(folder: Path) -> None:
    write_text(layout.LABELS, "\ufeff" + TABLE)
    found = read_answers(layout.LABELS, HEADS, TAKES)
    assert found["shade"] == {take: ("dark",) if take.startswith("cup") else ("light",) for take in TAKES}
    assert found["parts"]["cup/test.mp4"] == ("handle", "rim")
    assert found["parts"]["rote Möhre/train.mp4"] == ()
    assert found["parts"]["rote Möhre/test.mp4"] == ("leaf", "rim")


def test_a_take_without_a_row_is_not_asked(folder: Path) -> None:
    found = read_answers(table("cup/test.mp4,shade,dark", "cup/train.mp4,shade,light"), {"shade": "one"}, TAKES)
    assert found == {"shade": {"cup/test.mp4": ("dark",), "cup/train.mp4": ("light",)}}


def test_a_head_that_is_not_listed_is_left_out_and_told(folder: Path) -> None:
    path = table("cup/*,shade,dark", "rote Möhre/*,shade,light", "cup/*,weather,rain")
    assert list(read_answers(path, {"shade": "one"}, TAKES)) == ["shade"]
    assert unlisted_heads(path, {"shade": "one"}) == ["weather"]


def test_without_heads_the_table_is_not_read(folder: Path) -> None:
    write_text(layout.LABELS, "what, ever")
    assert read_answers(layout.LABELS, {}, TAKES) == {}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (["cup/*,shape,dark"], "line 2: the head `shape`.*one of those in `heads`: shade.*did you mean `shade`?"),
        (["cup/tset.mp4,shade,dark"], "the take `cup/tset.mp4`.*did you mean `cup/test.mp4`?"),
        (["spoons/*,shade,dark"], r"the take `spoons/\*`.*correct or remove the row"),
        (["cup/*,shade,"], "a row without a label"),
        (["cup/*,shade,dark", "cup/*,shade,light"], r"`cup/\*` is dark and light for the head `shade`"),
        (["cup/*,shade,dark"], "1 labels for the head `shade`.*at least 2"),
        (["cup/*,shade"], "cannot be read.*line 2 has not three fields"),
        (['cup/*,"shade'], "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder: Path, rows: Sequence[str], found: str) -> None:
    with pytest.raises(InputError, match=f"(?s){found}"):
        read_answers(table(*rows), {"shade": "one"}, TAKES)


def test_none_beside_a_label_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=f"or `{NONE}` alone"):
        read_answers(table("cup/*,parts,_none", "cup/*,parts,rim"), {"parts": "many"}, TAKES)


def test_another_table_is_refused(folder: Path) -> None:
    write_text(layout.LABELS, "take;head;label\n")
    with pytest.raises(InputError, match=r"(?s)its first line is 'take;head;label'.*the columns take, head, label"):
        read_answers(layout.LABELS, HEADS, TAKES)


@pytest.mark.parametrize("name", ["Shade", "a b", "probabilities", "held_out", "", "../up"])
def test_a_head_has_a_name_that_files_can_bear(name: str) -> None:
    with pytest.raises(ConfigurationError, match="a head called"):
        check_heads({name: "one"})


def test_a_head_is_of_a_kind() -> None:
    with pytest.raises(ConfigurationError, match="one of one, many"):
        check_heads({"shade": "both"})


# What a head learns from


def test_the_same_rows_bear_other_labels(project: Path) -> None:
    takes = read_takes(layout.SPLITS)
    rows = read_rows(layout.bottlenecks("float32"), takes, strangers=layout.STRANGERS)
    answers = {
        "cup/train.mp4": ("dark",),
        "cup/test.mp4": ("dark",),
        "rote Möhre/train.mp4": ("light",),
        "cup/validation.mp4": (),
    }
    found = relabelled(rows, answers)
    assert found.labels == ("dark", "light")
    names = [found.units[index].take for index in found.unit_indices]
    for name, label in zip(names, found.label_indices, strict=True):
        if name in answers:
            assert label == (found.labels.index(answers[name][0]) if answers[name] else 2)
        else:
            assert (label, name.startswith("data/strangers/")) == (2, True)
    of_take = found.features[[name == "cup/test.mp4" for name in names]]
    before = rows.features[[rows.units[index].take == "cup/test.mp4" for index in rows.unit_indices]]
    assert np.array_equal(of_take, before)
    strangers = [unit for unit in found.units if unit.is_stranger]
    assert len(strangers) == tiny_project.NUM_STRANGERS  # and not the take that shows none of the labels


def test_strangers_are_a_no(project: Path) -> None:
    rows = read_rows(layout.bottlenecks("float32"), read_takes(layout.SPLITS), strangers=layout.STRANGERS)
    answers = read_answers(layout.LABELS, HEADS, TAKES)["parts"]
    found = yes_or_no(rows, answers, "handle")
    assert found.labels == ("no", "yes")
    said = {
        found.units[unit].take: found.labels[label]
        for unit, label in zip(found.unit_indices, found.label_indices, strict=True)
    }
    assert said["cup/train.mp4"] == "yes"
    assert said["rote Möhre/test.mp4"] == "no"
    assert said[f"{layout.STRANGERS}/00.jpg"] == "no"


def test_a_label_without_a_take_to_train_on_is_refused(project: Path) -> None:
    table("cup/*,shade,dark", "rote Möhre/test.mp4,shade,light")
    with pytest.raises(InputError, match="label 'light' without a single frame to train on"):
        multihead(stage({"shade": "one"}))
    table("cup/*,parts,rim", "rote Möhre/test.mp4,parts,_none")
    with pytest.raises(InputError, match=r"(?s)label 'rim' without.* is a no\n.*true of, and others that it is not"):
        multihead(replace(stage({"parts": "many"}), unknown=tiny_project.OFF))
    table("cup/*,parts,rim", "rote Möhre/*,parts,rim")
    with pytest.raises(InputError, match="that is a no"):
        multihead(replace(stage({"parts": "many"}), unknown=tiny_project.OFF))


def test_two_logits_become_one() -> None:
    generator = np.random.default_rng(0)
    pairs = [
        Head(
            generator.normal(size=(4, 2)).astype(np.float32), generator.normal(size=2).astype(np.float32), ("no", "yes")
        )
        for _ in range(3)
    ]
    features = generator.normal(size=(10, 4)).astype(np.float32)
    found = side_by_side(("a", "b", "c"), tuple(pairs)).probabilities(features)
    expected = np.stack([pair.probabilities(features)[:, 1] for pair in pairs], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=1, max_size=30))
def test_a_yes_begins_where_f1_is_highest(frames: list[tuple[int, bool]]) -> None:
    margins = np.array([margin for margin, _ in frames], float)
    are_true = np.array([is_true for _, is_true in frames])
    found = least_margin_of(margins, are_true)
    best = max(f1_score(are_true, margins >= margin, zero_division=0) for margin in {*margins.tolist()})
    assert f1_score(are_true, margins >= found, zero_division=0) == pytest.approx(best) or not are_true.any()


def test_rare_labels_are_found() -> None:
    rows = blobs((600, 20), num_takes=10)
    training = replace(tiny_project.TRAINING, class_balance=False)
    found = [
        cross_validate(rows, training, num_folds=5, percents=[], title="", says_yes_or_no=says).predictions
        for says in (False, True)
    ]
    f1 = [f1_score(one.actual, one.predicted) for one in found]
    assert f1[1] > f1[0] + 0.1


# The stage


def test_the_stage_trains_and_scores_each_head(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    multihead(stage())
    heads = read_further_heads(layout.further_heads("float32"))
    assert list(heads) == ["shade", "parts"]
    assert heads["shade"].labels == ("dark", "light")
    assert heads["shade"].threshold is not None
    assert heads["parts"].labels == ("handle", "leaf", "rim")
    assert not heads["parts"].labels_exclude_each_other
    found = json.loads(layout.further_figures("float32").read_text())
    assert found["shade"]["figures"]["accuracy"] > 0.9
    assert found["parts"]["figures"]["accuracy"] > 0.6
    assert set(found["parts"]["figures"]["intervals"]) == {"accuracy", "take_accuracy", "recall"}
    assert len((layout.further_plots("float32") / "shade.csv").read_text().splitlines()) == 1 + 30
    assert re.search(r"multihead@float32 shade: accuracy \d\.\d{3} over 30 frames of 6 takes", capsys.readouterr().err)


def test_a_head_on_the_folders_own_labels_is_the_first_head(project: Path) -> None:
    table(*(f"{label}/*,again,{label}" for label in tiny_project.LABELS))
    multihead(stage({"again": "one"}))
    train(TrainStage("float32", tiny_project.TRAINING, tiny_project.UNKNOWN))
    again = read_further_heads(layout.further_heads("float32"))["again"]
    assert to_bytes(again) == layout.head("float32").read_bytes()
    crossval_figures = tiny_crossval()
    found = json.loads(layout.further_figures("float32").read_text())["again"]["figures"]
    assert found == crossval_figures


def tiny_crossval() -> dict[str, Any]:
    from pipeline.config.crossval import CrossvalStage  # noqa: PLC0415

    crossval(CrossvalStage("float32", tiny_project.TRAINING, tiny_project.UNKNOWN, CROSSVAL, tiny_project.ENGINE))
    found: dict[str, Any] = json.loads(layout.crossval_figures("float32").read_text())
    return found


def test_only_what_is_new_is_trained(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    multihead(stage())
    whole = {path: path.read_bytes() for path in outputs()}
    multihead(stage({"shade": "one"}))
    capsys.readouterr()
    multihead(stage())
    assert "shade" not in capsys.readouterr().err
    assert {path: path.read_bytes() for path in outputs()} == whole
    write_text(layout.LABELS, TABLE.replace("rote Möhre/*,shade,light", "rote Möhre/*,shade,pale"))
    multihead(stage())
    assert "shade" in capsys.readouterr().err
    assert read_further_heads(layout.further_heads("float32"))["shade"].labels == ("dark", "pale")


def outputs() -> list[Path]:
    folders = [layout.further_heads("float32"), layout.further_plots("float32")]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [*files, layout.further_figures("float32")]


def test_a_lost_file_is_made_again(project: Path) -> None:
    multihead(stage())
    lost = layout.further_heads("float32") / "held_out/shade.safetensors"
    content = lost.read_bytes()
    lost.unlink()
    multihead(stage())
    assert lost.read_bytes() == content


def test_with_a_tuned_backbone_nothing_is_held_out(project: Path) -> None:
    write_text(layout.LABELS, TABLE.replace("rote Möhre/train.mp4,parts,_none\n", ""))
    multihead(stage(mode="finetune"))
    found = json.loads(layout.further_figures("float32").read_text())
    assert [one["figures"] for one in found.values()] == [{}, {}]
    folder = layout.further_heads("float32")
    for name in HEADS:
        assert (folder / f"{name}.safetensors").read_bytes() == (folder / f"held_out/{name}.safetensors").read_bytes()


def test_each_label_needs_a_take_to_hold_out(project: Path) -> None:
    rows = ("cup/*,shade,dark", "rote Möhre/train.mp4,shade,light")
    table(*rows)
    with pytest.raises(InputError, match=r"(?s)label 'light' has 1 take\(s\)\n.*name more takes in data/labels.csv"):
        multihead(stage({"shade": "one"}))
    table(*rows, "rote Möhre/validation.mp4,shade,light")
    with pytest.raises(InputError, match=r"label 'light' has 2 take\(s\), and none for test"):
        multihead(stage({"shade": "one"}, mode="finetune"))
    table("rote Möhre/*,parts,_none", "cup/test.mp4,parts,rim", "cup/train.mp4,parts,rim", "cup/train.mp4,parts,leaf")
    with pytest.raises(InputError, match=r"label 'yes' of `leaf` has 1 take\(s\)"):
        multihead(stage({"parts": "many"}))


def test_without_heads_there_is_nothing_to_do(project: Path) -> None:
    multihead(stage({}))
    assert read_further_heads(layout.further_heads("float32")) == {}
    assert layout.further_figures("float32").read_text() == "{}\n"


def test_a_missing_index_is_told(folder: Path) -> None:
    with pytest.raises(ModelError, match="the list of heads that the stage `multihead` writes"):
        read_further_heads(layout.further_heads("float32"))


# Figures


def test_figures_of_many_are_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    actual, scores = generator.integers(0, 2, (60, 2)), generator.random((60, 2)).astype(np.float32)
    takes = tuple(f"take {index // 6}" for index in range(60))
    answers = dict.fromkeys(takes, ())
    of_label = {
        label: Predictions(
            ("no", "yes"),
            takes,
            tuple(map(str, range(60))),
            actual[:, i],
            np.stack([1 - scores[:, i], scores[:, i]], 1),
        )
        for i, label in enumerate("ab")
    }
    found = figures_of_many(ManyPredictions.of(of_label, answers), num_bins=10)
    predicted = (scores > 0.5).astype(int)
    assert found["accuracy"] == pytest.approx((predicted == actual).mean())
    assert found["exact_accuracy"] == pytest.approx((predicted == actual).all(1).mean())
    assert found["macro_f1"] == pytest.approx(f1_score(actual, predicted, average="macro"))
    assert found["worst_recall"] == pytest.approx(recall_score(actual, predicted, average=None).min())
    low, high = found["intervals"]["accuracy"].values()
    assert low < found["accuracy"] < high


def test_frames_that_not_every_label_was_asked_about_do_not_count() -> None:
    def of(names: Sequence[str]) -> Predictions:
        one = np.zeros(len(names), np.int64)
        return Predictions(
            ("no", "yes"), tuple(names), tuple("0" for _ in names), one, np.ones((len(names), 2), np.float32)
        )

    found = ManyPredictions.of({"a": of(["x", "y", "z"]), "b": of(["z", "y"])}, {"y", "z"})
    assert [one.takes for one in found.of_label.values()] == [("y", "z")] * 2


def test_heads_that_say_the_same_agree() -> None:
    one, other = np.array([[0.9, 0.1], [0.4, 0.6]], np.float32), np.array([[0.8, 0.6], [0.3, 0.7]], np.float32)
    assert agreement_of_heads(one, other, kind="one") == 1
    assert agreement_of_heads(one, other, kind="many") == 0.5


def test_takes_that_show_none_of_the_labels_are_not_scored_by_one() -> None:
    frames = [("a/x.mp4", "0"), ("a/y.mp4", "0"), ("b/z.mp4", "0")]
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]], np.float32)
    answers = {"a/x.mp4": ("one",), "a/y.mp4": ()}
    asked = {
        kind: predictions_from_pixels(scores, frames, ("one", "two"), answers, kind=kind) for kind in ("one", "many")
    }
    one, many = (HeadScore.of(found, num_bins=5) for found in asked.values())
    assert (one.figures["accuracy"], one.figures["num_test_frames"]) == (1, 1)
    assert (many.figures["accuracy"], many.figures["num_test_frames"]) == (0.75, 2)
    assert one.right_answers == {"a/x.mp4": (1, 1)}
    assert many.right_answers == {"a/x.mp4": (2, 2), "a/y.mp4": (1, 2)}
    assert predictions_from_pixels(scores, frames, ("one", "two"), {}, kind="one") is None
    assert HeadScore.of(None, num_bins=5) == HeadScore({}, {})


def test_the_interval_of_a_drop_is_that_of_the_first_head() -> None:
    """As many answers as frames: then it is what the tables of frames give."""
    generator = np.random.default_rng(3)
    takes = tuple(f"take {index // 4}" for index in range(40))
    actual = generator.integers(0, 2, 40)
    scores = []
    for _ in range(2):
        probabilities = generator.random((40, 2)).astype(np.float32)
        scores.append(Predictions(("a", "b"), takes, tuple(map(str, range(40))), actual, probabilities))
    expected = accuracy_difference_interval(*(one.table() for one in scores))
    reference, other = (HeadScore.of(one, num_bins=5) for one in scores)
    found = reference.beside(other)
    assert tuple(found["intervals"]["accuracy_drop"].values()) == expected
    assert found["accuracy_drop"] == pytest.approx(
        np.mean(scores[1].table()["is_right"] - scores[0].table()["is_right"] * 1.0)
    )
    assert reference.figures["intervals"].keys() == found["intervals"].keys() - {"accuracy_drop"}


def test_models_that_did_not_answer_the_same_have_no_interval_of_a_drop() -> None:
    one = {"a": (1, 2), "b": (2, 2)}
    assert paired_difference_interval(one, {"a": (2, 2), "b": (2, 2)}) is not None
    assert paired_difference_interval(one, {"a": (1, 2)}) is None
    assert paired_difference_interval(one, {"a": (1, 3), "b": (2, 2)}) is None
    assert paired_difference_interval({"a": (1, 2)}, {"a": (2, 2)}) is None  # of one take
    assert HeadScore({}, {}).beside(HeadScore({}, {})) == {"accuracy_drop": None}


# The file


def several() -> bytes:
    """Return a model with three heads: two of which one label is true, and one of many."""
    weights, bias = tiny_models.head()
    model = append_head(tiny_models.backbone(), weights, bias, 2)
    model = append_head(model, weights * 2, bias, name="shade")
    model = append_head(model, -weights, bias, name="parts", labels_exclude_each_other=False)
    outputs = [
        Output("probabilities", ("cup", "rote Möhre"), 0.25),
        Output("shade", ("dark", "light", "pale")),
        Output("parts", ("handle", "leaf", "rim"), 0.5),
    ]
    return embed_outputs(model, outputs, name="tiny", description="For tests.")


def test_each_output_has_its_labels_and_threshold() -> None:
    content = several()
    assert [(one.name, one.labels, one.threshold) for one in read_outputs(content)] == [
        ("probabilities", ("cup", "rote Möhre"), 0.25),
        ("shade", ("dark", "light", "pale"), None),
        ("parts", ("handle", "leaf", "rim"), 0.5),
    ]
    assert read_outputs(with_float_input(content)) == read_outputs(content)
    assert read_threshold(content, 2) == 0.5
    heads = heads_of(content, signature(content))
    assert [head.may_name_several for head in heads] == [False, False, True]
    assert [head.columns for head in heads] == [slice(0, 2), slice(2, 5), slice(5, 8)]


def test_all_heads_read_the_same_features_bit_for_bit() -> None:
    weights, bias = tiny_models.head()
    content, backbone = several(), tiny_models.backbone()
    assert num_backbone_operators(read_model(content)) == len(read_model(backbone).subgraphs[0].operators)
    model, run_backbone, features = Model(content), Model(backbone), Model(features_of(content))
    for picture in tiny_models.pictures(3):
        assert np.array_equal(features(picture), run_backbone(picture))
        row = run_backbone(picture)[np.newaxis]
        first = Head(weights, bias, ("a", "b"), 0.2).probabilities(row)[0]
        second = Head(weights * 2, bias, ("a", "b", "c")).probabilities(row)[0]
        third = Head(-weights, bias, ("a", "b", "c"), 0.5, labels_exclude_each_other=False).probabilities(row)[0]
        np.testing.assert_allclose(model(picture), [*first, *second, *third], atol=1e-6)


def test_a_second_head_has_a_name_and_a_first_one_has_none() -> None:
    weights, bias = tiny_models.head()
    with pytest.raises(ValueError, match="on a model without heads"):
        append_head(tiny_models.backbone(), weights, bias, name="shade")
    with pytest.raises(ValueError, match="on a model with heads"):
        append_head(append_head(tiny_models.backbone(), weights, bias), weights, bias)


def test_outputs_that_nobody_names_are_refused() -> None:
    weights, bias = tiny_models.head()
    model = append_head(append_head(tiny_models.backbone(), weights, bias), weights, bias, name="shade")
    with pytest.raises(ModelError, match=r"without an embedded labels\.txt"):
        heads_of(model, signature(model))
    one = append_head(tiny_models.backbone(), weights, bias)
    described = embed_outputs(one, [Output("probabilities", ("a", "b", "c"))], name="n", description="d")
    with pytest.raises(ModelError, match="a model with 2 outputs, whose metadata describe 1"):
        heads_of(described, signature(model))


@pytest.mark.slow
def test_mediapipe_lists_every_head_under_its_name() -> None:
    from pipeline.litert.runtimes import tensorflow_hidden  # noqa: PLC0415

    try:
        with tensorflow_hidden():
            import mediapipe  # noqa: PLC0415
    except (ImportError, OSError) as error:
        pytest.skip(f"{error}: MediaPipe needs libEGL and libGLESv2 (apt-get install libegl1 libgles2)")
    tasks, content = mediapipe.tasks, several()
    options = tasks.vision.ImageClassifierOptions(
        base_options=tasks.BaseOptions(model_asset_buffer=content), max_results=-1, score_threshold=1e-9
    )
    picture = tiny_models.pictures(1)[0]
    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
    with tasks.vision.ImageClassifier.create_from_options(options) as classifier:
        found = classifier.classify(image).classifications
    assert [head.head_name for head in found] == ["probabilities", "shade", "parts"]
    outputs, expected = read_outputs(content), Model(content)(picture).tolist()
    for head, output in zip(found, outputs, strict=True):
        start = sum(len(one.labels) for one in outputs[: head.head_index])
        for category in head.categories:
            assert category.category_name == output.labels[category.index]
            assert category.score == np.float32(expected[start + category.index])
    ours = open_classifier(content, runtime="mediapipe", resize="stretch")
    assert ours(picture).tolist() == pytest.approx(expected, abs=1e-7)
    ours.close()


@pytest.mark.slow
def test_mediapipe_in_a_browser_answers_by_every_head() -> None:
    pytest.importorskip("playwright.sync_api", reason="make setup-dev installs it")
    if browser_path() is None:
        pytest.skip("no browser here (apt-get install chromium)")
    pictures = list(tiny_models.pictures(2))
    try:
        with input_types.browser_page() as (page, said):
            found = input_types.in_browser(page, said, "CPU")(several(), pictures)
    except PipelineError as error:
        pytest.skip(f"no MediaPipe for browsers: {error}")
    for picture, answer in zip(pictures, found, strict=True):
        np.testing.assert_allclose(answer, Model(several())(picture), atol=1e-6)


# From the stages to what people see


@pytest.fixture
def deployed(folder: Path) -> Path:
    deploy_several()
    return folder


def deploy_several(input_type: str = "uint8") -> None:
    """Make the tiny project, and run it from the heads to the deployed folder."""
    make()
    multihead(stage())
    train(TrainStage("float32", tiny_project.TRAINING, tiny_project.UNKNOWN))
    tiny_crossval()
    assemble(AssembleStage("tiny", tiny_models.SCHEMES["float32"]))
    evaluate(EvaluateStage("float32", "stretch", "tiny", CONFIG))
    evaluation = json.loads(layout.evaluation("float32").read_text())
    costs = {
        "latency_ms": {"p50": 1.0, "p90": 1.0, "p99": 1.0, "low": 1.0, "high": 1.0},
        "busy_percent": 0.0,
        "num_threads": 1,
    }
    write_text(layout.metrics("float32"), json.dumps(evaluation | costs | {"peak_memory_bytes": 1}))
    write_text(layout.GATE, json.dumps({"scheme": "float32", "limits": {}}))
    deploy(DeployStage("float32", "stretch", input_type, "tiny"))


def test_metrics_have_every_head(deployed: Path) -> None:
    heads = json.loads(layout.metrics("float32").read_text())["heads"]
    assert list(heads) == ["shade", "parts"]
    for head in heads.values():
        assert head["scored_by"] == "crossval"
        assert head["agreement_with_float32"] == 1
        assert head["accuracy_drop"] == 0
        assert head["intervals"]["accuracy_drop"] == {"low": 0, "high": 0}
        assert head["test"]["num_test_takes"] == 2


def test_where_nothing_is_held_out_the_test_takes_score_the_heads(deployed: Path) -> None:
    path = layout.further_figures("float32")
    known = json.loads(path.read_text())
    write_text(path, json.dumps({name: one | {"figures": {}, "right_answers": {}} for name, one in known.items()}))
    evaluate(EvaluateStage("float32", "stretch", "tiny", CONFIG))
    heads = json.loads(layout.evaluation("float32").read_text())["heads"]
    assert list(heads) == ["shade", "parts"]
    for head in heads.values():
        assert (head["scored_by"], head["accuracy"]) == ("test", head["test"]["accuracy"])
        assert head["intervals"] == head["test"]["intervals"] | {"accuracy_drop": {"low": 0, "high": 0}}


def test_an_app_gets_labels_thresholds_and_answers_of_every_head(deployed: Path) -> None:
    manifest = json.loads((layout.DEPLOYED / "manifest.json").read_text())
    shade, parts = manifest["output"]["heads"]
    assert (shade["name"], shade["output"], shade["kind"], shade["labels"]) == ("shade", 1, "one", ["dark", "light"])
    assert (parts["kind"], parts["threshold"], parts["labels_file"]) == ("many", 0.5, "labels_parts.txt")
    assert shade["threshold"] == pytest.approx(read_further_heads(layout.further_heads("float32"))["shade"].threshold)
    for head in (shade, parts):
        assert (layout.DEPLOYED / labels_file_of(head["name"])).read_text().splitlines() == head["labels"]
    golden = json.loads((layout.DEPLOYED / "golden/golden.json").read_text())
    for picture in golden["pictures"]:
        assert set(picture["heads"]) == {"shade", "parts"}
        if picture["label"] == "cup":
            assert picture["heads"]["shade"]["answer"] == ["dark"]
        assert list(picture["heads"]["parts"]["probabilities"]) == ["handle", "leaf", "rim"]


def test_the_table_of_the_samples_fits_the_samples() -> None:
    takes = [f"{take.parent.name}/{take.name}" for take in (PROJECT / "data/videos").glob("*/*.*")]
    found = read_answers(PROJECT / layout.LABELS, {"material": "one", "parts": "many"}, takes)
    assert {head: len(answers) for head, answers in found.items()} == {"material": len(takes), "parts": len(takes)}


def test_a_new_head_changes_no_answer_of_the_others() -> None:
    weights, bias = tiny_models.head()
    one = append_head(tiny_models.backbone(), weights, bias, 2)
    two = append_head(one, weights, bias, name="shade")
    for picture in tiny_models.pictures(3):
        assert Model(two)(picture)[:2].tobytes() == Model(one)(picture).tobytes()


def test_the_version_changes_with_a_heads_threshold(deployed: Path) -> None:
    before = json.loads((layout.DEPLOYED / "manifest.json").read_text())["version"]
    path = layout.further_heads("float32") / "shade.safetensors"
    path.write_bytes(to_bytes(replace(read_head(path), threshold=0.75)))
    assemble(AssembleStage("tiny", tiny_models.SCHEMES["float32"]))
    deploy(DeployStage("float32", "stretch", "uint8", "tiny"))
    assert json.loads((layout.DEPLOYED / "manifest.json").read_text())["version"] != before


def test_limits_hold_for_every_head(deployed: Path) -> None:
    metrics = json.loads(layout.metrics("float32").read_text())
    metrics["heads"]["parts"]["accuracy"] = 0.5
    limits = GateConfig("figure", 0.7, *[None] * 9)
    (breach,) = breaches_of(metrics, limits)
    assert str(breach) == "min_accuracy, head parts: 0.7; it has 0.5, 0.2 too little"
    of_the_file = replace(limits, min_accuracy=None, max_size_bytes=1)
    assert [breach.head for breach in breaches_of(metrics, of_the_file)] == [""]


def test_the_worse_end_of_a_heads_drop_is_what_must_hold(deployed: Path) -> None:
    metrics = json.loads(layout.metrics("float32").read_text())
    metrics["heads"]["parts"] |= {"accuracy_drop": 0.01}
    metrics["heads"]["parts"]["intervals"]["accuracy_drop"] = {"low": -0.02, "high": 0.04}
    limits = GateConfig("figure", *[None] * 10)
    assert breaches_of(metrics, replace(limits, max_accuracy_drop=0.03)) == []
    (breach,) = breaches_of(metrics, replace(limits, judge_by="interval", max_accuracy_drop=0.03))
    assert str(breach) == "max_accuracy_drop, head parts: 0.03; it has 0.04, 0.01 too much"


def test_predict_tells_what_every_head_says(deployed: Path) -> None:
    (deployed / "a.jpg").write_bytes(encode_jpeg(tiny_project.picture(0, 7), quality=95))
    done = CliRunner().invoke(viewfinder, ["predict", "a.jpg", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["heads"]
    assert told["shade"]["answer"] == ["dark"]
    assert list(told["parts"]["probabilities"]) == ["handle", "leaf", "rim"]
    text = CliRunner().invoke(viewfinder, ["predict", "a.jpg"]).stdout
    assert re.search(r"next +shade +parts\n", text)
    assert "dark" in text


def test_a_video_shows_what_every_head_says(deployed: Path) -> None:
    write_clip(Path("clip.mkv"), [tiny_project.picture(0, 7)] * 3, pts_ms=[0, 100, 200])
    with patch("pipeline.tools.labelled_video.captioned", side_effect=captioned) as drawn:
        done = CliRunner().invoke(viewfinder, ["predict", "clip.mkv", "--video", "out.mp4"])
    assert done.exit_code == 0, done.output
    (line, *_) = (call.args[1].further for call in drawn.call_args_list)
    assert line[0] == "shade: dark"
    assert re.fullmatch("parts: (none of them|(handle|leaf|rim)(, (leaf|rim))*)", line[1])
    assert len(list(sample_frames(Path("out.mp4"), per_second=1000, width_pixels=1000))) == 3


def test_score_asks_the_head_that_is_named(deployed: Path) -> None:
    for number, label in enumerate(("dark", "light")):
        (deployed / "shades" / label).mkdir(parents=True)
        for seed in range(3):
            content = encode_jpeg(tiny_project.picture(number, seed), quality=95)
            (deployed / f"shades/{label}/{seed}.jpg").write_bytes(content)
    command = ["score", str(layout.DEPLOYED / "model.tflite"), "shades", "--head"]
    done = CliRunner().invoke(viewfinder, [*command, "shade", "--json"])
    assert json.loads(done.stdout)["accuracy"] == 1, done.output
    unknown = CliRunner().invoke(viewfinder, [*command, "shape"])
    assert "one of the model's heads: probabilities, shade, parts" in unknown.output
    several_labels = CliRunner().invoke(viewfinder, [*command, "parts"])
    assert "several labels may be true together" in several_labels.output
    labels = CliRunner().invoke(viewfinder, [*command, "shade", "--labels", "labels.txt"])
    assert "for a model with several heads" in labels.output


def test_the_first_head_can_learn_beside_others(deployed: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):  # the command asks for a project
        write_text(deployed / name, "{}\n")
    done = CliRunner().invoke(viewfinder, ["trainable"])
    assert done.exit_code == 0, done.output
    assert json.loads((layout.TRAINABLE / "manifest.json").read_text())["labels"] == list(tiny_project.LABELS)
    assert "trainable: takes the first head alone, and leaves out: shade, parts\n" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["float32", "float16"])
def test_a_package_for_core_ml_has_every_head(deployed: Path, weights: str) -> None:
    pytest.importorskip("coremltools", reason="make setup-dev installs it")
    for name in ("dvc.yaml", "params.yaml"):
        write_text(deployed / name, "{}\n")
    done = CliRunner().invoke(viewfinder, ["coreml", "--weights", weights, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["holds"]
    package = SavedPackage(PACKAGE)
    assert package.classes == [*tiny_project.LABELS, NONE]
    assert package.further == ["shade", "parts"]
    told = json.loads(package.description.metadata.userDefined["heads"])
    assert told["shade"]["labels"] == ["dark", "light"]
    assert told["parts"] == {"labels": ["handle", "leaf", "rim"], "threshold": 0.5, "may_name_several": True}
    picture = tiny_models.pictures(1)[0]
    expected = Model((layout.DEPLOYED / "model.tflite").read_bytes())(picture)
    np.testing.assert_allclose(
        package(picture)[[0, 1, 3, 4, 5, 6, 7]], expected, atol=1e-6 if weights == "float32" else 0.01
    )


def test_there_is_a_picture_of_every_head(deployed: Path) -> None:
    write_text(layout.FINETUNE_CURVES, "epoch,train_loss,validation_loss\n")
    report(ReportStage("float32", ["float32"], ReportConfig(10, 10)))
    for head in HEADS:
        assert (layout.PICTURES / f"head_{head}.png").read_bytes().startswith(b"\x89PNG")
