"""Reads videos with FFmpeg's libraries. Nothing outside this package imports PyAV.

Everything that could differ from machine to machine is pinned: FFmpeg's bit-exact decoding and scaling paths are asked
for, scaling runs in one thread, and a clip with a damaged part is refused rather than concealed. (H.265 and VP9 carry
no redundancy: a flipped bit inside a complete packet can pass unseen there, and FFmpeg's `err_detect` finds no more.)
PyAV keeps FFmpeg's own log off the terminal as long as nobody sets its log level.

Where few frames are wanted, only what they need is decoded (see `pipeline.video.planned`).
"""

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.errors import ConfigurationError
from pipeline.video.clip import Clock, DecodingOrder, TimedFrame, check_end, damaged, open_clip, video_stream
from pipeline.video.convert import Converter, Rgb
from pipeline.video.planned import NoPlanError, decode_by_plan, is_worth_a_plan

_FRAMES_AHEAD = 2  # converted while decoding goes on; they wait in memory


@dataclass(frozen=True)
class VideoFrame:
    """One sampled frame.

    Attributes:
        pts_seconds: When it is presented, counted from the clip's first frame.
        image: uint8 [height, width, 3], RGB 0..255, upright, with square pixels.
    """

    pts_seconds: float
    image: Rgb


def sample_frames(path: Path, *, per_second: float, width_pixels: int) -> Iterator[VideoFrame]:
    """Yield the first frame presented in each slot of 1 / per_second seconds, counted from the first frame.

    A slot in which no frame is presented yields nothing, so no frame comes twice, and a `per_second` at or above the
    clip's own rate yields every frame. Only the sampled frames are converted to RGB, and at low rates only what they
    need is decoded; that changes no frame, but damage between them can pass unseen. The clip's end is checked when the
    last frame has been taken: keep what came only if the iterator ends without an error.

    Args:
        path: A video; the container is recognized by its content.
        per_second: Slots in a second.
        width_pixels: Width of the upright picture; the aspect ratio is kept, nothing is enlarged.

    Yields:
        Frames in the order in which they are presented.

    Raises:
        ConfigurationError: If the settings are not positive.
        InputError: If the file is empty, not a video, without decodable frames, damaged, or shorter than it declares.
    """
    if not (math.isfinite(per_second) and per_second > 0 and width_pixels >= 1):
        raise ConfigurationError(
            found=f"{per_second} frames a second, {width_pixels} pixels wide",
            expected="more than 0 frames a second and a width of 1 pixel or more",
            remedy="correct the settings for frames",
        )
    return _sample(path, Fraction(str(per_second)), width_pixels)


def _sample(path: Path, per_second: Fraction, width_pixels: int) -> Iterator[VideoFrame]:
    """Yield what `sample_frames` promises: by plan where that helps, and otherwise by decoding everything."""
    last_slot = -1
    for may_plan in (True, False):
        with open_clip(path) as container:
            stream = video_stream(path, container)
            if may_plan and is_worth_a_plan(stream, per_second):
                frames = decode_by_plan(path, container, stream, per_second)
            else:
                frames = _decode_all(path, container, stream)
            wanted = _first_in_slots(frames, per_second, last_slot)
            try:
                for time, image in _convert_ahead(path, wanted, Converter(stream, width_pixels)):
                    last_slot = math.floor(time * per_second)
                    yield VideoFrame(float(time), image)
            except NoPlanError:
                continue
            return


def _first_in_slots(frames: Iterator[TimedFrame], per_second: Fraction, last_slot: int) -> Iterator[TimedFrame]:
    """Yield the first frame of each slot behind the last one."""
    for time, frame in frames:
        slot = math.floor(time * per_second)
        if slot > last_slot:
            last_slot = slot
            yield time, frame


def _convert_ahead(path: Path, frames: Iterator[TimedFrame], converter: Converter) -> Iterator[tuple[Fraction, Rgb]]:
    """Convert frames in a thread of their own, so that decoding goes on meanwhile; order and bytes stay."""
    pending: deque[tuple[Fraction, Future[Rgb]]] = deque()
    with ThreadPoolExecutor(1) as executor:
        for time, frame in frames:
            pending.append((time, executor.submit(_convert, path, converter, time, frame)))
            if len(pending) > _FRAMES_AHEAD:
                time_of_first, image = pending.popleft()
                yield time_of_first, image.result()
        for time_of_first, image in pending:
            yield time_of_first, image.result()


def _convert(path: Path, converter: Converter, time: Fraction, frame: av.VideoFrame) -> Rgb:
    """Convert a frame, or tell why that is impossible."""
    try:
        return converter.convert(frame)
    except av.FFmpegError as error:
        raise damaged(path, time, error) from error


def _decode_all(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[TimedFrame]:
    """Yield every frame with its time in seconds from the first frame; check health on the way and at the end."""
    clock, order = Clock(stream), DecodingOrder(container)
    try:
        for packet in container.demux():
            clock.note_packet(packet)
            if packet.stream.index != stream.index:  # not packet.stream_index: it is 0 in the packets that end streams
                continue
            if packet.is_corrupt:
                raise damaged(path, clock.last_time, "a packet is incomplete")
            order.note_packet(packet)
            for frame in stream.decode(packet):
                time = clock.time_of(order.time_stamp_of(frame), frame.duration)
                if frame.is_corrupt:
                    raise damaged(path, time, "a frame could not be decoded in full")
                yield time, frame
    except (OSError, ValueError, av.FFmpegError) as error:
        raise damaged(path, clock.last_time, error) from error
    check_end(path, container, stream, clock)
