"""The one function that turns a picture into the model's input, and it does what a phone does.

MediaPipe Tasks, which Android and iOS apps use, stretches the whole frame to the model's input with OpenCV's
`warpPerspective` in fixed-point arithmetic, without anti-aliasing: output pixel i looks at source position
i * source / output (corner-aligned, no half-pixel shift), rounded to 1/32 pixel, and the four neighbours are blended
with integer weights. That was read off MediaPipe's answers: `tests/test_mediapipe.py` shows every pixel equal. Pillow's
and OpenCV's `resize` differ from it by several grey levels on average.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.config.resize import RESIZE_CHOICES
from pipeline.errors import ConfigurationError

_FRACTION_BITS = 5  # OpenCV's INTER_BITS: positions are rounded to 1/32 pixel
_ONE = 1 << _FRACTION_BITS
_ROWS_AT_ONCE = 56  # so the arrays between stay in the cache, and the system is not asked for new memory: half the time

Rgb = npt.NDArray[np.uint8]


def to_model_input(rgb: Rgb, input_pixels: int, resize: str) -> Rgb:
    """Scale an upright picture to the square that the model takes.

    Args:
        rgb: uint8 [height, width, 3], 0..255.
        input_pixels: Side of the model's square input.
        resize: `stretch` squeezes the whole picture into the square, as phones do; `crop` takes the largest centred
            square first; `pad` keeps the aspect ratio and fills the rest with black, the picture centred.

    Returns:
        uint8 [input_pixels, input_pixels, 3].

    Raises:
        ConfigurationError: If `resize` is none of these.
    """
    height, width = rgb.shape[:2]
    if resize == "stretch":
        return scale_like_phone(rgb, input_pixels, input_pixels)
    if resize == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return scale_like_phone(rgb[top : top + side, left : left + side], input_pixels, input_pixels)
    if resize == "pad":
        return _pad(rgb, input_pixels)
    raise ConfigurationError(
        found=f"resize: {resize}",
        expected=f"one of {', '.join(RESIZE_CHOICES)}",
        remedy="set `resize` in params.yaml to one of these",
    )


def _pad(rgb: Rgb, side: int) -> Rgb:
    """Scale the longer side of a picture to `side` and centre it on black."""
    height, width = rgb.shape[:2]
    longer = max(height, width)
    inner_height, inner_width = max(1, round(side * height / longer)), max(1, round(side * width / longer))
    top, left = (side - inner_height) // 2, (side - inner_width) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + inner_height, left : left + inner_width] = scale_like_phone(rgb, inner_height, inner_width)
    return square


def scale_like_phone(rgb: Rgb, height: int, width: int) -> Rgb:
    """Scale a picture, uint8 [h, w, 3], to any height and width as MediaPipe does.

    Blends the four neighbours of each output pixel's source position (see the module's text). Weights
    are at most 32 * 32 and pixels at most 255, so the first blend fits into 16 bits.
    """
    row, next_row, row_weight = _axis(rgb.shape[0], height)
    value, next_value, right = _values(rgb.shape[1], width)
    lower = row_weight.astype(np.uint16)[:, None]
    source = rgb.reshape(len(rgb), -1)
    pixels: Rgb = np.empty((height, 3 * width), np.uint8)
    for top in range(0, height, _ROWS_AT_ONCE):
        some = slice(top, top + _ROWS_AT_ONCE)
        rows = source.take(row[some], 0) * (_ONE - lower[some])
        rows += source.take(next_row[some], 0) * lower[some]
        blended = rows.take(value, 1) * (_ONE - right)
        blended += rows.take(next_value, 1) * right
        blended += 1 << (2 * _FRACTION_BITS - 1)  # rounds half up
        blended >>= 2 * _FRACTION_BITS
        pixels[some] = blended
    return pixels.reshape(height, width, 3)


@lru_cache(maxsize=64)
def _values(
    source_pixels: int, target_pixels: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.uint32]]:
    """Do as `_axis` for rows of interleaved channels, [3 * target_pixels]: NumPy gathers numbers faster than pixels."""
    first, second, weight = _axis(source_pixels, target_pixels)
    channel = np.arange(3)
    return (3 * first[:, None] + channel).ravel(), (3 * second[:, None] + channel).ravel(), weight.repeat(3)


@lru_cache(maxsize=64)
def _axis(
    source_pixels: int, target_pixels: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.uint32]]:
    """Return, for each target pixel along one axis, both source neighbours and the second one's weight in 1/32."""
    position = np.rint(np.arange(target_pixels) * (source_pixels / target_pixels) * _ONE).astype(np.intp)
    first = np.minimum(position >> _FRACTION_BITS, source_pixels - 1)  # rounding goes beyond a picture of a few pixels
    return first, np.minimum(first + 1, source_pixels - 1), (position & (_ONE - 1)).astype(np.uint32)
