"""The pictures with known answers that lie beside a model, as what a runtime is given."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.images.model_input import to_model_input
from pipeline.images.photos import read_photo


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
