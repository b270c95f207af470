"""Colours of HEIF and AVIF photos that carry no ICC profile, but code points for their colours (ITU-T H.273)."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import ImageCms

_BOX = b"colrnclx"  # ISO/IEC 14496-12, 12.1.5: type of the box, and of the colours in it
_BOX_BYTES = 19
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics, as H.273 numbers them

# Columns red, green, blue of the primaries' XYZ adapted to D50, as ICC profiles hold them.
# https://registry.color.org/rgb-registry/displayp3 and https://registry.color.org/rgb-registry/bt2020
_PRIMARIES = {
    12: np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]),
    9: np.array([[0.67349, 0.16566, 0.12505], [0.27904, 0.67534, 0.04561], [-0.00193, 0.02998, 0.79686]]),
}
_COLUMNS = (b"rXYZ", b"gXYZ", b"bXYZ")


@dataclass(frozen=True)
class CodePoints:
    """What the first `nclx` box of a file says.

    Attributes:
        primaries: 1 is BT.709 (that of sRGB), 9 BT.2020, 12 Display P3.
        transfer: 13 is sRGB, 16 PQ, 18 HLG.
    """

    primaries: int
    transfer: int

    @property
    def hdr(self) -> str:
        """Return the name of the HDR curve, or nothing."""
        return _HDR.get(self.transfer, "")

    def profile(self) -> bytes | None:
        """Return an ICC profile with these primaries and sRGB's curve; None if sRGB is near enough."""
        return _profile(self.primaries) if self.primaries in _PRIMARIES else None


def code_points_of(content: bytes) -> CodePoints | None:
    """Read the colours of a HEIF or AVIF file; None if it tells none."""
    at = content.find(_BOX)
    while at >= 4:
        if int.from_bytes(content[at - 4 : at], "big") == _BOX_BYTES:
            numbers = content[at + len(_BOX) :]
            return CodePoints(int.from_bytes(numbers[:2], "big"), int.from_bytes(numbers[2:4], "big"))
        at = content.find(_BOX, at + 1)
    return None


@cache
def _profile(primaries: int) -> bytes:
    """Return littleCMS's profile of sRGB with other primaries, which stand in its table of tags (ICC.1:2022, 7.3)."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(int.from_bytes(content[128:132], "big")):
        tag, offset, size = (bytes(content[132 + 12 * number + 4 * i :][:4]) for i in range(3))
        start = int.from_bytes(offset, "big")
        if tag in _COLUMNS:
            column = _PRIMARIES[primaries][:, _COLUMNS.index(tag)]
            fixed = [round(value * 65536).to_bytes(4, "big", signed=True) for value in column]  # s15Fixed16Number
            content[start + 8 : start + 20] = b"".join(fixed)
        if tag == b"desc":  # it is no sRGB any more
            text = bytes(content[start : start + int.from_bytes(size, "big")])
            content[start : start + len(text)] = text.replace("sRGB".encode("utf-16-be"), "nclx".encode("utf-16-be"))
    return bytes(content)
