import gc
import math
import subprocess
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.sidedata.sidedata import Type as SideDataType
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pillow_heif import register_heif_opener

from pipeline.errors import ConfigurationError, InputError
from pipeline.files.suffixes import VIDEO_SUFFIXES
from pipeline.video import VideoFrame, decode, planned, sample_frames
from pipeline.video.clip import DecodingOrder
from pipeline.video.convert import SCALE_FLAGS
from pipeline.video.plan import PacketNote, Run, first_in_slots, plan_runs
from tests.clips import BLUE, GREEN, RED, YELLOW, quadrants, smooth, solid, write_clip

BT709, BT601 = 1, 5
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def read(path, per_second=1000.0, width_pixels=640):
    return list(sample_frames(path, per_second=per_second, width_pixels=width_pixels))


def times(path, per_second=1000.0):
    return [frame.pts_seconds for frame in read(path, per_second)]


def error_of(path, kind=InputError, **settings):
    with pytest.raises(kind) as caught:
        read(path, **settings)
    return str(caught.value)


def ffmpeg_frames(path, width, height):
    """All frames as the ffmpeg program gives them: turned by its own autorotation, in plain C code without SIMD."""
    command = [FFMPEG, "-v", "error", "-cpuflags", "0", "-flags", "+bitexact", "-i", path, "-fps_mode", "passthrough"]
    command += ["-vf", f"scale={width}:{height}:flags={SCALE_FLAGS}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def difference_from_ffmpeg(path, width_pixels=48):
    images = np.stack([frame.image for frame in read(path, width_pixels=width_pixels)])
    expected = ffmpeg_frames(path, images.shape[2], images.shape[1])
    assert images.shape == expected.shape
    return int(np.abs(images.astype(int) - expected).max())


def corners(image):
    """Name the colour near each corner: top left, top right, bottom left, bottom right."""
    names = {"red": RED, "green": GREEN, "blue": BLUE, "yellow": YELLOW}
    rows, columns = image.shape[0] // 4, image.shape[1] // 4
    pixels = [image[y, x].astype(int) for y in (rows, -rows) for x in (columns, -columns)]
    return [min(names, key=lambda name: np.abs(names[name] - pixel).max()) for pixel in pixels]


def test_samples_constant_rate_by_time(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [smooth(i) for i in range(30)], rate=10)
    assert times(clip, 2) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert times(clip, 4) == [0, 0.3, 0.5, 0.8, 1, 1.3, 1.5, 1.8, 2, 2.3, 2.5, 2.8]
    assert times(clip, 0.5) == [0, 2]


def test_slots_without_frames_give_none(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [smooth(i) for i in range(6)], pts_ms=[0, 40, 499, 500, 1900, 1940])
    assert times(clip, 2) == [0, 0.5, 1.9]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_variable_rate_keeps_its_times(tmp_path, suffix):
    pts_ms = [0, 33, 100, 101, 400, 433, 1000]
    clip = write_clip(tmp_path / f"a{suffix}", [smooth(i) for i in range(7)], pts_ms=pts_ms)
    assert times(clip) == [ms / 1000 for ms in pts_ms]


def test_sampled_frame_is_the_one_presented_then(tmp_path):
    frames = [solid((20 * i, 128, 128)) for i in range(10)]
    clip = write_clip(tmp_path / "a.mp4", frames, options={"bf": "2", "preset": "medium"})
    reds = [int(frame.image[..., 0].mean()) for frame in read(clip, per_second=2.5)]
    assert np.allclose(reds, [0, 80, 160], atol=4)


def test_rate_at_or_above_the_clips_gives_every_frame_once(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", [smooth(i) for i in range(30)], rate=30)
    assert len(times(clip, 1000)) == 30
    assert len(set(times(clip, 1000))) == 30


def test_late_start_counts_from_the_first_frame(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", [smooth(i) for i in range(3)], pts_ms=[5000, 5100, 5700])
    assert times(clip, 2) == [0, 0.7]


def test_frames_without_time_stamps_come_at_the_average_rate(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [smooth(i) for i in range(10)], rate=25, options={"preset": "medium"})
    bare = tmp_path / "bare.mp4"  # H.264 without a container has no time stamps
    subprocess.run([FFMPEG, "-v", "error", "-i", clip, "-c", "copy", "-f", "h264", bare], check=True)
    with av.open(bare) as container:
        assert all(frame.pts is None for frame in container.decode(video=0))
    assert times(bare) == [i / 25 for i in range(10)]


def test_avi_with_b_frames_keeps_its_times(tmp_path):
    clip = write_clip(tmp_path / "a.avi", [smooth(i) for i in range(10)], codec="mpeg4", options={"bf": "2"})
    assert times(clip) == [i / 10 for i in range(10)]


@pytest.mark.parametrize(
    ("width_pixels", "shape"),
    [(32, (24, 32, 3)), (30, (23, 30, 3)), (1, (1, 1, 3)), (64, (48, 64, 3)), (65, (48, 64, 3))],
)
def test_width_is_never_enlarged(tmp_path, width_pixels, shape):
    clip = write_clip(tmp_path / "a.mp4", [smooth(0)])
    assert read(clip, width_pixels=width_pixels)[0].image.shape == shape


@pytest.mark.parametrize(
    ("ratio", "rotation", "width_pixels", "shape"),
    [
        (Fraction(4, 3), 0, 640, (36, 64, 3)),
        (Fraction(1, 2), 0, 640, (48, 32, 3)),
        (Fraction(4, 3), 90, 640, (64, 36, 3)),
        (Fraction(4, 3), 90, 18, (32, 18, 3)),
    ],
)
def test_pixels_are_made_square(tmp_path, ratio, rotation, width_pixels, shape):
    clip = write_clip(tmp_path / "a.mp4", [smooth(0)], sample_aspect_ratio=ratio, rotation=rotation)
    assert read(clip, width_pixels=width_pixels)[0].image.shape == shape


@pytest.mark.parametrize(
    ("rotation", "mirrored", "expected"),
    [
        (0, False, "red green blue yellow"),
        (90, False, "green yellow red blue"),
        (180, False, "yellow blue green red"),
        (270, False, "blue red yellow green"),
        (0, True, "green red yellow blue"),
        (90, True, "yellow green blue red"),
        (180, True, "blue yellow red green"),
        (270, True, "red blue green yellow"),
    ],
)
def test_picture_is_upright(tmp_path, rotation, mirrored, expected):
    clip = write_clip(tmp_path / "a.mp4", [quadrants()], rotation=rotation, mirrored=mirrored)
    image = read(clip)[0].image
    assert image.shape == ((64, 48, 3) if rotation in {90, 270} else (48, 64, 3))
    assert corners(image) == expected.split()


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_agrees_with_ffmpeg(tmp_path, rotation, mirrored):
    # ffmpeg turns before it scales and then looks for chroma at the turned place: one grey level on a smooth picture
    clip = write_clip(tmp_path / "a.mov", [smooth(i) for i in range(3)], rotation=rotation, mirrored=mirrored)
    assert difference_from_ffmpeg(clip) <= 1


def test_decoded_frames_are_given_back_at_once(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [smooth(i) for i in range(40)], rotation=90)
    gc.collect()  # what other tests have left
    gc.disable()
    try:
        assert len(read(clip)) == 40
        held = [thing for thing in gc.get_objects() if isinstance(thing, av.VideoFrame)]
    finally:
        gc.enable()
    assert len(held) <= 2  # of which the display matrix was read


@pytest.mark.parametrize("colorspace", [None, BT601, BT709])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("width_pixels", [48, 64])
def test_colours_equal_ffmpeg(tmp_path, colorspace, full_range, width_pixels):
    clip = write_clip(tmp_path / "a.mp4", [quadrants(), smooth(1)], colorspace=colorspace, full_range=full_range)
    assert difference_from_ffmpeg(clip, width_pixels) == 0


@pytest.mark.parametrize("colorspace", [BT601, BT709])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_come_back_as_drawn(tmp_path, colorspace, full_range):
    clip = write_clip(tmp_path / "a.mp4", [solid(RED)] * 2, colorspace=colorspace, full_range=full_range)
    assert np.abs(read(clip)[0].image.astype(int) - RED).max() <= 4


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp4", "libx264", 10),
        ("a.m4v", "libx264", 10),
        ("a.mov", "libx264", 10),
        ("a.3gp", "libx264", 10),
        ("a.mp4", "libx265", 10),
        ("a.mkv", "libx265", 10),
        ("a.webm", "libvpx-vp9", 10),
        ("a.avi", "mpeg4", 10),
        ("a.mpg", "mpeg2video", 25),
        ("a.mpeg", "mpeg2video", 25),
        ("a.gif", "gif", 10),
    ],
)
def test_every_container_equals_ffmpeg(tmp_path, name, codec, rate):
    clip = write_clip(tmp_path / name, [smooth(i) for i in range(12)], codec=codec, rate=rate)
    assert clip.suffix in VIDEO_SUFFIXES
    assert np.allclose(times(clip), np.arange(12) / rate, atol=1e-9)
    assert difference_from_ffmpeg(clip) == 0


def test_trimmed_clip_starts_where_its_edit_list_says(tmp_path):
    clip = write_clip(
        tmp_path / "a.mp4", [smooth(i) for i in range(40)], options={"bf": "2", "preset": "medium", "g": "10"}
    )
    trimmed = tmp_path / "b.mp4"
    subprocess.run([FFMPEG, "-v", "error", "-ss", "1.5", "-i", clip, "-c", "copy", trimmed], check=True)
    assert len(read(trimmed)) == 25
    assert difference_from_ffmpeg(trimmed) == 0


def test_transparent_gif_gives_rgb(tmp_path):
    pixels = np.zeros((48, 64), np.uint8)
    pixels[:, 32:] = 1
    picture = Image.fromarray(pixels, "P")
    picture.putpalette([*RED, *BLUE])
    picture.save(tmp_path / "a.gif", transparency=1)
    image = read(tmp_path / "a.gif")[0].image
    assert tuple(image[0, 0]) == RED
    assert np.array_equal(image, ffmpeg_frames(tmp_path / "a.gif", 64, 48)[0])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_longer_than_the_picture_is_healthy(tmp_path, suffix):
    clip = write_clip(tmp_path / f"a{suffix}", [smooth(i) for i in range(10)], audio_seconds=4)
    assert len(read(clip)) == 10


def test_two_readings_are_equal(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [smooth(i) for i in range(20)], options={"preset": "medium", "bf": "2"})
    first, second = read(clip, width_pixels=40), read(clip, width_pixels=40)
    assert [frame.pts_seconds for frame in first] == [frame.pts_seconds for frame in second]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))


