"""The pictures with known answers that lie beside a model, as what a runtime is given."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, ModelError
from pipeline.files import layout
from pipeline.images.model_input import to_model_input
from pipeline.images.photos import read_photo
from pipeline.litert.golden import largest_factor
from pipeline.litert.model_file import is_float32


@dataclass(frozen=True)
class GoldenFolder:
    """What models/deployed and models/pretrained hold beside the model.

    Attributes:
        manifest: Content of manifest.json.
        rule: Content of golden/golden.json: `floor`, `max_factor` and `pictures`.
        pictures: uint8 [p, p, 3] each, RGB, 0..255, scaled to the model's input.
    """

    manifest: dict[str, Any]
    rule: dict[str, Any]
    pictures: list[npt.NDArray[np.uint8]]

    def largest_factor(self, found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
        """Return the largest factor between probabilities, by golden.json's rule: all below its floor count as it.

        Args:
            found: float32 [num_pictures, num_outputs].
            expected: Likewise.
        """
        floor = self.rule["floor"]
        return largest_factor(np.maximum(found, floor), np.maximum(expected, floor))


def read_golden(folder: Path, max_pictures: int | None = None) -> GoldenFolder:
    """Read the golden pictures of a folder.

    Args:
        folder: Holds manifest.json and golden/.
        max_pictures: The first ones; None for all.

    Raises:
        InputError: If there are none.
    """
    golden = folder / "golden/golden.json"
    if not golden.is_file():
        raise InputError(
            found=f"no {golden}", expected="a folder with a model and golden/", remedy="run `dvc repro`, which makes it"
        )
    rule = json.loads(golden.read_text(encoding="utf-8"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    side = manifest["input"]["shape"][1]
    names = [picture["file"] for picture in rule["pictures"]][:max_pictures]
    images = [read_photo(golden.with_name(name), width_pixels=sys.maxsize) for name in names]
    return GoldenFolder(manifest, rule, [to_model_input(image, side, manifest["input"]["resize"]) for image in images])


def without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON can tell them; it has no NaN, so that is null."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


def float32_model_in(folder: Path, reason: str) -> Path:
    """Return the float32 classifier to make another format of: the shipped file, or else the float32 scheme's.

    Args:
        folder: Holds a model.
        reason: Why no quantized model will do, for the message.

    Raises:
        ModelError: If there is none.
    """
    shipped = folder / "model.tflite"
    if shipped.is_file() and is_float32(shipped.read_bytes()):
        return shipped
    reference = layout.model(layout.REFERENCE_SCHEME)
    if folder != layout.DEPLOYED:
        raise ModelError(
            found=f"{shipped} has quantized numbers, or is missing",
            expected=f"a float32 model: {reason}",
            remedy="run `viewfinder pretrained --scheme float32`, if `viewfinder pretrained` made it",
        )
    if not reference.is_file():
        raise ModelError(
            found=f"{shipped} is not float32, and {reference} is missing",
            expected=f"one of these: {reason}",
            remedy="list float32 under `quantization` in params.yaml, and run `dvc repro`",
        )
    return reference
