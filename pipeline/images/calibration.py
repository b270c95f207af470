"""The fixed pictures that activations are calibrated on."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.files.suffixes import PHOTO_SUFFIXES
from pipeline.images.model_input import to_model_input
from pipeline.images.photos import read_photo

MIN_PICTURES = (
    50  # 22 pictures gave a relative feature error of 0.37, 50 to 200 gave 0.21 to 0.24 (EfficientNet-Lite0, int8)
)
_WIDTH_PIXELS = 4096


def read_calibration(folder: Path, input_pixels: int, resize: str) -> npt.NDArray[np.uint8]:
    """Read all pictures of the calibration folder, sorted by name, as model inputs.

    Args:
        folder: Holds photos.
        input_pixels: Side of the model's input.
        resize: See `model_input.to_model_input`.

    Returns:
        uint8 [num_pictures, input_pixels, input_pixels, 3].

    Raises:
        InputError: If there are too few pictures for the ranges to be right, or one cannot be read.
    """
    paths = sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if len(paths) < MIN_PICTURES:
        raise InputError(
            found=f"{len(paths)} pictures in {folder}/",
            expected=f"at least {MIN_PICTURES}: with fewer, activations of real pictures are clipped",
            remedy=f"restore the pictures that come with the project (git checkout -- {folder}), or add varied ones",
        )
    pictures = (read_photo(path, width_pixels=_WIDTH_PIXELS) for path in paths)
    return np.stack([to_model_input(picture, input_pixels, resize) for picture in pictures])
