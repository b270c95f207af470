"""The stage; the architecture and the conversion have tests of their own in test_backbones.py."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import backbone as stage
from pipeline.backbones import build, checked
from pipeline.config.backbone import BackboneStage
from pipeline.errors import ModelError
from pipeline.files import layout
from tests.tiny_project import BACKBONE


@pytest.fixture
def converted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace what needs TensorFlow's minutes; `difference` is what the comparison with Keras will find."""
    seen: dict[str, Any] = {"difference": 1e-6}

    def difference(model: object, content: bytes, images: np.ndarray) -> float:
        seen["images"] = images
        return float(seen["difference"])

    monkeypatch.setattr(build, "build_backbone", lambda config: config)
    monkeypatch.setattr(checked, "convert", lambda _model: b"tflite")
    monkeypatch.setattr(checked, "largest_difference", difference)
    return seen


def test_a_backbone_that_equals_keras_is_written(converted: dict[str, Any]) -> None:
    stage.backbone(BackboneStage(BACKBONE))
    assert layout.CONVERTED_BACKBONE.read_bytes() == b"tflite"
    images = converted["images"]
    assert images.dtype == np.uint8
    assert images.shape[1:] == (16, 16, 3)
    assert (images.min(), images.max()) == (0, 255)


@pytest.mark.parametrize("difference", [1.1e-4, 3.0, math.nan])
def test_a_backbone_that_differs_from_keras_is_refused(converted: dict[str, Any], difference: float) -> None:
    converted["difference"] = difference
    with pytest.raises(ModelError, match=r"the converted tiny differs from Keras by .*\n  expected: features within"):
        stage.backbone(BackboneStage(BACKBONE))
    assert not layout.CONVERTED_BACKBONE.exists()
