import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.images.model_input import to_model_input


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_definition(rgb: np.ndarray, side: int) -> np.ndarray:
    """Blend pixel by pixel in whole numbers, as the module's text defines it."""
    height, width = rgb.shape[:2]
    out = np.zeros((side, side, 3), np.uint8)
    for y in range(side):
        for x in range(side):
            v, u = round(y * (height / side) * 32), round(x * (width / side) * 32)
            total = np.zeros(3, int)
            for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = (v % 32 if dy else 32 - v % 32) * (u % 32 if dx else 32 - u % 32)
                total += weight * rgb[min(v // 32 + dy, height - 1), min(u // 32 + dx, width - 1)].astype(int)
            out[y, x] = (total + 512) // 1024
    return out


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_stretch_equals_its_definition(height: int, width: int, side: int, seed: int) -> None:
    rgb = noise(height, width, seed)
    assert np.array_equal(to_model_input(rgb, side, "stretch"), by_definition(rgb, side))


def test_a_picture_of_a_few_pixels_enlarged_a_hundred_times() -> None:
    rgb = noise(2, 1)
    assert np.array_equal(to_model_input(rgb, 200, "stretch"), by_definition(rgb, 200))


def test_the_native_size_is_left_alone() -> None:
    rgb = noise(224, 224)
    for resize in ("stretch", "crop", "pad"):
        assert np.array_equal(to_model_input(rgb, 224, resize), rgb)


def test_halving_takes_every_other_pixel() -> None:
    rgb = noise(448, 448)
    assert np.array_equal(to_model_input(rgb, 224, "stretch"), rgb[::2, ::2])  # no anti-aliasing, no half-pixel shift


def test_crop_takes_the_centred_square() -> None:
    rgb = np.zeros((60, 100, 3), np.uint8)
    rgb[:, 20:80] = 200
    assert (to_model_input(rgb, 30, "crop") == 200).all()
    assert not (to_model_input(rgb, 30, "stretch") == 200).all()


def test_pad_centres_the_whole_picture_on_black() -> None:
    rgb = np.full((50, 100, 3), 200, np.uint8)
    padded = to_model_input(rgb, 40, "pad")
    assert (padded[10:30] == 200).all()
    assert (padded[:10] == 0).all()
    assert (padded[30:] == 0).all()


def test_an_unknown_choice() -> None:
    with pytest.raises(PipelineError, match=r"resize: squash\n  expected: one of stretch, crop, pad"):
        to_model_input(noise(4, 4), 4, "squash")
