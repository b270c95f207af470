"""Encoded pictures to RGB arrays and back. The only importer of Pillow's decoders and encoders."""

import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import InputError
from pipeline.files.faults import fault_of
from pipeline.files.suffixes import PHOTO_SUFFIXES

# Transparent places become white: screenshots and cut-out product pictures, where alpha comes from, are made to lie on
# a white page. (Cameras write no alpha.)
_BACKGROUND = (255, 255, 255)

_PHOTO_EXPECTED = f"a complete picture ({' '.join(PHOTO_SUFFIXES)})"

Rgb = npt.NDArray[np.uint8]


def encode_jpeg(rgb: Rgb, *, quality: int) -> bytes:
    """Encode a picture as JPEG; equal pixels give equal bytes.

    Args:
        rgb: uint8 [height, width, 3], 0..255.
        quality: libjpeg's scale, 1..100. From 90 on chroma keeps its full resolution (4:4:4): halving it would cost
            more there than the quantization does. Below, it is halved both ways (4:2:0), as phones do.
    """
    content = io.BytesIO()
    Image.fromarray(rgb, "RGB").save(content, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
    return content.getvalue()


def decode_jpeg(content: bytes) -> Rgb:
    """Decode what `encode_jpeg` made.

    Returns:
        uint8 [height, width, 3], 0..255, not to be written to.
    """
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
        return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))  # each copy takes a tenth


def encode_png(rgb: Rgb) -> bytes:
    """Encode a picture without loss, for those who must read back the very same pixels; equal pixels give equal bytes.

    Args:
        rgb: uint8 [height, width, 3], 0..255.
    """
    content = io.BytesIO()
    Image.fromarray(rgb, "RGB").save(content, "PNG")
    return content.getvalue()


def read_photo(path: Path, *, width_pixels: int) -> Rgb:
    """Read a photo upright.

    The EXIF orientation is applied; grey, palette, CMYK and 16-bit pictures become RGB, transparent places white; an
    ICC profile is ignored, as phones ignore it when they classify. Only the first picture of an animation is read.

    Args:
        path: A picture in one of the formats of `PHOTO_SUFFIXES`, recognized by its content.
        width_pixels: Width of the upright picture; the aspect ratio is kept, nothing is enlarged.

    Returns:
        uint8 [height, width, 3], 0..255.

    Raises:
        InputError: If the file is empty, unreadable, cut off, no picture, or unreasonably large, or if it is no file.
    """
    if fault := fault_of(path):  # a named pipe would be waited for
        raise fault
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # phones do take 108-megapixel photos
            picture = _upright_rgb(content)
    except UnidentifiedImageError as error:
        found = f"{path} is empty (0 bytes)" if not content else f"{path} is not a picture in one of these formats"
        raise _unusable(found) from error
    except Image.DecompressionBombError as error:  # beyond twice Pillow's MAX_IMAGE_PIXELS, 179 megapixels
        raise _unusable(f"{path} is too large to be decoded safely: {error}") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # Pillow's PNG reader raises SyntaxError
        reason = getattr(error, "strerror", None) or error
        raise _unusable(f"{path} cannot be read in full: {reason}") from error
    return np.array(_shrink(picture, width_pixels))


def _unusable(found: str) -> InputError:
    """Return the error for a photo that cannot be used."""
    return InputError(found=found, expected=_PHOTO_EXPECTED, remedy="copy or export it again, or remove it")


def _upright_rgb(content: bytes) -> Image.Image:
    """Decode a picture to RGB and turn it upright."""
    with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "BMP")) as picture:
        picture.load()
        return _to_rgb(ImageOps.exif_transpose(picture))


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