def test_number_of_threads_changes_nothing(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mp4", [smooth(i) for i in range(20)], options={"preset": "medium", "bf": "2"})
    many = read(clip)
    monkeypatch.setattr("pipeline.video.clip.THREAD_TYPE", "NONE")
    assert all(np.array_equal(a.image, b.image) for a, b in zip(many, read(clip), strict=True))


def test_image_is_plain_writable_rgb(tmp_path):
    frame = read(write_clip(tmp_path / "a.mp4", [quadrants()], rotation=90))[0]
    assert isinstance(frame, VideoFrame)
    assert frame.image.dtype == np.uint8
    assert frame.image.flags.c_contiguous
    assert frame.image.flags.writeable


def open_files(path):
    return [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and link.resolve() == path.resolve()]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="lists open files the Linux way")
def test_stopping_early_closes_the_file(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [smooth(i) for i in range(20)])
    frames = sample_frames(clip, per_second=10, width_pixels=64)
    next(frames)
    assert open_files(clip)
    frames.close()
    assert not open_files(clip)


def test_name_with_a_colon_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mp4", [smooth(0)]).rename(tmp_path / "take: one.mp4")
    assert len(read(Path("take: one.mp4"))) == 1


@pytest.mark.parametrize("settings", [{"per_second": 0}, {"per_second": float("nan")}, {"width_pixels": 0}])
def test_settings_must_be_positive(tmp_path, settings):
    assert "expected: more than 0 frames a second and a width of 1 pixel or more" in error_of(
        tmp_path, ConfigurationError, **settings
    )


