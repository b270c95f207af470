import io
import os

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.files.suffixes import PHOTO_SUFFIXES
from pipeline.images.codec import decode_jpeg, encode_jpeg, read_photo
from tests.clips import BLUE, GREEN, RED, YELLOW, quadrants, smooth, solid

ORIENTATION_TAG = 0x0112


def save(path, picture, **options):
    picture.save(path, **options)
    return path


def error_of(path):
    with pytest.raises(PipelineError) as caught:
        read_photo(path, width_pixels=64)
    return str(caught.value)


def close(rgb, expected, tolerance=3):
    return np.abs(rgb.astype(int) - np.asarray(expected)).max() <= tolerance


def corners(rgb):
    """Name the colour near each corner: top left, top right, bottom left, bottom right."""
    names = {"red": RED, "green": GREEN, "blue": BLUE, "yellow": YELLOW}
    pixels = [rgb[y, x].astype(int) for y in (4, -4) for x in (4, -4)]
    return [min(names, key=lambda name: np.abs(names[name] - pixel).max()) for pixel in pixels]


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


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, "red green blue yellow"),
        (2, "green red yellow blue"),
        (3, "yellow blue green red"),
        (4, "blue yellow red green"),
        (5, "red blue green yellow"),
        (6, "blue red yellow green"),
        (7, "yellow green blue red"),
        (8, "green yellow red blue"),
    ],
)
def test_exif_orientation(tmp_path, orientation, expected):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    rgb = read_photo(save(tmp_path / "a.jpg", Image.fromarray(quadrants()), exif=exif), width_pixels=640)
    assert rgb.shape == ((48, 64, 3) if orientation < 5 else (64, 48, 3))
    assert corners(rgb) == expected.split()


@pytest.mark.parametrize("suffix", PHOTO_SUFFIXES)
def test_every_suffix(tmp_path, suffix):
    rgb = read_photo(save(tmp_path / f"a{suffix}", Image.fromarray(solid(RED)), quality=95), width_pixels=64)
    assert close(rgb, RED, 5)


def test_content_decides_not_the_suffix(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(solid(RED)), format="PNG")
    assert close(read_photo(path, width_pixels=64), RED, 0)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", ".png"), ("LA", ".png"), ("1", ".png"), ("P", ".png"), ("RGBA", ".webp"), ("CMYK", ".jpg")],
)
def test_modes_become_rgb(tmp_path, mode, suffix):
    picture = Image.fromarray(solid((255, 255, 255))).convert(mode)
    rgb = read_photo(save(tmp_path / f"a{suffix}", picture), width_pixels=64)
    assert rgb.shape == (48, 64, 3)
    assert close(rgb, (255, 255, 255))


@pytest.mark.parametrize("grey", [0, 100, 255])
def test_16_bit_grey_is_scaled(tmp_path, grey):
    picture = Image.fromarray(np.full((48, 64), grey * 257, np.uint16))
    assert close(read_photo(save(tmp_path / "a.png", picture), width_pixels=64), (grey, grey, grey), 0)


def test_transparent_places_become_white(tmp_path):
    pixels = np.dstack([solid(RED), np.full((48, 64), 255, np.uint8)])
    pixels[:, 32:, 3] = 0
    rgb = read_photo(save(tmp_path / "a.png", Image.fromarray(pixels)), width_pixels=64)
    assert tuple(rgb[0, 0]) == RED
    assert tuple(rgb[0, 63]) == (255, 255, 255)


def test_transparent_colour_of_a_palette_becomes_white(tmp_path):
    picture = Image.fromarray(np.zeros((48, 64), np.uint8), "P")
    picture.putpalette(RED)
    rgb = read_photo(save(tmp_path / "a.png", picture, transparency=0), width_pixels=64)
    assert close(rgb, (255, 255, 255), 0)


@pytest.mark.parametrize(
    ("width_pixels", "shape"), [(32, (24, 32, 3)), (30, (23, 30, 3)), (1, (1, 1, 3)), (640, (48, 64, 3))]
)
def test_width_is_never_enlarged(tmp_path, width_pixels, shape):
    path = save(tmp_path / "a.png", Image.fromarray(smooth(0)))
    assert read_photo(path, width_pixels=width_pixels).shape == shape


def test_width_is_that_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    path = save(tmp_path / "a.jpg", Image.fromarray(quadrants()), exif=exif)
    assert read_photo(path, width_pixels=24).shape == (32, 24, 3)


def test_shrinking_averages(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    rgb = read_photo(save(tmp_path / "a.png", Image.fromarray(stripes)), width_pixels=16)
    assert close(rgb[:, 4:12], (128, 128, 128), 8)


def test_photo_is_writable(tmp_path):
    assert read_photo(save(tmp_path / "a.png", Image.fromarray(smooth(0))), width_pixels=64).flags.writeable


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("nowhere")
    (tmp_path / "folder.jpg").mkdir()
    assert "pipe.jpg is a named pipe" in error_of(tmp_path / "pipe.jpg")
    assert "link.jpg is a link to nowhere, which is not there" in error_of(tmp_path / "link.jpg")
    assert "folder.jpg cannot be read in full: Is a directory" in error_of(tmp_path / "folder.jpg")


def test_missing_photo(tmp_path):
    assert "gone.jpg cannot be read in full: No such file" in error_of(tmp_path / "gone.jpg")


def test_empty_photo(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()
    message = error_of(path)
    assert "a.jpg is empty (0 bytes)" in message
    assert "expected: a complete picture (.jpg .jpeg .png .webp .bmp)" in message
    assert "to mend:  copy or export it again, or remove it" in message


def test_text_is_no_photo(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("no picture")
    assert "a.png is not a picture in one of these formats" in error_of(path)


def test_other_formats_are_refused(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(smooth(0)), format="TIFF")
    assert "a.jpg is not a picture in one of these formats" in error_of(path)


@pytest.mark.parametrize("suffix", PHOTO_SUFFIXES)
def test_cut_photo(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", Image.fromarray(smooth(0, 256, 192)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"a{suffix} cannot be read in full: " in error_of(path)


def test_damaged_png(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(smooth(0, 256, 192)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "a.png cannot be read in full" in error_of(path)


def test_decompression_bomb(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.fromarray(solid(RED, 64, 48)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 // 2 - 1)
    assert "a.png is too large to be decoded safely: Image size (3072 pixels) exceeds limit" in error_of(path)


def test_large_photos_of_phones_pass(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.fromarray(solid(RED, 64, 48)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 // 2)
    assert read_photo(path, width_pixels=64).shape == (48, 64, 3)
