"""Tells from a packet's own bytes what a decoder needs it for, without decoding it.

A container's key frame marks are not relied on: some writers mark pictures from which decoding does not start exactly.
What is read here are the few header bits that a codec's standard ties exactness to. Whatever is not understood gives
None, and then nobody skips anything.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum


class Start(Enum):
    """Where decoding can start and give the same pictures as decoding from the beginning."""

    CLOSED = "resets the decoder: all that follows is exact"
    OPEN = "exact for pictures presented from here on; earlier ones may follow that need what came before"


@dataclass(frozen=True, slots=True)
class Role:
    """What one packet, which holds one picture, is to a decoder.

    Attributes:
        start: Whether decoding can start here; None if not.
        is_reference: Whether a picture of the same or a lower temporal layer may be predicted from this one.
        temporal_layer: Pictures are predicted from their own and lower layers only; 0 is the lowest.
        parameter_sets: Settings for the decoder that come along, as stored; empty if none.
    """

    start: Start | None = None
    is_reference: bool = True
    temporal_layer: int = 0
    parameter_sets: bytes = b""


RoleReader = Callable[[memoryview], Role | None]

_CLOSED = Role(Start.CLOSED)
_INNER = Role()


def role_reader(codec: str, extradata: bytes) -> RoleReader | None:
    """Return the function that reads a packet's role, or None for a codec or a framing that is not understood.

    Args:
        codec: FFmpeg's name of the codec, not of one of its decoders: "h264", "hevc", "vp9", "av1", …
        extradata: The stream's header from the container. H.264 and H.265 are understood where it says how long the
            length before each unit is (mp4, mov, 3gp, Matroska; ISO/IEC 14496-15), not with start codes.
    """
    if codec == "h264" and len(extradata) >= 7 and extradata[0] == 1:
        length_bytes = (extradata[4] & 3) + 1
        return lambda packet: _h264_role(packet, length_bytes)
    if codec == "hevc" and len(extradata) >= 23 and extradata[0] == 1:
        hevc_length_bytes = (extradata[21] & 3) + 1
        return lambda packet: _hevc_role(packet, hevc_length_bytes)
    return {"vp9": _vp9_role, "av1": _av1_role, "mjpeg": _mjpeg_role, "prores": lambda _: _CLOSED}.get(codec)


def _units(packet: memoryview, length_bytes: int) -> Iterator[memoryview]:
    """Yield the units (NAL units) of a packet; raise ValueError where their lengths do not fill it exactly."""
    position, end = 0, len(packet)
    while position < end:
        first = position + length_bytes
        position = first + int.from_bytes(packet[first - length_bytes : first], "big")
        if position > end or position == first:
            raise ValueError("the units do not fill the packet")
        yield packet[first:position]


def _h264_role(packet: memoryview, length_bytes: int) -> Role | None:
    """Read a packet of H.264 (ITU-T H.264, 7.3.1 and 7.4.1).

    An IDR picture (unit type 5) is a closed start. Another picture is an open one if a recovery point message promises
    an exact match from there on. A picture whose slices all have `nal_ref_idc` 0 is no reference.
    """
    slice_types, is_reference, is_recovery_point, parameter_sets = [], False, False, b""
    try:
        for unit in _units(packet, length_bytes):
            unit_type = unit[0] & 31
            if 1 <= unit_type <= 5:
                slice_types.append(unit_type)
                is_reference |= bool(unit[0] & 0x60)
            elif unit_type == 6:
                is_recovery_point |= _is_exact_recovery_point(bytes(unit[1:]))
            elif unit_type in {7, 8, 13, 15}:
                parameter_sets += bytes(unit)
    except (ValueError, IndexError):
        return None
    if not slice_types:
        return None
    start = Start.CLOSED if slice_types[0] == 5 else Start.OPEN if is_recovery_point else None
    return Role(start, is_reference, 0, parameter_sets) if start or not is_reference or parameter_sets else _INNER


def _is_exact_recovery_point(message_unit: bytes) -> bool:
    """Look for a recovery point message that holds at once (count 0), matches exactly and breaks no link.

    ITU-T H.264, 7.3.2.3 and D.1.8: payload type 6, a count as Exp-Golomb code (a single 1 bit for 0), then
    `exact_match_flag` and `broken_link_flag`.
    """
    data = message_unit.replace(b"\0\0\3", b"\0\0")
    position = 0
    while position + 2 < len(data):
        payload_type, position = _message_number(data, position)
        payload_bytes, position = _message_number(data, position)
        if payload_type == 6:
            return data[position] >> 5 == 0b110
        position += payload_bytes
    return False


def _message_number(data: bytes, position: int) -> tuple[int, int]:
    """Read a number that is written as a run of 255 and a rest; return it and the position behind it."""
    value = 0
    while data[position] == 255:
        value += 255
        position += 1
    return value + data[position], position + 1


def _hevc_role(packet: memoryview, length_bytes: int) -> Role | None:
    """Read a packet of H.265 (ITU-T H.265, 7.3.1.2, 7.4.2.2 and 8.3).

    An IDR picture (types 19, 20) is a closed start, a CRA picture (21) an open one: pictures presented after it are
    predicted from nothing before it. Even types below 16 are no reference within their temporal layer. Streams that
    were spliced (BLA pictures, types 16 to 18, ends of sequence, 36 and 37) or that ask for pictures to be dropped
    (`no_output_of_prior_pics_flag`) are not understood.
    """
    first_slice, layer, parameter_sets = -1, 0, b""
    try:
        for unit in _units(packet, length_bytes):
            unit_type = unit[0] >> 1 & 63
            if unit[0] & 1 or unit[1] >> 3:  # another layer of a layered stream (depth, second eye): not decoded
                continue
            if unit_type in {16, 17, 18, 36, 37} or (16 <= unit_type <= 23 and unit[2] & 0x40):
                return None
            if unit_type < 32 and first_slice < 0:
                first_slice, layer = unit_type, (unit[1] & 7) - 1
            elif unit_type in {32, 33, 34}:
                parameter_sets += bytes(unit)
    except (ValueError, IndexError):
        return None
    if first_slice < 0:
        return None
    start = {19: Start.CLOSED, 20: Start.CLOSED, 21: Start.OPEN}.get(first_slice)
    is_reference = first_slice >= 16 or first_slice % 2 == 1
    return Role(start, is_reference, layer, parameter_sets)


def _vp9_role(packet: memoryview) -> Role | None:
    """Read a packet of VP9: a key frame renews all references, probabilities and segments (VP9 bitstream, 7.2).

    The first byte is a marker (0b10), 2 bits of profile, `show_existing_frame`, `frame_type` (0 for key) and 2 more;
    the bytes 49 83 42 follow in a key frame. (Profile 3 has one bit more, so its key frames are not found.)
    """
    if len(packet) < 4 or packet[0] >> 6 != 2:
        return None
    return _CLOSED if not packet[0] & 0b1100 and bytes(packet[1:4]) == b"\x49\x83\x42" else _INNER


def _av1_role(packet: memoryview) -> Role | None:
    """Read a packet of AV1: a key frame that is shown at once renews all references (AV1 bitstream, 5.9.2 and 7.20).

    A unit (OBU) starts with a byte that holds its type (1 sequence header, 3 frame header, 6 frame) and whether an
    extension byte and a length follow.
    """
    header, position = b"", 0
    while position < len(packet):
        unit_type = packet[position] >> 3 & 15
        first = position + 1 + (packet[position] >> 2 & 1)
        length, first = _leb128(packet, first) if packet[position] & 2 else (len(packet) - first, first)
        position = first + length
        if position > len(packet):
            return None
        if unit_type == 1:
            header += bytes(packet[first:position])
        elif unit_type in {3, 6}:
            # show_existing_frame 0, frame_type 00, show_frame 1; a still picture's header lacks them
            is_key = bool(header) and length > 0 and packet[first] >> 4 == 0b0001 and not header[0] & 0b1000
            return Role(Start.CLOSED if is_key else None, parameter_sets=header)
    return None


def _leb128(data: memoryview, position: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, lowest first; return it and the position behind it."""
    value = 0
    for index, byte in enumerate(data[position : position + 8]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position + index + 1
    return len(data), position  # runs over the end: the caller refuses it


def _mjpeg_role(packet: memoryview) -> Role | None:
    """Read a packet of Motion JPEG: it stands alone if it brings both kinds of tables; cameras may leave them out."""
    content = bytes(packet)
    return _CLOSED if b"\xff\xdb" in content and b"\xff\xc4" in content else None
