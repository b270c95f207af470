from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from pipeline.config.augment import AugmentConfig
from pipeline.errors import PipelineError
from pipeline.files import layout, sha256_of_bytes, write_bytes
from pipeline.images.augmentation import Transformation, apply, draw, generator_of
from pipeline.images.codec import decode_jpeg, encode_jpeg
from pipeline.per_take.augment import augment_image, augment_take
from pipeline.takes.splits import Block, Take
from pipeline.takes.tables import FRAMES, to_parquet

NOTHING = AugmentConfig(
    copies=2,
    flip_left_right=False,
    random_crop=0,
    random_scale=0,
    random_brightness=0,
    rotation_degrees=0,
    hue_degrees=0,
    random_saturation=0,
    blur_pixels=0,
    min_jpeg_quality=95,
    max_jpeg_quality=95,
)
ALL = replace(
    NOTHING,
    flip_left_right=True,
    random_crop=20,
    random_scale=20,
    random_brightness=30,
    rotation_degrees=15,
    hue_degrees=20,
    random_saturation=40,
    blur_pixels=2,
    min_jpeg_quality=50,
)
STILL = Transformation(
    flip=False,
    window_fraction=1,
    window_left=0.5,
    window_top=0.5,
    rotation_degrees=0,
    brightness=1,
    hue_degrees=0,
    saturation=1,
    blur_pixels=0,
    jpeg_quality=95,
)


def picture() -> np.ndarray:
    """Four quadrants: red, green, blue and grey, 60 x 80."""
    rgb = np.full((60, 80, 3), 90, np.uint8)
    rgb[:30, :40], rgb[:30, 40:], rgb[30:, :40] = (200, 20, 20), (20, 200, 20), (20, 20, 200)
    return rgb


def test_equal_names_give_equal_bytes_and_other_names_others() -> None:
    image = encode_jpeg(picture(), quality=95)
    first, second = augment_image(image, "take-000001", replace(ALL, copies=2))
    assert augment_image(image, "take-000001", replace(ALL, copies=1)) == [first]
    assert second != first
    assert augment_image(image, "take-000002", replace(ALL, copies=2))[0] != first


def test_a_setting_does_not_shift_the_draws_of_another() -> None:
    one, other = (
        draw(config, generator_of("take-0", 1)) for config in (ALL, replace(ALL, blur_pixels=0, random_crop=0))
    )
    assert replace(one, blur_pixels=0, window_fraction=0) == replace(other, blur_pixels=0, window_fraction=0)


def test_draws_stay_in_their_ranges_and_reach_their_ends() -> None:
    drawn = [draw(ALL, generator_of("take-0", copy)) for copy in range(500)]
    for name, low, high in [
        ("window_fraction", 1 / (1.2 * 1.2), 1 / 1.2),
        ("rotation_degrees", -15, 15),
        ("brightness", 0.7, 1.3),
        ("hue_degrees", -20, 20),
        ("saturation", 0.6, 1.4),
        ("blur_pixels", 0, 2),
        ("jpeg_quality", 50, 95),
    ]:
        values = [getattr(transformation, name) for transformation in drawn]
        margin = 0.05 * (high - low)
        assert low <= min(values) <= low + margin, name
        assert high - margin <= max(values) <= high, name
    assert 200 < sum(transformation.flip for transformation in drawn) < 300


def test_nothing_allowed_changes_nothing() -> None:
    assert np.array_equal(apply(draw(NOTHING, generator_of("take-0", 1)), picture()), picture())


def test_flip() -> None:
    assert np.array_equal(apply(replace(STILL, flip=True), picture()), picture()[:, ::-1])


def test_a_half_turn() -> None:
    turned = apply(replace(STILL, rotation_degrees=180), picture())
    assert np.abs(turned.astype(int) - picture()[::-1, ::-1]).max() <= 1


def test_a_quarter_turn_is_counter_clockwise() -> None:
    square = picture()[:, 10:70]
    turned = apply(replace(STILL, rotation_degrees=90), square)
    assert np.abs(turned.astype(int) - np.rot90(square)).max() <= 1


def test_a_window_is_cut_where_the_draw_says() -> None:
    corner = apply(replace(STILL, window_fraction=0.5, window_left=0, window_top=0), picture())
    assert corner.shape == (30, 40, 3)
    assert (corner == (200, 20, 20)).all()
    opposite = apply(replace(STILL, window_fraction=0.5, window_left=1, window_top=1), picture())
    assert (opposite == 90).all()


