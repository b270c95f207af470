from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.assemble import assemble, check_classifier
from pipeline.config.assemble import AssembleStage
from pipeline.errors import PipelineError
from pipeline.files import layout, write_bytes
from pipeline.heads.classifier import classifier
from pipeline.heads.head_file import Head
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.head import append_head, features_of
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import read_labels
from pipeline.litert.probes import probes
from pipeline.takes.tables import read_parquet
from tests import tiny_models, tiny_project

WEIGHTS, BIAS = tiny_models.head(num_labels=2)
HEAD = Head(WEIGHTS, BIAS, tiny_project.LABELS)


def stage(scheme: str) -> AssembleStage:
    return AssembleStage(tiny_project.BACKBONE.name, tiny_models.SCHEMES[scheme])


@pytest.mark.parametrize("scheme", ["float32", "float16", "int8"])
def test_features_inside_the_model_are_the_cached_bottlenecks_bit_for_bit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES[scheme])
    monkeypatch.setattr("pipeline.assemble.read_head", lambda _path: HEAD)
    assemble(stage(scheme))
    features = Model(features_of(layout.model(scheme).read_bytes()))
    for take in ("cup/train.mp4", "rote Möhre/validation.mp4"):
        cached = read_parquet(layout.bottlenecks(scheme) / f"frames/{take}.parquet")["feature"].to_numpy()
        images = read_parquet(layout.FRAMES / f"{take}.parquet")["image"].to_pylist()
        inside = [features(to_model_input(decode_jpeg(image), 16, "stretch")) for image in images]
        assert np.array_equal(np.stack(cached), np.stack(inside))
    assert layout.labels(scheme).read_text() == "cup\nrote Möhre\n"
    assert read_labels(layout.model(scheme).read_bytes()) == list(tiny_project.LABELS)


def test_another_backbone_inside_is_noticed() -> None:
    model = classifier(tiny_models.backbone(depth=2), HEAD, name="deep")
    with pytest.raises(PipelineError, match="features inside the float32 model differ from the bottlenecks"):
        check_classifier(model, tiny_models.backbone(), [HEAD], tiny_models.SCHEMES["float32"], probes(16))


def test_another_head_inside_is_noticed() -> None:
    model = append_head(tiny_models.backbone(), WEIGHTS + 1, BIAS * 3)
    with pytest.raises(PipelineError, match=r"probabilities of the float32 model differ from the heads' by \d"):
        check_classifier(model, tiny_models.backbone(), [HEAD], tiny_models.SCHEMES["float32"], probes(16))


def test_a_model_that_breaks_the_schemes_promise_is_not_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(layout.backbone("int8"), tiny_models.backbone())  # still float32
    tiny_project.have_no_further_heads("int8")
    monkeypatch.setattr("pipeline.assemble.read_head", lambda _path: HEAD)
    with pytest.raises(PipelineError, match="int8"):
        assemble(stage("int8"))
    assert not layout.model("int8").exists()
    assert not layout.labels("int8").exists()


def test_probabilities_follow_the_head() -> None:
    backbone = tiny_models.backbone()
    picture = tiny_models.pictures(1)[0]
    logits = Model(backbone)(picture).astype(np.float64) @ WEIGHTS + BIAS
    expected = np.exp(logits) / np.exp(logits).sum()
    assert Model(classifier(backbone, HEAD, name="tiny"))(picture) == pytest.approx(expected, abs=1e-5)
    swapped = replace(HEAD, weights=WEIGHTS[:, ::-1], bias=BIAS[::-1])
    assert Model(classifier(backbone, swapped, name="tiny"))(picture) == pytest.approx(expected[::-1], abs=1e-5)