def test_missing_file(tmp_path):
    assert "gone.mp4 cannot be opened as a video: No such file" in error_of(tmp_path / "gone.mp4")


def test_empty_file(tmp_path):
    path = tmp_path / "empty.mp4"
    path.touch()
    assert "empty.mp4 is empty (0 bytes)" in error_of(path)


def test_text_file(tmp_path, capfd):
    path = tmp_path / "clip.mp4"
    path.write_text("this is no video\n" * 100)
    message = error_of(path)
    assert "clip.mp4 cannot be opened as a video: Invalid data" in message
    assert "to mend:  copy it from the phone again" in message
    assert capfd.readouterr() == ("", "")


def test_audio_only(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [], audio_only=True)
    assert "a.mp4 has no video stream (streams: audio)" in error_of(clip)


def test_cover_picture_is_no_video(tmp_path):
    sound = write_clip(tmp_path / "a.m4v", [], audio_only=True)
    cover = write_clip(tmp_path / "cover.mp4", [smooth(0)], codec="mjpeg", options={"strict": "unofficial"})
    both = tmp_path / "b.mp4"
    command = [FFMPEG, "-v", "error", "-i", sound, "-i", cover, "-map", "0", "-map", "1", "-c", "copy"]
    subprocess.run([*command, "-disposition:v", "attached_pic", both], check=True)
    assert "b.mp4 has no moving picture, only a cover picture" in error_of(both)


def test_unsupported_codec(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [smooth(0)])
    clip.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz"))
    message = error_of(clip)
    assert "a.mp4 is in a video codec that this FFmpeg cannot decode" in message
    assert "to mend:  set the camera to H.264" in message


def grainy(num_frames=40):
    noise = np.random.default_rng(0)
    return [
        np.clip(smooth(i) + noise.integers(-20, 20, (48, 64, 3)), 0, 255).astype(np.uint8) for i in range(num_frames)
    ]


def cut(path, fraction):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    return path


def test_cut_before_the_index(tmp_path, capfd):
    clip = cut(write_clip(tmp_path / "a.mp4", grainy()), 0.6)
    assert "a.mp4 has no index (moov)" in error_of(clip)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("audio_seconds", [0, 4])
def test_cut_behind_the_index(tmp_path, fraction, audio_seconds, capfd):
    clip = cut(write_clip(tmp_path / "a.mp4", grainy(), faststart=True, audio_seconds=audio_seconds), fraction)
    assert "a.mp4 is damaged or cut off" in error_of(clip)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".webm", "libvpx-vp9")])
