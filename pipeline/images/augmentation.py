"""Augmentation in two halves: draw a random transformation, then apply exactly that.

`random_crop`, `random_scale` and `random_brightness` are percentages with the meaning that retrain.py gives them
(https://github.com/tensorflow/hub/blob/master/examples/image_retraining/retrain.py): the picture is enlarged by
1 + crop/100 times a factor drawn from 1 .. 1 + scale/100, a window of the original size is cut out of it at random, and
its brightness is multiplied by a factor drawn from 1 - brightness/100 .. 1 + brightness/100.
"""

import hashlib
import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.config.augment import AugmentConfig

Rgb = npt.NDArray[np.uint8]

cv2.setNumThreads(1)  # each processor works on a picture of its own

# Fractions that matrices are rounded to, so that all processors give the same bytes. Pictures are computed in float32,
# and some processors round once, others twice where a product is added. With these nothing is rounded before the last
# step: two bilinear weights and a pixel have 8 bits each, which are float32's 24; a colour's coefficient has 15, a
# pixel 8.
_GEOMETRY_BITS, _COLOUR_BITS = 8, 12

# Luma weights of ITU-R BT.601: hue turns and saturation scales around this grey, so neither changes the brightness.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Transformation:
    """One drawn transformation.

    Attributes:
        flip: Whether left and right change places.
        window_fraction: Side of the window that is cut out, as a fraction of the picture's side, 0..1.
        window_left: Where the window lies in the free room from left (0) to right (1).
        window_top: Where the window lies in the free room from top (0) to bottom (1).
        rotation_degrees: Counter-clockwise rotation of the picture around the window's centre.
        brightness: Factor on all channels.
        hue_degrees: Turn of the colour around the grey axis.
        saturation: Factor on the distance from grey.
        blur_pixels: Standard deviation of a Gaussian blur.
        jpeg_quality: Quality that the result is stored with.
    """

    flip: bool
    window_fraction: float
    window_left: float
    window_top: float
    rotation_degrees: float
    brightness: float
    hue_degrees: float
    saturation: float
    blur_pixels: float
    jpeg_quality: int


def generator_of(frame_id: str, copy: int) -> np.random.Generator:
    """Return the generator for one copy of one frame: equal names give equal draws, on any machine and in any order."""
    digest = hashlib.sha256(f"{frame_id}/{copy}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def draw(config: AugmentConfig, generator: np.random.Generator) -> Transformation:
    """Draw one transformation; all draws happen whatever the settings, so one setting does not shift another's draw."""
    flip = bool(generator.random() < 0.5)
    scale = generator.uniform(1, 1 + config.random_scale / 100)
    left, top = generator.random(), generator.random()
    turn, brightness, hue, saturation = generator.uniform(-1, 1, 4)
    blur = generator.random()
    quality = generator.random()
    quality_range = config.max_jpeg_quality - config.min_jpeg_quality
    return Transformation(
        flip=flip and config.flip_left_right,
        window_fraction=1 / ((1 + config.random_crop / 100) * scale),
        window_left=left,
        window_top=top,
        rotation_degrees=turn * config.rotation_degrees,
        brightness=1 + brightness * config.random_brightness / 100,
        hue_degrees=hue * config.hue_degrees,
        saturation=1 + saturation * config.random_saturation / 100,
        blur_pixels=blur * config.blur_pixels,
        jpeg_quality=config.min_jpeg_quality + round(quality * quality_range),
    )


def apply(transformation: Transformation, rgb: Rgb) -> Rgb:
    """Apply a drawn transformation, all but the JPEG quality.

    Args:
        transformation: What `draw` gave.
        rgb: uint8 [height, width, 3], 0..255.

    Returns:
        uint8 [h, w, 3], where h and w are the window's size: it is not enlarged again, since the model's input is
        smaller anyway.
    """
    window = _cut_window(transformation, rgb)
    if transformation.blur_pixels > 0:
        blur = transformation.blur_pixels
        window = cv2.GaussianBlur(window, (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
    return _change_colours(transformation, window)


def _cut_window(transformation: Transformation, rgb: Rgb) -> Rgb:
    """Rotate, cut and flip in one bilinear resampling; what lies outside the picture repeats its edge mirrored."""
    height, width = rgb.shape[:2]
    new_width = max(1, round(width * transformation.window_fraction))
    new_height = max(1, round(height * transformation.window_fraction))
    centre = np.array([new_width, new_height]) / 2
    room = np.array([width - new_width, height - new_height])
    source_centre = centre + room * (transformation.window_left, transformation.window_top)
    angle = math.radians(transformation.rotation_degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    mirror = -1 if transformation.flip else 1
    turn = _rounded(np.array([[mirror * cosine, -sine], [mirror * sine, cosine]]), _GEOMETRY_BITS)
    # From target to source, between the centres of pixels, which lie half a pixel from their corners.
    shift = _rounded(source_centre - 0.5 - turn @ (centre - 0.5), _GEOMETRY_BITS)
    window: Rgb = cv2.warpAffine(
        rgb,
        np.column_stack([turn, shift]),
        (new_width, new_height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    return window


def _change_colours(transformation: Transformation, rgb: Rgb) -> Rgb:
    """Multiply colours by one 3x3 matrix: brightness * saturation * turn of the hue around the grey axis."""
    if transformation.brightness == 1 and transformation.saturation == 1 and transformation.hue_degrees == 0:
        return rgb
    grey = np.tile(_LUMA, (3, 1))
    chroma = np.eye(3) - grey
    matrix = grey + transformation.saturation * chroma @ _turn_around_grey(transformation.hue_degrees)
    red, green, blue = _rounded(transformation.brightness * matrix, _COLOUR_BITS).tolist()
    # Not by cv2.transform, which rounds the coefficients further, by up to a quarter of a level in the result.
    return np.asarray(Image.fromarray(rgb).convert("RGB", (*red, 0.0, *green, 0.0, *blue, 0.0)))


def _rounded(coefficients: npt.NDArray[np.float64], fraction_bits: int) -> npt.NDArray[np.float64]:
    return np.rint(coefficients * (1 << fraction_bits)) / (1 << fraction_bits)


def _turn_around_grey(degrees: float) -> npt.NDArray[np.float64]:
    """Return the rotation around the axis (1, 1, 1) by Rodrigues' formula."""
    angle = math.radians(degrees)
    axis = np.full(3, 1 / math.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn: npt.NDArray[np.float64] = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return turn
