import io

import numpy as np
import pytest
from PIL import Image

from pipeline.images.codec import decode_jpeg, encode_jpeg
from tests.clips import quadrants, smooth


@pytest.mark.parametrize("quality", [75, 90, 100])
def test_jpeg_comes_back(quality):
    rgb = smooth(0, 64, 48)
    decoded = decode_jpeg(encode_jpeg(rgb, quality=quality))
    assert decoded.dtype == np.uint8
    assert decoded.shape == rgb.shape
    assert np.abs(decoded.astype(int) - rgb).mean() < 3


def test_jpeg_is_deterministic():
    assert encode_jpeg(smooth(1), quality=90) == encode_jpeg(smooth(1).copy(), quality=90)


@pytest.mark.parametrize(("quality", "sampling"), [(89, (2, 2)), (90, (1, 1))])
def test_chroma_is_whole_from_quality_90_on(quality, sampling):
    with Image.open(io.BytesIO(encode_jpeg(quadrants(), quality=quality))) as picture:
        assert vars(picture)["layer"][0][1:3] == sampling


def test_jpeg_takes_a_view_that_is_not_contiguous():
    flipped = smooth(0)[:, ::-1]
    assert encode_jpeg(flipped, quality=90) == encode_jpeg(flipped.copy(), quality=90)
