"""The camera's own picture: luma, and colour at half the size, in full-range BT.601, as phones give it.

Android's YUV_420_888 and iOS's 420YpCbCr8BiPlanarFullRange hold these numbers, each in a layout of its own; here it is
I420, one plane after the other. All is done in integers, so that code in any language gives the same bytes. Source of
the factors: ITU-R BT.601-7, section 2.5, and JFIF 1.02 for the full range; times 2^16, rounded.
"""

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]

_BITS = 16
_HALF = 1 << (_BITS - 1)
_RED_OF_V, _GREEN_OF_U, _GREEN_OF_V, _BLUE_OF_U = 91881, 22554, 46802, 116130
_LUMA = np.array([19595, 38470, 7471])
_U, _V = np.array([-11058, -21710, 32768]), np.array([32768, -27439, -5329])
_MIDDLE = 128


def i420_of(rgb: Rgb) -> bytes:
    """Return a picture as I420: Y, then U, then V, row by row; U and V are means of four pixels.

    Args:
        rgb: uint8 [height, width, 3], 0..255, with an even height and width.
    """
    height, width = rgb.shape[:2]
    pixels = rgb.astype(np.int64)
    fours = pixels.reshape(height // 2, 2, width // 2, 2, 3).sum((1, 3))
    means = (fours + 2) >> 2
    luma = (pixels @ _LUMA + _HALF) >> _BITS
    colours = [((means @ factors + _HALF) >> _BITS) + _MIDDLE for factors in (_U, _V)]
    return b"".join(np.clip(plane, 0, 255).astype(np.uint8).tobytes() for plane in (luma, *colours))


def rgb_of_i420(content: bytes, height: int, width: int) -> Rgb:
    """Return the picture, uint8 [height, width, 3], 0..255, of I420; each colour goes for its four pixels.

    Args:
        content: 1.5 bytes a pixel.
        height: In pixels, even.
        width: In pixels, even.
    """
    planes = np.frombuffer(content, np.uint8).astype(np.int64)
    size = height * width
    luma = planes[:size].reshape(height, width) << _BITS
    u, v = (
        (planes[begin : begin + size // 4].reshape(height // 2, width // 2) - _MIDDLE).repeat(2, 0).repeat(2, 1)
        for begin in (size, size + size // 4)
    )
    channels = (luma + _RED_OF_V * v, luma - _GREEN_OF_U * u - _GREEN_OF_V * v, luma + _BLUE_OF_U * u)
    rgb: Rgb = np.stack([np.clip((one + _HALF) >> _BITS, 0, 255) for one in channels], -1).astype(np.uint8)
    return rgb