@pytest.mark.parametrize("fraction", [0.5, 0.85])
def test_cut_matroska(tmp_path, suffix, codec, fraction):
    clip = cut(write_clip(tmp_path / f"a{suffix}", grainy(), codec=codec), fraction)
    message = error_of(clip)
    assert "s, but declares 4.0 s: it was cut off" in message
    assert f"a{suffix} stops after " in message


@pytest.mark.parametrize(("suffix", "codec"), [(".avi", "mpeg4"), (".mpg", "mpeg2video")])
def test_cut_older_containers(tmp_path, suffix, codec):
    clip = cut(write_clip(tmp_path / f"a{suffix}", grainy(), codec=codec, rate=25), 0.5)
    assert f"a{suffix} is damaged or cut off" in error_of(clip)


def test_cut_gif(tmp_path):
    clip = cut(write_clip(tmp_path / "a.gif", grainy(), codec="gif"), 0.5)
    assert "a.gif has no end marker: it was cut off" in error_of(clip)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libsvtav1"])
def test_damage_in_the_middle_is_told_with_its_time(tmp_path, codec):
    clip = write_clip(tmp_path / "a.mp4", grainy(), codec=codec, options={"g": "10"})
    with av.open(clip) as container:
        packet = [packet for packet in container.demux() if packet.size][20]
        position, size = packet.pos, packet.size
    content = bytearray(clip.read_bytes())
    content[position + 4 : position + size] = bytes(size - 4)
    clip.write_bytes(content)
    message = error_of(clip)
    assert "a.mp4 is damaged or cut off " in message
    seconds = float(message.split("cut off ")[1].split(" s after")[0])
    assert abs(seconds - 2) <= 1


def test_no_frame_can_be_decoded(tmp_path):
    clip = write_clip(tmp_path / "a.webm", [smooth(i) for i in range(3)], codec="libvpx-vp9")
    with av.open(clip) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    content = bytearray(clip.read_bytes())
    for position, size in packets:
        content[position : position + size] = bytes(size)
    clip.write_bytes(content)
    assert "a.webm has a video stream, but no frame in it can be decoded" in error_of(clip)


def test_frame_that_cannot_be_converted(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "a.mp4", [smooth(0)])
    monkeypatch.setattr("pipeline.video.convert.SCALE_FLAGS", "no_such_flag")
    assert "a.mp4 is damaged or cut off 0.0 s after its beginning: Invalid argument" in error_of(clip)


