"""Reads photos as a phone shows them: upright, in sRGB, whole or not at all. The only importer of Pillow's decoders."""

import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from pillow_heif import register_heif_opener

from pipeline.errors import InputError
from pipeline.files.faults import fault_of
from pipeline.files.suffixes import PHOTO_SUFFIXES
from pipeline.images.jpeg_damage import damage_of
from pipeline.images.nclx import code_points_of

# Decoded pixels that are held at once, at most: twice what Pillow calls a possible bomb. A JPEG beyond it is decoded at
# a half, a quarter or an eighth of its size, which libjpeg does without decoding the whole; the best phones take 200
# million.
MAX_PIXELS = 2 * 89_478_485

# Transparent places become white: screenshots and cut-out product pictures, where alpha comes from, are made to lie on
# a white page. (Cameras write no alpha.)
_BACKGROUND = (255, 255, 255)

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "HEIF", "AVIF")
_PHOTO_EXPECTED = f"a complete picture ({' '.join(PHOTO_SUFFIXES)})"
_SRGB = ImageCms.createProfile("sRGB")

Rgb = npt.NDArray[np.uint8]

register_heif_opener()


def read_photo(path: Path, *, width_pixels: int) -> Rgb:
    """Read a photo upright and in sRGB.

    The orientation is applied, whether EXIF or the container says it; grey, palette, CMYK and 16-bit pictures become
    RGB, transparent places white. Colours of an ICC profile, such as the Display P3 of iPhones, become sRGB's: so do
    Android's ImageDecoder and iOS when they draw a photo into the bitmap that a model is fed from, and a camera's
    preview is in sRGB anyway. So do colours that HEIF and AVIF tell by code points (nclx) alone. A profile that cannot
    be applied is left alone, as browsers do. Of a file with several
    pictures (animations, gain maps, depth, bursts) the primary one is read.

    Args:
        path: A picture in one of the formats of `PHOTO_SUFFIXES`, recognized by its content.
        width_pixels: Width of the upright picture; the aspect ratio is kept, nothing is enlarged.

    Returns:
        uint8 [height, width, 3], 0..255.

    Raises:
        InputError: If the file is empty, unreadable, cut off, damaged, no picture, unreasonably large, in HDR without
            an SDR base, or if it is no file.
    """
    if fault := fault_of(path):  # a named pipe would be waited for
        raise fault
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd and yet read; what is not read is an error
            return np.array(_decoded(path, content, width_pixels))
    except UnidentifiedImageError as error:
        found = f"{path} is empty (0 bytes)" if not content else f"{path} is not a picture in one of these formats"
        raise _unusable(found) from error
    # Pillow's PNG reader raises SyntaxError, libheif's RuntimeError.
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _unusable(f"{path} cannot be read in full: {reason}") from error


def _unusable(found: str) -> InputError:
    """Return the error for a photo that cannot be used."""
    return InputError(found=found, expected=_PHOTO_EXPECTED, remedy="copy or export it again, or remove it")


def _decoded(path: Path, content: bytes, width_pixels: int) -> Image.Image:
    """Decode a picture to upright sRGB of a width."""
    with _opened(content) as picture:
        if picture.format == "JPEG" and (damage := damage_of(content)):
            raise _unusable(f"{path} is damaged: {damage}")
        if picture.width * picture.height > MAX_PIXELS:
            _scale_while_decoding(picture)
        if picture.width * picture.height > MAX_PIXELS:
            megapixels = picture.width * picture.height / 1e6
            raise _unusable(f"{path} is too large to be decoded safely: {megapixels:,.0f} million pixels")
        profile = picture.info.get("icc_profile") or _profile_of_container(path, content, picture)
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        if upright.mode == "CMYK" and profile:
            return _shrink(_to_srgb(upright, profile).convert("RGB"), width_pixels)
        return _to_srgb(_shrink(_to_rgb(upright), width_pixels), profile)


def _profile_of_container(path: Path, content: bytes, picture: Image.Image) -> bytes | None:
    """Return a profile for the colours that a HEIF or AVIF file tells by code points; refuse HDR, which needs more."""
    code_points = code_points_of(content) if picture.format in ("HEIF", "AVIF") else None
    if code_points and code_points.hdr:
        raise InputError(
            found=f"{path} is an HDR photo ({code_points.hdr})",
            expected="an SDR picture, or one with a gain map, as phones take them: its base is SDR",
            remedy="export it as JPEG, or remove it",
        )
    return code_points.profile() if code_points else None


def _opened(content: bytes) -> Image.Image:
    """Open a picture of any size. Pillow's own limit is one for the whole process, and knows no scaled decoding."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _scale_while_decoding(picture: Image.Image) -> None:
    """Have a JPEG decoded at the largest of a half, a quarter and an eighth of its size that is small enough."""
    width, height = picture.size
    for divisor in (2, 4, 8):
        if width * height / divisor**2 <= MAX_PIXELS:
            picture.draft("RGB", (width // divisor, height // divisor))
            return


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert colours from an ICC profile to sRGB, with the relative colorimetric intent (ICC.1:2022)."""
    if not profile:
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return picture
        if source.profile.xcolor_space.strip() == "GRAY":
            picture = picture.convert("L")
        converted = ImageCms.profileToProfile(
            picture, source, _SRGB, ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture.convert("RGB")
    return picture if converted is None else converted


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Convert any mode to RGB."""
    if picture.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling
        return Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        background = Image.new("RGBA", layer.size, (*_BACKGROUND, 255))
        return Image.alpha_composite(background, layer).convert("RGB")
    return picture.convert("RGB")


def _shrink(picture: Image.Image, width_pixels: int) -> Image.Image:
    """Shrink a picture to a width with Lanczos, which averages over all source pixels; leave a narrower one alone."""
    if picture.width <= width_pixels:
        return picture
    height = max(1, (2 * picture.height * width_pixels + picture.width) // (2 * picture.width))  # rounds half up
    return picture.resize((width_pixels, height), Image.Resampling.LANCZOS)
