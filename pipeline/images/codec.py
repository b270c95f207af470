"""JPEG and PNG files of our own: RGB arrays to bytes and back."""

import io

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

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
        uint8 [height, width, 3], 0..255; Pillow's pixels, in less time.
    """
    decoded: Rgb = simplejpeg.decode_jpeg(content)
    return decoded


def encode_png(rgb: Rgb) -> bytes:
    """Encode a picture without loss, for those who must read back the very same pixels; equal pixels give equal bytes.

    Args:
        rgb: uint8 [height, width, 3], 0..255.
    """
    content = io.BytesIO()
    Image.fromarray(rgb, "RGB").save(content, "PNG")
    return content.getvalue()
