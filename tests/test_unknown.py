"""What a classifier says to pictures that show none of its labels, from the heads to the file that ships."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipeline.assemble import assemble, check_classifier
from pipeline.config.assemble import AssembleStage
from pipeline.config.crossval import CrossvalConfig, CrossvalStage
from pipeline.config.deploy import DeployStage
from pipeline.config.train import TrainStage
from pipeline.config.unknown import UnknownConfig
from pipeline.crossval import crossval
from pipeline.deploy import deploy
from pipeline.errors import ConfigurationError, InputError
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.classifier import classifier
from pipeline.heads.crossvalidation import cross_validate
from pipeline.heads.head_file import Head, read_head, to_bytes
from pipeline.heads.held_out import held_out_frames
from pipeline.heads.inputs import learned_rows
from pipeline.heads.training import train_head
from pipeline.heads.weighing import output_weights, row_weights
from pipeline.images.codec import encode_jpeg
from pipeline.litert.flatbuffer import num_backbone_operators, read_model
from pipeline.litert.foreign import output_operator
from pipeline.litert.head import append_head, features_of
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import embed_labels, read_threshold
from pipeline.litert.probes import probes
from pipeline.metrics.probabilities import SLICED_SOFTMAX, SOFTMAX, to_probabilities
from pipeline.metrics.unknown import LABEL, LEFT_OUT, NONE_TAKE, STRANGER, asked_table, auroc_of, figures_of
from pipeline.per_take.bottlenecks import FeatureExtractor
from pipeline.per_take.feature_jobs import strangers_job
from pipeline.pictures.unknown import known_and_unknown
from pipeline.takes.folds import deal
from pipeline.takes.lookalikes import without_lookalikes
from pipeline.takes.rows import STRANGERS_TABLE, Rows, Unit, read_rows
from pipeline.takes.splits import NONE, read_takes
from pipeline.takes.tables import bottlenecks_schema, to_parquet
from pipeline.train import train
from tests import tiny_models, tiny_project, tiny_results
from tests.test_report import size_of
from tests.test_train import blobs

CROSSVAL = CrossvalConfig(num_folds=3, learning_percents=[50], num_calibration_bins=10)
LABELS = ["ant", "café au lait", "日本"]


def open_head(threshold: float | None = 0.5) -> Head:
    """Return a head of three labels and one output more."""
    weights, bias = tiny_models.head(num_labels=4)
    return Head(weights, bias, tuple(LABELS), threshold)


def with_others(rows: Rows, num_strangers: int, num_takes: int = 0, seed: int = 0) -> Rows:
    """Add strangers, each a row, and takes of `NONE` with three each, far from all labels."""
    sizes = [3] * num_takes + [1] * num_strangers
    units = [Unit(NONE, f"{NONE}/{i}.mp4", "train", is_whole=True) for i in range(num_takes)]
    units += [Unit(NONE, f"data/strangers/{i}.jpg", "train", is_whole=True) for i in range(num_strangers)]
    num, length = sum(sizes), rows.features.shape[1]
    features = np.random.default_rng(seed).normal(0, 0.3, (num, length)).astype(np.float32)
    features[:, -1] += 5
    return replace(
        rows,
        features=np.concatenate([rows.features, features]),
        label_indices=np.concatenate([rows.label_indices, np.full(num, len(rows.labels))]),
        unit_indices=np.concatenate([rows.unit_indices, len(rows.units) + np.repeat(np.arange(len(sizes)), sizes)]),
        copies=np.concatenate([rows.copies, np.zeros(num, np.int64)]),
        frame_ids=np.concatenate([rows.frame_ids, np.arange(num).astype(str).astype(object)]),
        units=(*rows.units, *units),
    )


@pytest.fixture
def project(folder: Path) -> Path:
    tiny_project.make()
    tiny_project.add_none_takes(2)
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["int8"])
    return folder


def test_from_pictures_of_other_things_to_a_file_that_refuses_them(project: Path) -> None:
    train(TrainStage("int8", tiny_project.TRAINING, tiny_project.UNKNOWN))
    head = read_head(layout.head("int8"))
    assert head.weights.shape[1] == len(head.bias) == 3
    assert head.threshold is not None
    assemble(AssembleStage("tiny", tiny_models.SCHEMES["int8"]))
    assert layout.labels("int8").read_text(encoding="utf-8") == "cup\nrote Möhre\n"
    content = layout.model("int8").read_bytes()
    model = Model(content)
    for kind, is_known in ((0, True), (1, True), (2, False), (3, False)):
        picture = np.ascontiguousarray(np.resize(tiny_project.picture(kind, 77), (16, 16, 3)))
        probabilities = model(picture)
        assert probabilities.shape == (2,)
        assert (probabilities.max() >= head.threshold) == is_known
        if is_known:
            assert probabilities.argmax() == kind
    assert read_threshold(content) == pytest.approx(head.threshold)


def test_off_learns_from_labels_alone(project: Path) -> None:
    train(TrainStage("int8", tiny_project.TRAINING, tiny_project.OFF))
    head = read_head(layout.head("int8"))
    rows = read_rows(layout.bottlenecks("int8"), read_takes(layout.SPLITS))
    assert rows.labels == tiny_project.LABELS
    assert {unit.label for unit in rows.units} == set(tiny_project.LABELS)
    assert np.array_equal(head.weights, train_head(rows, tiny_project.TRAINING, title="").head.weights)
    assert (head.weights.shape[1], head.threshold) == (2, None)
    crossval(CrossvalStage("int8", tiny_project.TRAINING, tiny_project.OFF, CROSSVAL, tiny_project.ENGINE))
    assert "unknown" not in json.loads(layout.crossval_figures("int8").read_text())
    assert len(pd.read_csv(layout.crossval_unknown("int8"))) == 0


def test_cross_validation_asks_about_strangers_takes_of_none_and_labels_left_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crossval(CrossvalStage("int8", tiny_project.TRAINING, tiny_project.UNKNOWN, CROSSVAL, tiny_project.ENGINE))
    figures = json.loads(layout.crossval_figures("int8").read_text())
    unknown = figures["unknown"]
    assert figures["num_test_frames"] == 30  # none of them of _none
    assert set(figures["per_class"]) == set(tiny_project.LABELS)
    assert unknown["strangers"]["auroc"] == unknown["strangers"]["refused"] == 1
    assert unknown["strangers"]["num_frames"] == tiny_project.NUM_STRANGERS
    assert unknown["none"]["num_frames"] == 2 * tiny_project.NUM_FRAMES
    assert set(unknown["left_out"]["per_class"]) == set(tiny_project.LABELS)
    assert unknown["lookalikes"] == {}
    said = pd.read_csv(layout.crossval_unknown("int8"), keep_default_na=False)
    assert said["kind"].value_counts().to_dict() == {
        **{LABEL: 30, LEFT_OUT: 30},
        **{STRANGER: tiny_project.NUM_STRANGERS, NONE_TAKE: 2 * tiny_project.NUM_FRAMES},
    }
    assert (said["is_refused"] == (said["probability"] < said["threshold"])).all()
    assert f"of them named, 100.0% of {tiny_project.NUM_STRANGERS} strangers refused" in capsys.readouterr().err


def test_takes_of_none_are_no_test_takes(project: Path) -> None:
    takes = read_takes(layout.SPLITS)
    assert sum(not take.shows_a_label for take in takes) == 2
    assert {frame.label for frame in held_out_frames(takes)} == set(tiny_project.LABELS)


def test_labels_come_first_and_are_the_same_rows_whether_others_follow(project: Path) -> None:
    takes, folder = read_takes(layout.SPLITS), layout.bottlenecks("int8")
    alone, both = read_rows(folder, takes), read_rows(folder, takes, strangers=layout.STRANGERS)
    assert np.array_equal(both.features[: len(alone)], alone.features)
    assert both.units[: len(alone.units)] == alone.units
    assert both.are_of_labels.tolist() == [True] * len(alone) + [False] * (len(both) - len(alone))
    assert [unit.take for unit in both.units if unit.is_stranger] == [
        f"data/strangers/{i:02d}.jpg" for i in range(tiny_project.NUM_STRANGERS)
    ]
    assert (alone.num_outputs, both.num_outputs) == (2, 3)


def test_a_stranger_that_shows_a_label_is_named_and_left_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = layout.STRANGERS / "someones_cup.jpg"
    planted.write_bytes(encode_jpeg(tiny_project.picture(0, 5), quality=95))
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["int8"])
    rows, found = learned_rows("int8", "learned")
    assert [(one.take, one.label) for one in found] == [("data/strangers/someones_cup.jpg", "cup")]
    assert found[0].similarity >= found[0].expected
    assert "data/strangers/someones_cup.jpg" not in {unit.take for unit in rows.units}
    assert {rows.units[index].label for index in rows.unit_indices[~rows.are_of_labels]} == {NONE}
    train(TrainStage("int8", tiny_project.TRAINING, tiny_project.UNKNOWN))
    assert (
        "train@int8: data/strangers/someones_cup.jpg looks like 'cup' and is not learned as something else\n"
        in capsys.readouterr().err
    )


def test_units_keep_their_rows_where_some_are_left_out() -> None:
    rows = with_others(blobs((40, 30)), 6, num_takes=2)
    near = np.random.default_rng(0).normal(0, 0.01, rows.features.shape).astype(np.float32)
    near[np.arange(len(rows)), rows.label_indices] += 1  # far apart
    near[rows.unit_indices == len(rows.units) - 3] = near[0]  # a stranger in the midst
    near[np.flatnonzero(rows.unit_indices == len(rows.units) - 8)] = near[0]  # a take of NONE, which the user wants
    kept, found = without_lookalikes(replace(rows, features=near))
    assert [one.take for one in found] == ["data/strangers/3.jpg"]
    names = [rows.units[index].take for index in rows.unit_indices]
    assert [kept.units[index].take for index in kept.unit_indices] == [n for n in names if n != "data/strangers/3.jpg"]


COUNTS = st.dictionaries(st.sampled_from(["a", "Z", "é"]), st.integers(2, 9), min_size=2)


@given(COUNTS, st.integers(1, 30), st.integers(2, 6))
def test_what_is_none_of_the_labels_changes_no_fold_of_theirs(
    counts: dict[str, int], num_others: int, num_folds: int
) -> None:
    units = [Unit(label, f"{label}/{i}.mp4", "train", is_whole=True) for label, n in counts.items() for i in range(n)]
    others = [Unit(NONE, f"data/strangers/{i}.jpg", "train", is_whole=True) for i in range(num_others)]
    alone = deal(units, range(len(units)), num_folds)
    both = deal([*units, *others], range(len(units) + num_others), num_folds)
    assert [[index for index in fold if index < len(units)] for fold in both] == alone
    held_out = sorted(index for fold in both for index in fold if index >= len(units))
    assert held_out == (list(range(len(units), len(units) + num_others)) if num_others > 1 else [])


@pytest.mark.parametrize("class_balance", [True, False])
def test_all_else_counts_as_much_as_a_label(class_balance: bool) -> None:
    labels = np.repeat([0, 1, 2], [30, 10, 200])
    weights = row_weights(labels, 2, class_balance=class_balance)
    assert weights[labels == 2].sum() == pytest.approx(20)
    assert weights[labels < 2].mean() == pytest.approx(1)
    assert len(output_weights(labels[labels < 2], 2, class_balance=class_balance)) == 2


def test_the_threshold_keeps_what_was_asked_for() -> None:
    rows = with_others(blobs((200, 200), num_takes=20), 30)
    thresholds = {
        percent: train_head(rows, tiny_project.TRAINING, title="", keep_percent=percent).head.threshold
        for percent in (60, 95)
    }
    assert thresholds[60] is not None
    assert thresholds[95] is not None
    assert thresholds[60] > thresholds[95]
    asked = cross_validate(rows, tiny_project.TRAINING, num_folds=5, percents=[], title="", keep_percent=60).asked
    assert figures_of(asked)["kept"] == pytest.approx(0.6, abs=0.1)


@pytest.mark.slow
def test_a_head_that_is_trained_in_steps_refuses_too() -> None:
    rows = with_others(blobs((100, 100), num_takes=10), 30)
    head = train_head(rows, replace(tiny_project.TRAINING, optimizer="adamw", steps=300), title="").head
    assert head.threshold is not None
    best = head.probabilities(rows.features).max(1)
    assert (best[rows.are_of_labels] >= head.threshold).mean() > 0.85
    assert (best[~rows.are_of_labels] < head.threshold).mean() == 1


def test_the_file_gives_the_labels_probabilities_of_all_outputs() -> None:
    head = open_head()
    model = classifier(tiny_models.backbone(), head, name="tiny")
    check_classifier(model, tiny_models.backbone(), [head], tiny_models.SCHEMES["float32"], probes(16))
    run_model, run_backbone = Model(model), Model(tiny_models.backbone())
    for picture in tiny_models.pictures(5):
        expected = head.probabilities(run_backbone(picture)[np.newaxis])[0]
        assert run_model(picture) == pytest.approx(expected, abs=1e-6)
        assert run_model(picture).sum() < 1
    assert num_backbone_operators(read_model(model)) == num_backbone_operators(read_model(tiny_models.backbone()))
    assert Model(features_of(model))(picture).tolist() == run_backbone(picture).tolist()


def test_the_threshold_is_read_from_the_file_wherever_it_is() -> None:
    backbone = append_head(tiny_models.backbone(), *tiny_models.head())
    assert read_threshold(backbone) is None
    assert read_threshold(embed_labels(backbone, LABELS, name="n", description="d")) is None
    content = embed_labels(backbone, LABELS, name="n", description="d", threshold=0.25)
    assert read_threshold(content) == 0.25


def test_scores_of_a_part_of_a_softmax_stay_as_they_are() -> None:
    model = classifier(tiny_models.backbone(), open_head(), name="tiny")
    assert output_operator(model) == SLICED_SOFTMAX
    assert output_operator(append_head(tiny_models.backbone(), *tiny_models.head())) == SOFTMAX
    outputs = np.array([[0.2, 0.1], [0.9, 0.05]], np.float32)
    assert to_probabilities(outputs, made_by=SLICED_SOFTMAX, step=0)[0].tolist() == outputs.tolist()
    assert to_probabilities(outputs, made_by=SOFTMAX, step=0)[0].sum(1) == pytest.approx(1)


def test_deploy_tells_the_app_where_to_say_nothing(project: Path) -> None:
    tiny_results.write_scheme("int8")
    train(TrainStage("int8", tiny_project.TRAINING, tiny_project.UNKNOWN))
    assemble(AssembleStage("tiny", tiny_models.SCHEMES["int8"]))
    write_text(layout.GATE, json.dumps({"scheme": "int8", "limits": {}}))
    deploy(DeployStage("int8", "stretch", "uint8", "tiny"))
    threshold = read_head(layout.head("int8")).threshold
    output = json.loads((layout.DEPLOYED / "manifest.json").read_text())["output"]
    assert output["threshold"] == threshold
    assert output["rule"] == "if the highest probability is below threshold, the picture shows none of the labels"
    golden = json.loads((layout.DEPLOYED / "golden/golden.json").read_text())
    assert golden["threshold"] == threshold
    *known, stranger = golden["pictures"]
    assert {picture["label"] for picture in known} == set(tiny_project.LABELS)
    assert all(picture["answer"] == picture["label"] for picture in known)
    assert stranger["label"] is stranger["answer"] is None
    assert max(stranger["probabilities"].values()) < threshold


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10)), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10)), min_size=1, max_size=30),
)
def test_auroc_is_scikit_learns(known: list[tuple[int, int]], unknown: list[tuple[int, int]]) -> None:
    tables = [
        asked_table(kind=["x"] * len(some), take=[str(take) for take, _ in some], probability=[p / 10 for _, p in some])
        for some in (known, unknown)
    ]
    auroc, interval = auroc_of(*tables)
    expected = roc_auc_score([1] * len(known) + [0] * len(unknown), np.concatenate([t["probability"] for t in tables]))
    assert auroc == pytest.approx(expected)
    assert interval["low"] <= interval["high"]


def test_two_takes_that_are_told_apart_promise_little() -> None:
    tables = [asked_table(kind=["x"] * 2, take=["a", "b"], probability=[p, p]) for p in (0.9, 0.1)]
    auroc, interval = auroc_of(*tables)
    assert (auroc, interval["high"]) == (1, 1)
    assert interval["low"] < 0.2


def test_a_picture_shows_each_kind_with_its_share() -> None:
    table = pd.concat(
        [
            asked_table(kind=[kind] * 4, take=["a"] * 4, probability=np.linspace(low, low + 0.3, 4), threshold=0.5)
            for kind, low in ((LABEL, 0.6), (STRANGER, 0.0), (NONE_TAKE, 0.1), (LEFT_OUT, 0.4))
        ]
    )
    heights = [
        size_of(known_and_unknown(table[table["kind"].isin(kinds)], "t"))[1]
        for kinds in ([LABEL], [*"ab", LABEL, STRANGER, NONE_TAKE, LEFT_OUT])
    ]
    assert heights[1] > 2 * heights[0]


@pytest.mark.parametrize(
    ("mode", "keep_percent", "found"),
    [
        ("on", 95, "unknown.mode: on\n  expected: one of off, learned"),
        ("learned", 30, "unknown.keep_percent: 30\n  expected: a number from 50 to 100"),
    ],
)
def test_what_unknown_must_not_say(mode: str, keep_percent: float, found: str) -> None:
    with pytest.raises(ConfigurationError, match=found):
        UnknownConfig(mode, keep_percent)


def test_strangers_are_jpeg_files_and_there_are_some(folder: Path) -> None:
    features = FeatureExtractor(tiny_models.backbone(), "stretch")
    with pytest.raises(InputError, match="data/strangers/ holds no picture"):
        strangers_job(layout.STRANGERS, features)
    write_bytes(layout.STRANGERS / "wall.heic", b"x")
    with pytest.raises(
        InputError, match=r"data/strangers/ holds wall.heic\n(.|\n)*pictures of your own into data/photos/_none/"
    ):
        strangers_job(layout.STRANGERS, features)


def test_a_project_all_of_whose_strangers_look_like_labels_still_trains(folder: Path) -> None:
    """Then nothing is left to learn from, and the head knows its labels alone."""
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["int8"])
    rows = read_rows(layout.bottlenecks("int8"), read_takes(layout.SPLITS))
    table = pa.table(
        [["a.jpg"], [0], [0.0], rows.features[:1].tolist()], schema=bottlenecks_schema(rows.features.shape[1])
    )
    write_bytes(layout.bottlenecks("int8") / STRANGERS_TABLE, to_parquet(table))
    train(TrainStage("int8", tiny_project.TRAINING, tiny_project.UNKNOWN))
    assert read_head(layout.head("int8")).threshold is None
    crossval(CrossvalStage("int8", tiny_project.TRAINING, tiny_project.UNKNOWN, CROSSVAL, tiny_project.ENGINE))
    assert "unknown" not in json.loads(layout.crossval_figures("int8").read_text())


def test_a_head_with_a_threshold_is_read_as_it_was_written(folder: Path) -> None:
    Path("head").write_bytes(to_bytes(open_head(0.25)))
    found = read_head(Path("head"))
    assert found.threshold == 0.25
    assert found.labels == tuple(LABELS)
    assert found.weights.shape[1] == len(found.labels) + 1