def test_stream_without_frames(tmp_path):
    # a fragmented mp4 may end behind its header: a stream is described, and nothing follows
    clip = tmp_path / "a.mp4"
    with av.open(clip, "w", options={"movflags": "empty_moov+frag_keyframe"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    assert "a.mp4 has a video stream, but no frame in it can be decoded" in error_of(clip)


def predictable(num_frames=90):
    """A still texture that moves by a pixel now and then, a square on it that moves always, a cut every 23 frames.

    Encoders put key frames at cuts, and predict everything else from the frames before: noise that is new in every
    frame would be coded anew, and a frame decoded from the wrong place would look right.
    """
    generator = np.random.default_rng(3)
    textures = generator.integers(0, 256, (4, 12, 16, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    pictures = [np.roll(textures[i // 23 % 4], i // 2, 0) for i in range(num_frames)]
    square = generator.integers(0, 256, (16, 16, 3), np.uint8)
    for i, picture in enumerate(pictures):
        picture[2 * i % 32 :][:16, 3 * i % 48 :][:, :16] = square
    return pictures


def x264(parameters, **options):
    return "libx264", {"preset": "veryfast", "g": "12", "x264-params": f"log-level=none:{parameters}", **options}


def x265(parameters):
    return "libx265", {"preset": "ultrafast", "x265-params": f"log-level=none:keyint=12:min-keyint=2:{parameters}"}


PLANNED_CLIPS = {
    "closed.mp4": x264("bframes=2:b-adapt=0"),
    "long-gop.mov": x264("bframes=3:b-adapt=0:b-pyramid=normal", g="60"),
    "no-b.3gp": x264("bframes=0:slices=3"),
    "open.mp4": x264("bframes=3:b-adapt=0:b-pyramid=normal:open-gop=1:ref=4"),
    "open.mkv": x264("bframes=2:b-adapt=0:open-gop=1:weightp=2"),
    "interlaced.mp4": x264("bframes=2:interlaced=1"),
    "headers.mp4": x264("bframes=2:repeat-headers=1"),
    "closed-hevc.mp4": x265("bframes=3:open-gop=0"),
    "open-hevc.mov": x265("bframes=4:b-pyramid=1:open-gop=1"),
    "leading-hevc.mp4": x265("bframes=3:open-gop=0:radl=2"),
    "layers-hevc.mkv": x265("bframes=3:temporal-layers=3"),
    "vp9.webm": ("libvpx-vp9", {"deadline": "good", "cpu-used": "8", "g": "12", "lag-in-frames": "10"}),
    "av1.mp4": ("libsvtav1", {"preset": "12", "g": "12"}),
    "pictures.avi": ("mjpeg", {"strict": "unofficial"}),
}
REFRESHED_CLIPS = {"refresh.mp4": x264("intra-refresh=1", g="30")}  # has frames that are exact some time later
OTHER_CLIPS = {
    "old.avi": ("mpeg4", {"bf": "2", "g": "12"}),
    "older.mpg": ("mpeg2video", {"bf": "2", "g": "12"}),
    "h264.avi": x264("bframes=2"),
    "vp8.webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
}


def first_in_each_slot(frames, per_second):
    """The rule in its plainest form, over frames of which all were decoded."""
    slots = {}
    for frame in frames:
        seconds = Fraction(frame.pts_seconds).limit_denominator(1_000_000)
        slots.setdefault(math.floor(seconds * Fraction(str(per_second))), frame)
    return list(slots.values())


def check_every_rate(clip):
    everything = read(clip, width_pixels=48)
    for per_second in (0.2, 0.5, 1, 1.7, 2, 4, 7.3, 12, 20, 60):
        expected = first_in_each_slot(everything, per_second)
        found = read(clip, per_second, 48)
        assert [frame.pts_seconds for frame in found] == [frame.pts_seconds for frame in expected]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(found, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PLANNED_CLIPS, *REFRESHED_CLIPS, *OTHER_CLIPS])
def test_low_rates_give_what_decoding_everything_gives(tmp_path, name):
    codec, options = (PLANNED_CLIPS | REFRESHED_CLIPS | OTHER_CLIPS)[name]
    check_every_rate(write_clip(tmp_path / name, predictable(), codec=codec, rate=25, options=options))


@pytest.mark.parametrize("name", ["closed.mp4", "open.mkv", "open-hevc.mov"])
def test_low_rates_of_a_variable_rate(tmp_path, name):
    codec, options = PLANNED_CLIPS[name]
    pts_ms = np.cumsum([0, *np.random.default_rng(1).choice([20, 33, 34, 100, 700], 89)]).tolist()
    check_every_rate(write_clip(tmp_path / name, predictable(), codec=codec, pts_ms=pts_ms, options=options))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["closed.mp4", "open.mp4", "closed-hevc.mp4", "open-hevc.mov", "open.mkv"])
@pytest.mark.parametrize("edit", ["trimmed", "fragmented", "joined"])
def test_low_rates_of_an_edited_clip(tmp_path, name, edit):
    codec, options = PLANNED_CLIPS[name]
    clip = write_clip(tmp_path / name, predictable(), codec=codec, rate=25, options=options, audio_seconds=3)
    edited = clip.with_stem("edited")
    (tmp_path / "list").write_text(f"file '{name}'\nfile '{name}'\n")
    arguments = {
        "trimmed": ["-ss", "1.1", "-i", clip, "-c", "copy"],
        "fragmented": ["-i", clip, "-c", "copy", "-movflags", "frag_keyframe+empty_moov"],
        "joined": ["-f", "concat", "-i", tmp_path / "list", "-c", "copy"],
    }[edit]
    subprocess.run([FFMPEG, "-v", "error", *arguments, edited], check=True)
    check_every_rate(edited)


@pytest.fixture
def num_decoded(monkeypatch):
    """Count the frames that come out of the decoder, by the way they were asked for."""
    counts = {"by plan": 0, "all": 0}

    def counting(way, decode):
        def decode_and_count(*arguments):
            for frame in decode(*arguments):
                counts[way] += 1
                yield frame

        return decode_and_count

    monkeypatch.setattr(planned, "_decode_run", counting("by plan", planned._decode_run))
    monkeypatch.setattr(decode, "_decode_all", counting("all", decode._decode_all))
    return counts


def test_only_runs_from_key_frames_are_decoded(tmp_path, num_decoded):
    codec, options = x264("bframes=0:scenecut=0", g="10")
    clip = write_clip(tmp_path / "a.mp4", predictable(100), codec=codec, rate=10, options=options)
    assert times(clip, 1) == list(range(10))
    assert num_decoded == {"by plan": 10, "all": 0}
    assert times(clip, 0.5) == list(range(0, 10, 2))
    assert num_decoded == {"by plan": 15, "all": 0}


def test_frames_that_nobody_refers_to_are_left_out(tmp_path, num_decoded):
    codec, options = x264("bframes=1:b-adapt=0:scenecut=0", g="100")
    read(write_clip(tmp_path / "a.mp4", predictable(100), codec=codec, rate=10, options=options), 0.2)
    assert num_decoded["all"] == 0
    assert 26 <= num_decoded["by plan"] <= 28  # half of the first half


@pytest.mark.parametrize(("num_layers", "num_expected"), [(1, 29), (3, 51)])
def test_frames_of_a_layered_stream_are_not_left_out(tmp_path, num_decoded, num_layers, num_expected):
    parameters = f"keyint=100:bframes=3:b-adapt=0:scenecut=0:temporal-layers={num_layers}"
    codec, options = "libx265", {"preset": "ultrafast", "x265-params": f"log-level=none:{parameters}"}
    read(write_clip(tmp_path / "a.mp4", predictable(100), codec=codec, rate=10, options=options), 0.2)
    assert num_decoded == {"by plan": pytest.approx(num_expected, abs=3), "all": 0}


@pytest.mark.parametrize("name", PLANNED_CLIPS)
def test_plans_are_made_and_hold_for_what_phones_record(tmp_path, num_decoded, name):
    codec, options = PLANNED_CLIPS[name]
    clip = write_clip(tmp_path / name, predictable(), codec=codec, rate=25, options=options)
    for per_second in (0.5, 0.7, 1.1):
        read(clip, per_second)
    assert 0 < num_decoded["by plan"] < 0.7 * 3 * 90
    assert num_decoded["all"] == 0


@pytest.mark.parametrize("name", OTHER_CLIPS)
def test_other_codecs_are_decoded_in_full(tmp_path, num_decoded, name):
    codec, options = OTHER_CLIPS[name]
    frames = read(write_clip(tmp_path / name, predictable(30), codec=codec, rate=25, options=options), 2)
    assert len(frames) == 3
    assert num_decoded == {"by plan": 0, "all": 30}


def test_high_rates_are_decoded_in_full(tmp_path, num_decoded):
    assert len(read(write_clip(tmp_path / "a.mp4", predictable(30), rate=25), 20)) == 24
    assert num_decoded == {"by plan": 0, "all": 30}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        x264("bframes=2", g="60"),
        x264("bframes=0:ref=4:min-keyint=50", g="60"),
        ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=60:bframes=3"}),
        ("libvpx-vp9", {"deadline": "good", "cpu-used": "8", "g": "60"}),
        ("libsvtav1", {"preset": "12", "g": "60"}),
    ],
)
def test_frames_that_are_called_key_frames_and_are_none(tmp_path, codec, options):
    clip = write_clip(tmp_path / "a.mp4", predictable(), codec=codec, rate=25, options=options)
    content = clip.read_bytes()
    assert content.count(b"stss") == 1
    clip.write_bytes(content.replace(b"stss", b"free"))  # without a list of key frames, each is one
    check_every_rate(clip)


@pytest.mark.parametrize("position", [0, 3])
def test_what_a_plan_misses_is_decoded_in_full(tmp_path, monkeypatch, num_decoded, position):
    codec, options = PLANNED_CLIPS["closed.mp4"]
    clip = write_clip(tmp_path / "a.mp4", predictable(), codec=codec, rate=25, options=options)
    expected = read(clip, 2)
    assert num_decoded["all"] == 0

    def mistaken(notes, **settings):
        runs = list(plan_runs(notes, **settings))
        runs[position] = replace(runs[position], wanted_pts=(runs[position].wanted_pts[0] + 1,))
        return tuple(runs)

    monkeypatch.setattr("pipeline.video.planned.plan_runs", mistaken)
    found = read(clip, 2)
    assert num_decoded["all"] == 90
    assert [frame.pts_seconds for frame in found] == [frame.pts_seconds for frame in expected]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("fraction", [0.5, 0.7, 0.85])
def test_cut_clips_are_refused_at_low_rates_too(tmp_path, suffix, fraction):
    clip = write_clip(tmp_path / f"a{suffix}", grainy(), faststart=suffix == ".mp4", options={"g": "5"})
    assert error_of(cut(clip, fraction), per_second=0.2) == error_of(clip)


def blank_packet(path, number):
    """Overwrite a slice of H.264 with zeros; its length and its first byte stay."""
    with av.open(path) as container:
        packet = [packet for packet in container.demux() if packet.size][number]
        position, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[position + 5 : position + size] = bytes(size - 5)
    path.write_bytes(content)


def test_damage_is_seen_where_it_is_decoded(tmp_path):
    codec, options = x264("bframes=0:scenecut=0", g="10")
    clip = write_clip(tmp_path / "a.mp4", grainy(), codec=codec, options=options)
    expected = read(clip, 1)
    blank_packet(clip, 15)  # of a frame between two key frames: nobody looks there
    assert all(np.array_equal(a.image, b.image) for a, b in zip(read(clip, 1), expected, strict=True))
    assert "a.mp4 is damaged or cut off" in error_of(clip)
    blank_packet(clip, 20)  # of a key frame that is wanted
    assert error_of(clip, per_second=1) == error_of(clip)


KEY, INNER = True, False


def notes_of(*packets):
    return [PacketNote(pts, 1, True, is_key) for pts, is_key in packets]


def runs_of(notes, per_second=1, reorder_depth=1):
    """At ten units a second."""
    return plan_runs(notes, per_second=Fraction(per_second), time_base=Fraction(1, 10), reorder_depth=reorder_depth)


def test_a_leading_frame_is_decoded_from_the_key_frame_before():
    notes = notes_of((0, KEY), (4, KEY), (9, INNER), (11, KEY), (10, INNER), (12, INNER), (21, KEY))
    assert runs_of([*notes, *notes_of(*((i, INNER) for i in range(22, 30)))]) == (
        Run(0, 0, (0,)),
        Run(1, 4, (10,)),
        Run(6, 6, (21,)),
    )


def test_plans_need_order():
    tail = [(i, INNER) for i in range(1, 9)]
    assert runs_of(notes_of((0, KEY), *tail)) == (Run(0, 0, (0,)),)
    assert runs_of([]) is None
    assert runs_of([replace(note, is_shown=False) for note in notes_of((0, KEY), *tail)]) is None
    assert runs_of(notes_of((0, INNER), *tail)) is None  # does not begin with a key frame
    assert runs_of(notes_of((0, KEY), *tail, (8, INNER))) is None  # a time twice
    assert runs_of(notes_of((0, KEY), (3, INNER), (2, INNER), (1, INNER), *tail[3:])) is None  # too deep
    assert runs_of(notes_of((1, KEY), (0, INNER), *tail[1:])) is None  # who knows whether the second is shown


@st.composite
def clips_of_packets(draw):
    """Draw packets in decoding order, and for each those that it is predicted from.

    Anchors (I or P) carry B frames that are presented before them: in an open group these also need the anchor before.
    Times are uneven; an edit list may hide the first frames.
    """
    packets, needs, time, anchor = [], [], 0, None
    for _ in range(draw(st.integers(1, 12))):
        is_key = anchor is None or draw(st.booleans())
        is_open = anchor is not None and (not is_key or draw(st.booleans()))
        gaps = draw(st.lists(st.integers(1, 9), min_size=0, max_size=3)) if is_open else []
        inner = [time := time + gap for gap in gaps]
        time += draw(st.integers(1, 9))
        number = len(packets)
        packets += [(time, is_key), *((pts, False) for pts in draw(st.permutations(inner)))]
        needs += [set() if is_key else {anchor}, *({anchor, number} for _ in inner)]
        anchor = number
    first_shown = draw(st.integers(0, min(time, 5)))
    return [PacketNote(pts, 1, pts >= first_shown, is_key) for pts, is_key in packets], needs


@settings(max_examples=300)
@given(clips_of_packets(), st.fractions(Fraction(1, 50), Fraction(1, 1)))
def test_plans_against_brute_force(clip, slots_per_unit):
    notes, needs = clip
    runs = plan_runs(notes, per_second=slots_per_unit, time_base=Fraction(1), reorder_depth=4)
    shown = sorted(note.pts for note in notes if note.is_shown)
    slots = {}
    for pts in shown:
        slots.setdefault(math.floor((pts - shown[0]) * slots_per_unit), pts)
    assert [pts for run in runs for pts in run.wanted_pts] == list(slots.values())
    for run in runs:
        decodable = set()
        for number in range(run.first, run.last + 1):
            if needs[number] <= decodable:
                decodable.add(number)
        assert set(run.wanted_pts) <= {notes[number].pts for number in decodable}
        assert notes[run.first].is_key
    assert all(before.last < after.first for before, after in pairwise(runs))
    assert not any(spared_more(notes, needs, run) for run in runs if len(run.wanted_pts) == 1)


def spared_more(notes, needs, run):
    """Tell whether a later key frame, or an earlier end, would have given the run's only frame, too."""
    wanted = next(number for number, note in enumerate(notes) if note.pts == run.wanted_pts[0])
    needed, left = {wanted}, [wanted]
    while left:
        new = needs[left.pop()] - needed
        needed |= new
        left += new
    return run.last > wanted or any(notes[number].is_key for number in range(run.first + 1, min(needed) + 1))


@given(st.lists(st.integers(0, 500), min_size=1, unique=True), st.fractions(Fraction(1, 50), Fraction(2, 1)))
def test_the_first_in_each_slot_against_brute_force(pts, slots_per_unit):
    slots = {}
    for value in sorted(pts):
        slots.setdefault(math.floor((value - min(pts)) * slots_per_unit), value)
    assert list(first_in_slots(sorted(pts), slots_per_unit)) == list(slots.values())


def ffmpeg(*arguments):
    subprocess.run([FFMPEG, "-y", "-v", "error", *map(str, arguments)], check=True)


def test_avi_without_presentation_times_loses_no_frame(tmp_path):
    """H.264 with B-frames: what FFmpeg calls presentation times there jumps back and forth."""
    source = ["-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=2.32"]
    ffmpeg(*source, "-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p", tmp_path / "a.avi")
    found = list(sample_frames(tmp_path / "a.avi", per_second=100, width_pixels=160))
    assert [round(frame.pts_seconds, 6) for frame in found] == [round(0.04 * i, 6) for i in range(58)]
    raw = [FFMPEG, "-v", "error", "-i", tmp_path / "a.avi", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pictures = subprocess.run(raw, check=True, capture_output=True).stdout
    expected = np.frombuffer(pictures, np.uint8).reshape(58, 120, 160, 3).astype(int)
    nearest = [np.abs(expected - frame.image).mean((1, 2, 3)).argmin() for frame in found]
    assert nearest == list(range(58))  # all pictures, in order


class Packet:
    """What `DecodingOrder` looks at."""

    def __init__(self, pts, dts, size=1):
        self.pts, self.dts, self.size = pts, dts, size


def test_frames_are_presented_at_the_times_of_packets_where_the_first_packet_has_no_time():
    container = SimpleNamespace(format=SimpleNamespace(name="matroska,webm"))
    order = DecodingOrder(container)
    for packet in (Packet(None, 0), Packet(40, 40), Packet(None, None, size=0), Packet(80, 80)):
        order.note_packet(packet)
    frames = [SimpleNamespace(pts=pts) for pts in (None, 80, 40, 120)]
    assert [order.time_stamp_of(frame) for frame in frames] == [0, 40, 80, None]
    usual = DecodingOrder(container)
    usual.note_packet(Packet(0, 0))
    assert usual.time_stamp_of(SimpleNamespace(pts=7)) == 7


def edited(clip, duration_ms, media_time):
    """Set the only entry of a clip's edit list: how long it says it is, and where in the media it begins."""
    content = bytearray(clip.read_bytes())
    begin = content.index(b"elst") + 12
    content[begin : begin + 8] = duration_ms.to_bytes(4, "big") + media_time.to_bytes(4, "big", signed=True)
    clip.write_bytes(content)
    return clip


@pytest.mark.parametrize(("begin_ms", "first"), [(800, 20), (1900, 48)])
@pytest.mark.parametrize("per_second", [100, 4])
def test_an_edit_list_may_begin_between_key_frames_and_declare_too_much(tmp_path, begin_ms, first, per_second):
    """As trimming on a phone writes it; all 58 frames are in the file, those from `first` on are shown."""
    source = ["-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=2.32"]
    ffmpeg(*source, "-c:v", "libx264", "-bf", "3", "-g", "25", "-pix_fmt", "yuv420p", tmp_path / "a.mp4")
    whole = list(sample_frames(tmp_path / "a.mp4", per_second=100, width_pixels=160))
    clip = edited(tmp_path / "a.mp4", 2320, 1024 + begin_ms * 12800 // 1000)  # 1,024: the encoder's delay
    found = list(sample_frames(clip, per_second=per_second, width_pixels=160))
    assert np.array_equal(found[0].image, whole[first].image)
    if per_second == 100:
        assert len(found) == 58 - first
        assert np.array_equal(found[-1].image, whole[-1].image)


def test_side_data_that_the_library_does_not_know_is_left_alone():
    """Spatial video of iPhones carries kind 29; asking for any side data of such a frame used to raise ValueError."""
    unknown = SideDataType(29)
    assert unknown is SideDataType(29)
    assert {unknown: b"x"}.get(SideDataType.DISPLAYMATRIX) is None


def words_for(path):
    with pytest.raises(InputError) as caught:
        list(sample_frames(path, per_second=4, width_pixels=64))
    return str(caught.value)


def test_what_is_wrong_with_a_file_is_said_in_its_own_words(tmp_path):
    source = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=1"]
    clip = tmp_path / "a.mp4"
    ffmpeg(*source, "-c:v", "libx264", "-pix_fmt", "yuv420p", clip)
    key, kid = "76a6c65c5ea762046bd749a2e632ccbb", "a7e61c373e219033c21091fa607bf3b8"
    scheme = ["-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key, "-encryption_kid", kid]
    ffmpeg("-i", clip, "-c", "copy", *scheme, tmp_path / "rented.mp4")
    assert "rented.mp4 is encrypted\n" in words_for(tmp_path / "rented.mp4")
    content = clip.read_bytes()
    (tmp_path / "b.mp4").write_bytes(content[: content.index(b"moov") - 4])
    assert "b.mp4 has no index (moov): the recording was never finished" in words_for(tmp_path / "b.mp4")
    sound = ["-f", "lavfi", "-i", "sine=duration=2", *source, "-frames:v", "1", "-map", "0", "-map", "1"]
    ffmpeg(*sound, "-c:v", "mjpeg", "-disposition:v:0", "attached_pic", tmp_path / "song.mp4")
    assert "song.mp4 has no moving picture, only a cover picture" in words_for(tmp_path / "song.mp4")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_a_photo_that_is_called_a_video_is_told(tmp_path, kind):
    register_heif_opener()
    Image.fromarray(solid(RED)).save(tmp_path / "a.mp4", format=kind)
    told = words_for(tmp_path / "a.mp4")
    assert "a.mp4 is a photo by its content" in told
    assert "move it to the label's folder below data/photos/" in told
