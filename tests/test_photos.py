import io
import os
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from pipeline.errors import InputError, PipelineError
from pipeline.files.suffixes import PHOTO_SUFFIXES
from pipeline.images.jpeg_damage import damage_of
from pipeline.images.photos import read_photo
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
    assert "expected: a complete picture (.jpg .jpeg .heic .heif .avif .png .webp .bmp)" in message
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
    reasons = ("cannot be read in full: ", "is damaged: ", "is not a picture in one of these formats")
    assert any(f"a{suffix} {reason}" in error_of(path) for reason in reasons)


def test_damaged_png(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(smooth(0, 256, 192)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "a.png cannot be read in full" in error_of(path)


def test_decompression_bomb(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.fromarray(solid(RED, 64, 48)))
    monkeypatch.setattr("pipeline.images.photos.MAX_PIXELS", 64 * 48 - 1)
    assert "a.png is too large to be decoded safely: 0 million pixels" in error_of(path)
    monkeypatch.setattr("pipeline.images.photos.MAX_PIXELS", 64 * 48)
    assert read_photo(path, width_pixels=64).shape == (48, 64, 3)


@pytest.mark.parametrize(("limit", "size"), [(64 * 48 // 4, (24, 32)), (64 * 48 // 64, (6, 8))])
def test_a_jpeg_beyond_the_limit_is_scaled_while_it_is_decoded(tmp_path, monkeypatch, limit, size):
    path = save(tmp_path / "a.jpg", Image.fromarray(quadrants()), quality=95)
    monkeypatch.setattr("pipeline.images.photos.MAX_PIXELS", limit)
    rgb = read_photo(path, width_pixels=640)
    assert rgb.shape == (*size, 3)
    assert [tuple(rgb[y, x] > 128) for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1))] == [
        tuple(np.array(colour) > 128) for colour in (RED, GREEN, BLUE, YELLOW)
    ]


@pytest.mark.slow
def test_a_photo_of_200_megapixels_is_read(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("RGB", (16320, 12240), RED))
    assert close(read_photo(path, width_pixels=640), RED)


# XYZ (D50) of the primaries of Display P3 and of sRGB, as their ICC profiles have them; gamma of both is sRGB's.
# https://registry.color.org/rgb-registry/displayp3
P3_TO_XYZ = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB_TO_XYZ = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def p3_in_srgb(rgb):
    """Return what a Display P3 colour is in sRGB, 0..255, what lies outside cut off."""
    encoded = np.array(rgb) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    found = np.clip(np.linalg.solve(SRGB_TO_XYZ, P3_TO_XYZ @ linear), 0, 1)
    return 255 * np.where(found <= 0.0031308, 12.92 * found, 1.055 * found ** (1 / 2.4) - 0.055)


def display_p3():
    """Return an ICC profile of Display P3: littleCMS's sRGB with the primaries' columns exchanged."""
    columns = (b"rXYZ", b"gXYZ", b"bXYZ")
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(int.from_bytes(content[128:132], "big")):
        tag, offset, size = (content[132 + 12 * number + 4 * i :][:4] for i in range(3))
        start = int.from_bytes(offset, "big")
        if bytes(tag) in columns:
            column = columns.index(bytes(tag))
            fixed = [round(value * 65536).to_bytes(4, "big", signed=True) for value in P3_TO_XYZ[:, column]]
            content[start + 8 : start + 20] = b"".join(fixed)
        if bytes(tag) == b"desc":
            text = bytes(content[start : start + int.from_bytes(size, "big")])
            content[start : start + len(text)] = text.replace("sRGB".encode("utf-16-be"), "P3  ".encode("utf-16-be"))
    return bytes(content)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".heic", ".avif"])
@pytest.mark.parametrize("colour", [(200, 60, 40), (120, 130, 90), (60, 100, 150)])
def test_display_p3_becomes_srgb(tmp_path, suffix, colour):
    picture = Image.fromarray(solid(colour))
    rgb = read_photo(save(tmp_path / f"a{suffix}", picture, quality=100, icc_profile=display_p3()), width_pixels=64)
    expected = p3_in_srgb(colour)
    assert np.abs(expected - colour).max() > 3
    assert close(rgb, expected, 3)


def with_code_points(path, primaries, transfer):
    """Change what a HEIF or AVIF file says of its colours."""
    content = bytearray(path.read_bytes())
    at = content.index(b"colrnclx") + 8
    content[at : at + 4] = primaries.to_bytes(2, "big") + transfer.to_bytes(2, "big")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
@pytest.mark.parametrize("colour", [(200, 60, 40), (120, 130, 90), (60, 100, 150)])
def test_display_p3_that_only_the_container_tells_becomes_srgb(tmp_path, suffix, colour):
    path = save(tmp_path / f"a{suffix}", Image.fromarray(solid(colour)), quality=100)
    assert close(read_photo(with_code_points(path, 1, 13), width_pixels=64), colour, 3)
    assert close(read_photo(with_code_points(path, 12, 13), width_pixels=64), p3_in_srgb(colour), 3)


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_a_photo_in_hdr_is_refused(tmp_path, suffix, transfer, name):
    path = save(tmp_path / f"a{suffix}", Image.fromarray(solid(RED)), quality=100)
    with pytest.raises(InputError, match=rf"is an HDR photo \({name}\)\n.*\n.*export it as JPEG"):
        read_photo(with_code_points(path, 9, transfer), width_pixels=64)


def test_bt2020_of_sdr_is_wider_than_srgb(tmp_path):
    path = save(tmp_path / "a.avif", Image.fromarray(solid((120, 130, 90))), quality=100)
    _, green, blue = read_photo(with_code_points(path, 9, 1), width_pixels=64)[0, 0].astype(int)
    grey = save(tmp_path / "b.avif", Image.fromarray(solid((128, 128, 128))), quality=100)
    assert close(read_photo(with_code_points(grey, 9, 1), width_pixels=64), (128, 128, 128), 2)
    assert green - blue > 130 - 90


def test_colours_beyond_srgb_are_cut_off(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(solid((255, 0, 0))), icc_profile=display_p3())
    assert close(read_photo(path, width_pixels=64), (255, 0, 0), 0)


@pytest.mark.parametrize("profile", [b"no profile", b""])
def test_a_profile_that_is_none_is_left_alone(tmp_path, profile):
    path = save(tmp_path / "a.png", Image.fromarray(solid(RED)), icc_profile=profile)
    assert close(read_photo(path, width_pixels=64), RED, 0)


def test_a_profile_of_another_kind_of_picture_is_left_alone(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(solid((90, 90, 90))).convert("L"), icc_profile=display_p3())
    assert close(read_photo(path, width_pixels=64), (90, 90, 90), 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_as_jpeg_is(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    paths = [
        save(tmp_path / f"a{suffix}", Image.fromarray(quadrants()), exif=exif, quality=100)
        for suffix in (".jpg", ".avif")
    ]
    found = [read_photo(path, width_pixels=640) for path in paths]
    assert found[0].shape == found[1].shape
    assert corners(found[0]) == corners(found[1])


@pytest.mark.parametrize(
    ("box", "value", "expected"),
    [
        (b"irot", 1, "green yellow red blue"),  # quarter turns against the clock
        (b"irot", 2, "yellow blue green red"),
        (b"irot", 3, "blue red yellow green"),
        (b"imir", 1, "green red yellow blue"),
    ],
)
def test_heic_is_turned_once_as_its_container_says(tmp_path, box, value, expected):
    """Phones write EXIF's orientation beside it, which readers of HEIF leave alone (ISO/IEC 23008-12)."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    path = save(tmp_path / "a.heic", Image.fromarray(quadrants()), exif=exif, quality=100)
    content = path.read_bytes()
    begin = content.index(b"colrnclx") - 4  # 19 bytes, of which the turn takes nine
    turn = (9).to_bytes(4, "big") + box + bytes([value]) + (10).to_bytes(4, "big") + b"free" + bytes(2)
    path.write_bytes(content[:begin] + turn + content[begin + 19 :])
    rgb = read_photo(path, width_pixels=640)
    assert corners(rgb) == expected.split()


def test_the_primary_picture_of_a_heic_with_several_is_read(tmp_path):
    many = pillow_heif.HeifFile()
    for colour in (RED, GREEN, BLUE):
        many.add_from_pillow(Image.fromarray(solid(colour)))
    many.save(tmp_path / "a.heic", primary_index=1, quality=95)
    assert close(read_photo(tmp_path / "a.heic", width_pixels=64), GREEN, 5)


def test_the_base_picture_of_a_gain_map_photo_is_read(tmp_path):
    """As in Ultra HDR and MPO: a second JPEG lies behind the first."""
    base, gain_map = (Image.fromarray(solid(colour)) for colour in (RED, (255, 255, 255)))
    base.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[gain_map], quality=95)
    assert close(read_photo(tmp_path / "a.jpg", width_pixels=64), RED, 5)


def jpeg_of(picture, **options):
    content = io.BytesIO()
    picture.save(content, "JPEG", **options)
    return content.getvalue()


KINDS: dict[str, dict[str, Any]] = {
    "usual": {},
    "progressive": {"progressive": True},
    "own tables": {"optimize": True},
    "restarts": {"restart_marker_rows": 1},
    "whole chroma": {"subsampling": 0},
}


def a_photo():
    """Something with edges and noise, 320 x 240."""
    noise = np.random.default_rng(0).normal(0, 12, (240, 320, 3))
    return Image.fromarray(np.clip(smooth(0, 320, 240) + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_whole_jpegs_pass(mode, kind):
    content = jpeg_of(a_photo().convert(mode), **(KINDS[kind] if mode != "L" or kind != "whole chroma" else {}))
    assert damage_of(content) is None
    assert damage_of(content + b"a video behind the picture" * 99) is None
    assert damage_of(content[:-2] + b"\0" * 8 + content[-2:]) is None  # some cameras pad


def test_flat_pictures_with_tables_of_their_own_pass():
    for colour in ("white", "black"):
        content = jpeg_of(Image.new("RGB", (800, 800), colour), optimize=True)
        assert bytes(64) in content
        assert damage_of(content) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_was_cut_and_closed_again_is_refused(tmp_path, kind):
    content = jpeg_of(a_photo(), **KINDS[kind])
    path = tmp_path / "a.jpg"
    path.write_bytes(content[: len(content) // 2] + b"\xff\xd9")
    assert "a.jpg is damaged: " in error_of(path)


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("num_zeros", [64, 512])
def test_a_jpeg_with_zeros_in_the_middle_is_refused(tmp_path, num_zeros, place):
    content = jpeg_of(a_photo())
    begin = int(place * len(content))
    path = tmp_path / "a.jpg"
    path.write_bytes(content[:begin] + bytes(num_zeros) + content[begin + num_zeros :])
    assert "a.jpg is damaged: " in error_of(path)
