"""High dynamic range and wide gamut come back as the SDR picture that they were made from."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.video import sample_frames
from pipeline.video.tone import DISPLAY_P3_PRIMARIES, HLG, PQ, UNSPECIFIED, Tone, needs_tone
from tests.clips import Rgb, smooth, solid

BT709, BT2020, SDR = 1, 9, 1
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # ITU-R BT.2087-0


def hlg(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """BT.2100: inverse OOTF of a display of 1,000 cd/m2, then the OETF; light in reference whites of 203 cd/m2."""
    display = light * 203 / 1000
    luma = display @ np.array([0.2627, 0.6780, 0.0593])
    scene = display * np.maximum(luma, 1e-9)[..., None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal: npt.NDArray[np.float64] = np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    )
    return signal


def pq(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """BT.2100: inverse EOTF; light in reference whites of 203 cd/m2."""
    power = (light * 203 / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def sdr(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return light ** (1 / 2.4)


TRANSFERS = {"hlg": (HLG, hlg), "pq": (PQ, pq), "wide sdr": (SDR, sdr)}


def in_2020(picture: Rgb) -> npt.NDArray[np.float64]:
    """Return the light of an SDR picture with BT.2020's primaries, [height, width, 3]."""
    light: npt.NDArray[np.float64] = np.clip((picture / 255) ** 2.4 @ TO_2020.T, 0, None)
    return light


def write(path: Path, signal: npt.NDArray[np.float64], transfer: int) -> Path:
    """Encode one picture, 0..1 of the signal, in 10 bits with BT.2020's primaries, three times."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx265", rate=10, options={"crf": "1", "x265-params": "log-level=none"})
        stream.height, stream.width, stream.pix_fmt = *signal.shape[:2], "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, BT2020, transfer, 1
        for index in range(3):
            codes = np.ascontiguousarray((signal * 65535 + 0.5).astype(np.uint16))
            frame = av.VideoFrame.from_ndarray(codes, "rgb48le").reformat(
                format=stream.pix_fmt, dst_colorspace=9, dst_color_range=1
            )
            frame.pts, frame.time_base = index, Fraction(1, 10)
            frame.color_primaries, frame.color_trc = BT2020, transfer
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("kind", TRANSFERS)
def test_a_clip_gives_the_sdr_picture_that_it_was_made_from(tmp_path: Path, kind: str) -> None:
    transfer, encode = TRANSFERS[kind]
    picture = smooth(3, width=128, height=96)
    path = write(tmp_path / "a.mp4", encode(in_2020(picture)), transfer)
    (frame, *_) = sample_frames(path, per_second=10, width_pixels=128)
    difference = np.abs(frame.image.astype(int) - picture)
    assert difference.mean() < 3
    assert (difference > 10).mean() < 0.02  # dark places of strong colour, in 10 bits with half chroma


@pytest.mark.parametrize("kind", TRANSFERS)
def test_colours_come_back_exactly_but_for_rounding(kind: str) -> None:
    transfer, encode = TRANSFERS[kind]
    for colour in ((0, 0, 0), (128, 128, 128), (255, 255, 255), (200, 40, 40), (40, 180, 40), (40, 40, 200)):
        signal = encode(in_2020(solid(colour, 2, 2)))
        planes = (np.clip(signal, 0, 1) * 65535 + 0.5).astype(np.uint16).transpose(2, 0, 1)
        assert Tone(transfer, BT2020)(planes)[:, 0, 0].tolist() == pytest.approx(colour, abs=1)


@pytest.mark.parametrize("kind", ["hlg", "pq"])
def test_what_is_brighter_than_reference_white_is_white(kind: str) -> None:
    transfer, encode = TRANSFERS[kind]
    planes = np.full((3, 1, 1), round(65535 * float(encode(np.full((1, 1, 3), 3.0))[0, 0, 0])), np.uint16)
    assert Tone(transfer, BT2020)(planes).ravel().tolist() == [255, 255, 255]


# From BT.709 to P3 with D65 white: https://www.w3.org/TR/css-color-4/#color-conversion-code
TO_P3 = np.array([[0.822462, 0.177538, 0.0], [0.033194, 0.966806, 0.0], [0.017083, 0.072397, 0.910520]])


@pytest.mark.parametrize("colour", [(0, 0, 0), (128, 128, 128), (255, 255, 255), (200, 40, 40), (40, 180, 40)])
def test_display_p3_becomes_bt709(colour: tuple[int, int, int]) -> None:
    signal = sdr(np.clip((solid(colour, 2, 2) / 255) ** 2.4 @ TO_P3.T, 0, None))
    planes = (np.clip(signal, 0, 1) * 65535 + 0.5).astype(np.uint16).transpose(2, 0, 1)
    assert Tone(SDR, DISPLAY_P3_PRIMARIES)(planes)[:, 0, 0].tolist() == pytest.approx(colour, abs=1)
    assert needs_tone(SDR, DISPLAY_P3_PRIMARIES)


@pytest.mark.parametrize("kind", ["hlg", "pq"])
def test_hdr_that_names_bt709s_primaries_has_them_and_that_names_none_has_bt2020s(kind: str) -> None:
    transfer, encode = TRANSFERS[kind]
    colour = (200, 60, 40)
    own = encode((solid(colour, 2, 2) / 255) ** 2.4)
    planes = (np.clip(own, 0, 1) * 65535 + 0.5).astype(np.uint16).transpose(2, 0, 1)
    assert Tone(transfer, BT709)(planes)[:, 0, 0].tolist() == pytest.approx(colour, abs=6)  # HLG's luma is BT.2020's
    wide = (np.clip(encode(in_2020(solid(colour, 2, 2))), 0, 1) * 65535 + 0.5).astype(np.uint16).transpose(2, 0, 1)
    for unnamed in (0, UNSPECIFIED):
        assert Tone(transfer, unnamed)(wide)[:, 0, 0].tolist() == pytest.approx(colour, abs=1)


def test_ten_bits_alone_and_bt709_change_nothing() -> None:
    assert not needs_tone(transfer=1, primaries=1)
    assert not needs_tone(transfer=2, primaries=2)  # unspecified
    assert not needs_tone(transfer=6, primaries=6)  # BT.601
    assert needs_tone(HLG, 2)
    assert needs_tone(PQ, BT2020)
    assert needs_tone(14, BT2020)  # BT.2020 with 10 bits, standard range
