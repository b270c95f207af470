"""Inspection: planted faults are found, each as what it is, and data without faults gives no alarm."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image, ImageFilter

from pipeline.config.crossval import CrossvalStage
from pipeline.config.inspect import InspectConfig, InspectStage
from pipeline.crossval import crossval
from pipeline.errors import ModelError
from pipeline.files import layout, sha256_of_bytes, write_bytes, write_text
from pipeline.heads.head_file import Head, to_bytes
from pipeline.images.codec import decode_jpeg, encode_jpeg
from pipeline.inspect import inspect
from pipeline.inspecting.advice import next_takes
from pipeline.inspecting.evidence import Evidence
from pipeline.inspecting.findings import (
    COPY,
    DULL,
    MISLABELLED,
    ODD,
    accuracy_without,
    copies,
    dull,
    mislabelled,
    odd_takes,
)
from pipeline.inspecting.heat import HeatMapper
from pipeline.litert.interpreter import Model
from pipeline.per_take.statistics import measure_frame, statistics_of_take
from pipeline.pictures.canvas import message
from pipeline.takes.tables import FRAMES, to_parquet
from pipeline.tools.report import report
from tests import clips, tiny_models, tiny_project, tiny_run
from tests.test_crossval import CONFIG as CROSSVAL

LABELS = ("cup", "hammer", "pen")
CONFIG = InspectConfig(
    min_margin=0.3,
    max_hash_distance=6,
    min_likeness_of_equal_hashes=0.5,
    min_likeness=0.85,
    min_copied_percent=20,
    max_compared_frames=8000,
    min_brightness=16,
    min_sharpness=8,
    min_motion=0.3,
    max_odd_accuracy=0.5,
    min_border_percent=80,
    num_thumbnails=24,
)
NUM_TAKES, NUM_FRAMES, NUM_FEATURES = 4, 5, 40


def evidence(suffix: str = ".mp4") -> Evidence:
    """Return what is known of takes without a fault: heads are sure and right, and no take looks like another."""
    draw = np.random.default_rng(0)
    rows, features, probabilities = [], [], []
    for index, label in enumerate(LABELS):
        for take in range(NUM_TAKES):
            place = draw.normal(0, 1, NUM_FEATURES)
            for frame in range(NUM_FRAMES):
                rows.append(
                    {
                        "take": f"{label}/{take}{suffix}",
                        "label": label,
                        "part": "test" if take == 0 else "train",
                        "frame_id": f"{label}{take}-{frame}",
                        "brightness": 100.0 + take,
                        "contrast": 40.0,
                        "sharpness": 200.0,
                        "hash": draw.integers(0, 256, 8, np.uint8).tobytes(),
                        "motion": 3.0 if frame else np.nan,
                    }
                )
                features.append(place + draw.normal(0, 0.3, NUM_FEATURES))
                probabilities.append(np.where(np.arange(len(LABELS)) == index, 0.9, 0.05))
    return Evidence(pd.DataFrame(rows), np.array(features, np.float32), np.array(probabilities, np.float32), LABELS)


def rows_of(found: Evidence, take: str) -> np.ndarray:
    return np.flatnonzero(found.table["take"] == take)


def answer(found: Evidence, rows: Sequence[int] | np.ndarray, label: str) -> None:
    """Let heads say another label of some frames."""
    found.probabilities[rows] = np.where(np.array(LABELS) == label, 0.9, 0.05)


def test_data_without_faults_gives_no_alarm() -> None:
    found = evidence()
    assert [*mislabelled(found, CONFIG), *copies(found, CONFIG), *dull(found, CONFIG), *odd_takes(found, CONFIG)] == []
    assert accuracy_without(found, []) == (1.0, 1.0)
    assert next_takes(found, pd.DataFrame(columns=["label", "num_takes", "recall"])) == [
        f"{label}: more takes, as 4 tell little" for label in LABELS
    ]


def test_a_video_under_another_label_is_found_and_a_few_wrong_frames_are_not() -> None:
    found = evidence()
    answer(found, rows_of(found, "cup/1.mp4"), "pen")
    answer(found, rows_of(found, "hammer/2.mp4")[:2], "pen")
    (one,) = mislabelled(found, CONFIG)
    assert (one.kind, one.takes, one.num_frames) == (MISLABELLED, ("cup/1.mp4",), (5, 5))
    assert one.text == "cup/1.mp4: 5 of 5 frames could be pen"


def test_single_photos_in_the_wrong_folder_are_found() -> None:
    found = evidence(suffix="")
    answer(found, rows_of(found, "cup/1")[[3]], "hammer")
    (one,) = mislabelled(found, CONFIG)
    assert (one.takes, one.frame_ids, one.text) == (("cup/1",), ("cup1-3",), "cup/1: 1 of 5 frames could be hammer")


def test_a_head_that_is_not_sure_doubts_no_label() -> None:
    found = evidence(suffix="")
    found.probabilities[rows_of(found, "cup/1")] = [0.3, 0.5, 0.2]
    assert mislabelled(found, CONFIG) == []


@pytest.mark.parametrize(
    ("one", "other", "consequence"),
    [
        ("cup/1.mp4", "cup/2.mp4", "so the score is better than it will be"),
        ("cup/0.mp4", "cup/1.mp4", "in two parts, so what is tested was trained on"),
        ("cup/1.mp4", "pen/2.mp4", "under two labels, so one of them is wrong"),
    ],
)
def test_a_copy_is_found_by_its_features_or_by_its_hashes(one: str, other: str, consequence: str) -> None:
    for by_hash in (False, True):
        found = evidence()
        rows, copied = rows_of(found, one), rows_of(found, other)
        if by_hash:  # a strongly compressed copy: hashes differ in a bit, features in much
            found.features[copied] = found.features[rows] + np.random.default_rng(1).normal(0, 0.6, (5, NUM_FEATURES))
            changed = [bytes([value[0] ^ 1]) + value[1:] for value in found.table["hash"].iloc[rows]]
            found.table.loc[copied, "hash"] = pd.Series(changed, index=copied)
        else:  # cut at the front and cropped
            found.features[copied[:4]] = found.features[rows[1:]] + 0.05
        (finding,) = copies(found, CONFIG)
        assert (finding.kind, set(finding.takes)) == (COPY, {one, other})
        assert finding.text.endswith(consequence)
    answer(found, rows_of(found, "hammer/1.mp4"), "pen")
    accuracy, without = accuracy_without(found, [finding])
    assert accuracy == pytest.approx(55 / 60)
    assert without == pytest.approx(45 / 50)


def test_a_sample_of_many_frames_is_compared() -> None:
    found = evidence()
    found.features[rows_of(found, "cup/2.mp4")] = found.features[rows_of(found, "cup/1.mp4")]
    (one,) = copies(found, InspectConfig(**{**vars(CONFIG), "max_compared_frames": 24}))
    assert one.takes == ("cup/1.mp4", "cup/2.mp4")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("brightness", 3.0, "too dark to see anything"),
        ("brightness", 250.0, "too bright to see anything"),
        ("sharpness", 2.0, "blurred beyond use"),
        ("motion", 0.0, "the same as the frame before"),
    ],
)
def test_frames_that_teach_nothing(column: str, value: float, words: str) -> None:
    found = evidence()
    found.table.loc[rows_of(found, "pen/3.mp4")[1:3], column] = value
    (one,) = dull(found, CONFIG)
    assert (one.kind, one.takes, one.num_frames) == (DULL, ("pen/3.mp4",), (2, 5))
    assert one.text == f"pen/3.mp4: 2 of 5 frames are {words}"


def test_a_take_that_is_missed_where_the_others_are_not() -> None:
    found = evidence()
    rows = rows_of(found, "hammer/3.mp4")
    answer(found, rows[:4], "pen")
    found.table.loc[rows, "brightness"] = 30.0
    (one,) = odd_takes(found, CONFIG)
    assert (one.kind, one.takes, one.num_frames) == (ODD, ("hammer/3.mp4",), (4, 5))
    expected = "hammer/3.mp4: 20% of it is recognized, of the label's other takes 100%; it is darker than they are"
    assert one.text == expected
    for take in (0, 1, 2):
        answer(found, rows_of(found, f"hammer/{take}.mp4"), "pen")
    assert odd_takes(found, CONFIG) == []  # then it is the label, not the take


def test_what_was_never_held_out_is_not_judged() -> None:
    found = evidence()
    answer(found, rows_of(found, "cup/1.mp4"), "pen")
    found.probabilities[:] = np.nan
    assert mislabelled(found, CONFIG) == odd_takes(found, CONFIG) == []
    assert all(map(np.isnan, accuracy_without(found, [])))


def test_advice_comes_in_the_order_of_what_it_should_gain() -> None:
    found = evidence()
    answer(found, rows_of(found, "cup/1.mp4"), "pen")
    answer(found, rows_of(found, "cup/2.mp4"), "pen")
    answer(found, rows_of(found, "hammer/1.mp4")[:3], "cup")
    curve = [("cup", 2, 0.3), ("cup", 4, 0.5), ("hammer", 2, 0.8), ("hammer", 4, 0.85), ("pen", 2, 0.9), ("pen", 4, 1)]
    told = next_takes(found, pd.DataFrame(curve, columns=["label", "num_takes", "recall"]))
    assert told[:2] == [
        "cup: 3 more takes, some of them in the dark (recall should rise by about 20 points)",
        "hammer: 3 more takes, some of them in the dark (recall should rise by about 5 points)",
    ]
    assert told[2:] == [
        "pen: more takes, as 4 tell little",
        "cup and pen are taken for each other (25% of their frames): film both in the same places",
        "cup and hammer are taken for each other (8% of their frames): film both in the same places",
    ]


def test_measures_of_single_frames() -> None:
    photo = Image.fromarray(clips.smooth(0, 320, 240))
    noise = np.random.default_rng(0).normal(0, 20, (240, 320, 3))
    sharp = np.clip(np.asarray(photo) + noise, 0, 255).astype(np.uint8)
    found, tiny = measure_frame(sharp)
    assert tiny.shape == (32, 32)
    assert len(found["hash"]) == 8
    assert found["brightness"] == pytest.approx(np.asarray(Image.fromarray(sharp).convert("L")).mean(), abs=1)
    blurred, _ = measure_frame(np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(6))))
    assert blurred["sharpness"] < 8 < found["sharpness"]
    again, _ = measure_frame(decode_jpeg(encode_jpeg(sharp, quality=40)))
    differing = np.unpackbits(np.frombuffer(found["hash"], np.uint8) ^ np.frombuffer(again["hash"], np.uint8)).sum()
    assert differing <= 4


def test_a_take_is_measured_in_order_and_motion_counts_from_the_frame_before(folder: Path) -> None:
    images = [encode_jpeg(clips.solid((grey, grey, grey)), quality=95) for grey in (100, 100, 130)]
    content = to_parquet(pa.table([list("abc"), [0.0, 0.5, 1.0], images], schema=FRAMES))
    write_bytes(layout.FRAMES / "cup/a.mp4.parquet", content)
    rows = statistics_of_take(layout.FRAMES / "cup/a.mp4.parquet", sha256_of_bytes(content)).read_all().to_pylist()
    assert [row["frame_id"] for row in rows] == list("abc")
    assert [row["motion"] for row in rows] == [None, 0.0, pytest.approx(30, abs=1)]


def test_a_logit_is_the_average_of_its_heat_map() -> None:
    backbone = tiny_models.backbone()
    weights, bias = tiny_models.head(num_labels=3)
    mapper = HeatMapper(backbone, Head(weights, bias, LABELS))
    image = tiny_models.pictures(1)[0]
    logits = Model(backbone)(image) @ weights
    for index in range(3):
        heat = mapper(image, index)
        assert heat.cells.mean() == pytest.approx(logits[index] - logits.mean(), rel=1e-4, abs=1e-5)
        assert 0 <= heat.border_percent <= 100


def test_a_backbone_without_a_feature_map_has_no_heat_maps() -> None:
    weights, bias = tiny_models.head(num_labels=3)
    with pytest.raises(ModelError, match="features are no average of a feature map"):
        HeatMapper(tiny_models.pixel_model(tiny_models.PIXELS), Head(weights, bias, LABELS))


def make_project(*, held_out: bool) -> InspectStage:
    """Leave what stages before `inspect` would: two labels of three takes, of which one bears the wrong label."""
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["float32"])
    weights, bias = tiny_models.head(num_labels=2)
    write_bytes(layout.head("float32"), to_bytes(Head(weights, bias, tiny_project.LABELS)))
    crossval(
        CrossvalStage(
            "float32",
            replace(tiny_project.TRAINING, mode="head" if held_out else "finetune"),
            tiny_project.UNKNOWN,
            CROSSVAL,
            tiny_project.ENGINE,
        )
    )
    return InspectStage("stretch", CONFIG, tiny_project.ENGINE)


def test_the_stage_leaves_findings_and_a_picture_of_each_kind(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_project(held_out=True)
    said = pd.read_csv(layout.crossval_predictions("float32"))
    probabilities = np.load(layout.crossval_probabilities("float32"))
    assert probabilities.shape == (len(said), 2)
    assert probabilities.max(1) == pytest.approx(said["probability"], abs=1e-6)
    swapped = (said["take"] == "cup/train.mp4").to_numpy()
    probabilities[:] = np.where((said["actual"] == "cup").to_numpy() ^ swapped, [[0.95], [0.05]], [[0.05], [0.95]]).T
    np.save(layout.crossval_probabilities("float32"), probabilities)
    inspect(config)
    found = json.loads(layout.INSPECTED.read_text(encoding="utf-8"))
    assert found["asked_heads"]
    texts = [one["text"] for one in found["findings"] if one["kind"] == MISLABELLED]
    assert texts == [
        f"cup/train.mp4: {tiny_project.NUM_FRAMES} of {tiny_project.NUM_FRAMES} frames could be rote Möhre"
    ]
    assert {path.stem for path in layout.INSPECTION.iterdir()} == {MISLABELLED, COPY, DULL, ODD, "heat", "heat_errors"}
    printed = capsys.readouterr().err
    assert "inspect: of the takes, 1 could bear another label" in printed
    assert "plots/inspect/ shows them" in printed


def test_a_backbone_that_knows_all_takes_doubts_no_label(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect(make_project(held_out=False))
    found = json.loads(layout.INSPECTED.read_text(encoding="utf-8"))
    assert not found["asked_heads"]
    assert {one["kind"] for one in found["findings"]} <= {COPY, DULL}
    assert "whether labels are right nobody can tell" in capsys.readouterr().err


def test_the_page_tells_what_was_found(folder: Path) -> None:
    tiny_run.make()
    told = {
        "asked_heads": False,
        "findings": [{"kind": MISLABELLED, "text": "cup/1.mp4: 5 of 5 frames could be <b>pen</b>"}],
        "judged_by_their_border": ["cup/2.mp4: 90% of what speaks for cup lies at the border"],
        "accuracy": 0.9,
        "accuracy_without_copies": 0.8,
        "film_next": ["cup: 3 more takes"],
    }
    write_text(layout.INSPECTED, json.dumps(told))
    for name in ("heat", MISLABELLED, DULL):
        write_bytes(layout.INSPECTION / f"{name}.png", message("a", "b"))
    page = report().read_text(encoding="utf-8")
    for text in (
        "could be &lt;b&gt;pen",
        "lies at the border",
        "without a copy 0.800",
        "3 more takes",
        "nobody can tell",
    ):
        assert text in page
    assert 'alt="Where the model looks"' in page
    assert 'alt="Takes that could bear another label"' in page
    assert "Frames that teach nothing" not in page  # nothing was found
