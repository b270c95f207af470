"""Turns high dynamic range and wide gamut into the BT.709 picture that a phone's preview shows.

Light is counted in units of 203 cd/m2, which ITU-R BT.2408-7 (table 1) calls HDR reference white: it becomes the white
of the SDR picture, all below keeps its light, all above is cut off, and so is what lies outside BT.709's gamut. So an
SDR picture that was put into HLG or PQ at reference white comes back as it was. Of a clip filmed in HLG, the frame
extractor of Android's media3 gives the same within 5 grey levels in the mean.

Curves are tables, and sums are written out: the bytes must not depend on which instructions a processor has.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

_REFERENCE_WHITE = 203.0  # cd/m2
_HLG_PEAK = 1000.0  # cd/m2 of the display that ITU-R BT.2100-2, table 5, takes for HLG; its system gamma is 1.2 then
_HLG_GAMMA = 1.2
_PQ_PEAK = 10000.0  # cd/m2, BT.2100-2, table 4
_SDR_GAMMA = 2.4  # of an SDR display, ITU-R BT.1886

# FFmpeg's numbers (libavutil/pixfmt.h) of what a frame says about its colours; 2 says nothing.
BT709_PRIMARIES, UNSPECIFIED, BT2020_PRIMARIES, DISPLAY_P3_PRIMARIES = 1, 2, 9, 12
PQ, HLG = 16, 18

# Luminance of the primaries, which HLG's system gamma is about. (BT.2020; of others the difference is not seen.)
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
# Matrices to BT.709's primaries: of BT.2020 (ITU-R BT.2087-0, the inverse of its M2), and of P3 with D65 white, which
# screen recordings and some camera apps have (https://www.w3.org/TR/css-color-4/#color-conversion-code).
_TO_709 = {
    BT2020_PRIMARIES: np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
        np.float32,
    ),
    DISPLAY_P3_PRIMARIES: np.array(
        [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]], np.float32
    ),
}

_NUM_CODES = 1 << 16

Light = npt.NDArray[np.float32]


def needs_tone(transfer: int, primaries: int) -> bool:
    """Tell whether frames with these characteristics differ from what an SDR screen of BT.709 expects."""
    return transfer in (PQ, HLG) or primaries in _TO_709


class Tone:
    """Turns RGB of one kind into BT.709. Tables of all 65,536 values stand for the curves."""

    def __init__(self, transfer: int, primaries: int) -> None:
        """Make the tables.

        Args:
            transfer: FFmpeg's number of the transfer characteristic; what is neither PQ nor HLG is taken for SDR.
            primaries: FFmpeg's number of the primaries; PQ and HLG that name none have those of BT.2020. What is
                neither BT.2020 nor P3 is taken for BT.709.
        """
        values = np.arange(_NUM_CODES, dtype=np.float64) / (_NUM_CODES - 1)
        self._system_gain = _HLG_PEAK / _REFERENCE_WHITE * values ** (_HLG_GAMMA - 1) if transfer == HLG else None
        is_unnamed = transfer in (PQ, HLG) and primaries in (0, UNSPECIFIED)
        self._to_709 = _TO_709.get(BT2020_PRIMARIES if is_unnamed else primaries)
        self._light = _CURVES.get(transfer, _light_of_sdr)(values).astype(np.float32)
        self._encoded = (255 * values ** (1 / _SDR_GAMMA) + 0.5).astype(np.uint8)

    def __call__(self, planes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
        """Convert a picture.

        Args:
            planes: uint16 [3, height, width]: red, green, blue, 0..65535 for 0..1 of the signal.

        Returns:
            uint8 [3, height, width], 0..255.
        """
        light = self._light[planes]
        if self._system_gain is not None:
            light = light * self._system_gain.astype(np.float32)[_codes(_weighted(_LUMA_2020, light))]
        if self._to_709 is not None:
            light = np.stack([_weighted(row, light) for row in self._to_709])
        return self._encoded[_codes(light)]


def _weighted(weights: Light, planes: Light) -> Light:
    """Return the weighted sum of three planes, float32 [height, width]."""
    found: Light = weights[0] * planes[0] + weights[1] * planes[1] + weights[2] * planes[2]
    return found


def _codes(values: Light) -> npt.NDArray[np.uint16]:
    """Return 0..1 as 0..65535, and what lies outside as the nearer end."""
    return (np.clip(values, 0, 1) * np.float32(_NUM_CODES - 1) + np.float32(0.5)).astype(np.uint16)


def _light_of_hlg(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the light of the scene, 0..1, of an HLG signal, 0..1 (BT.2100-2, table 5, inverse OETF)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _light_of_pq(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the light of the display, in reference whites, of a PQ signal, 0..1 (BT.2100-2, table 4, EOTF)."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = signal ** (1 / m2)
    return _PQ_PEAK / _REFERENCE_WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _light_of_sdr(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the light of the display, 0..1, of an SDR signal, 0..1 (BT.1886)."""
    return signal**_SDR_GAMMA


_CURVES: dict[int, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    HLG: _light_of_hlg,
    PQ: _light_of_pq,
}