def test_between_pixels_is_bilinear_and_beyond_the_edge_mirrored() -> None:
    """Against SciPy, which computes in float64 and with the matrix as it was drawn."""
    rows, columns = np.mgrid[0:120, 0:160]
    waves = 127 + 60 * np.sin(columns / 9) + 60 * np.cos(rows / 7)
    angle, window = 10, 0.9
    found = apply(
        replace(STILL, rotation_degrees=angle, window_fraction=window, window_left=1, window_top=0.25),
        np.repeat(waves[..., None], 3, axis=2).round().astype(np.uint8),
    )
    assert found.shape == (108, 144, 3)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    y, x = np.mgrid[0:108, 0:144] + 0.5 - np.array([54, 72])[:, None, None]
    source_x, source_y = cosine * x - sine * y + 72 + 16, sine * x + cosine * y + 54 + 3
    assert source_x.max() > 160, "no corner lies outside"
    expected = map_coordinates(waves, [source_y - 0.5, source_x - 0.5], order=1, mode="reflect")
    difference = np.abs(found[..., 0] - expected)
    assert difference.mean() < 1
    assert difference.max() < 6  # coefficients are rounded to 1/256: up to half a pixel at the edge


def test_blur_is_gaussian() -> None:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (60, 80, 3), np.uint8)
    for blur in (0.5, 1.5):
        expected = gaussian_filter(noise.astype(float), (blur, blur, 0), mode="nearest")
        assert np.abs(apply(replace(STILL, blur_pixels=blur), noise) - expected).max() < 2


def test_processors_agree() -> None:
    """OpenCV's plain code and its code for this processor give the same bytes; without rounding, some pixels differ."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (360, 640, 3), np.uint8)
    drawn = [draw(ALL, generator_of("take-0", copy)) for copy in range(40)]
    found = [apply(transformation, noise) for transformation in drawn]
    assert cv2.useOptimized()
    try:
        cv2.setUseOptimized(False)
        for transformation, expected in zip(drawn, found, strict=True):
            assert np.array_equal(apply(transformation, noise), expected)
    finally:
        cv2.setUseOptimized(True)


def test_brightness_multiplies_and_clips() -> None:
    assert (apply(replace(STILL, brightness=1.2), np.full((4, 4, 3), 100, np.uint8)) == 120).all()
    assert (apply(replace(STILL, brightness=1.2), np.full((4, 4, 3), 250, np.uint8)) == 255).all()


def test_hue_and_saturation_leave_grey_alone_and_keep_the_luma() -> None:
    changed = apply(replace(STILL, hue_degrees=30, saturation=0.5), picture())
    assert (changed[45, 60] == 90).all()
    luma = np.array([0.299, 0.587, 0.114])
    assert changed[10, 10] @ luma == pytest.approx(picture()[10, 10] @ luma, abs=1)
    grey = apply(replace(STILL, saturation=0), picture())
    assert np.ptp(grey.astype(int), axis=2).max() == 0


def test_colours_are_multiplied_by_the_matrix_of_brightness_saturation_and_hue() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    axis = np.full(3, 3**-0.5)
    for brightness, saturation, hue in ((1.2, 1, 0), (1, 0.5, 0), (1, 1, 20), (0.8, 1.3, -15)):
        cosine, sine = np.cos(np.radians(hue)), np.sin(np.radians(hue))
        turned = cosine * noise + sine * np.cross(axis, noise) + (1 - cosine) * (noise @ axis)[..., None] * axis
        luma = np.array([0.299, 0.587, 0.114])
        chroma = turned - (turned @ luma)[..., None]
        expected = np.clip(brightness * ((noise @ luma)[..., None] + saturation * chroma), 0, 255)
        found = apply(replace(STILL, brightness=brightness, saturation=saturation, hue_degrees=hue), noise)
        assert np.abs(found - expected).max() <= 0.6


def test_frames_in_a_gap_between_blocks_are_not_copied(folder: Path) -> None:
    images = [encode_jpeg(picture(), quality=95)] * 10
    frames = pa.table([[f"take-{i}" for i in range(10)], [i / 4 for i in range(10)], images], schema=FRAMES)
    spans = [("train", 0.0, 0.5), ("validation", 0.6, 0.8), ("test", 0.8, 1.0)]
    take = Take("cup", "1", Path("1"), "", tuple(Block("cup", "1", "1", "", *span) for span in spans))
    write_bytes(layout.FRAMES / take.table, to_parquet(frames))
    sha256 = sha256_of_bytes(to_parquet(frames))
    augmented = augment_take(take, sha256, ALL).read_all()
    assert augmented["frame_id"].to_pylist() == [f"take-{i}" for i in (0, 1, 2, 3, 4, 6, 7, 8, 9) for _ in range(2)]
    assert augmented["copy"].to_pylist() == [1, 2] * 9
    assert decode_jpeg(augmented["image"][0].as_py()).shape[2] == 3
    assert augment_take(take, sha256, replace(ALL, copies=0)).read_all().num_rows == 0


@pytest.mark.parametrize(
    ("key", "value"), [("copies", -1), ("random_brightness", 101), ("rotation_degrees", 181), ("min_jpeg_quality", 96)]
)
def test_values_out_of_range(key: str, value: Any) -> None:
    with pytest.raises(PipelineError, match=f"augment.{key}: {value}\n  expected: a number"):
        replace(NOTHING, **{key: value})
