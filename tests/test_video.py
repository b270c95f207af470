import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.files.suffixes import VIDEO_SUFFIXES
from pipeline.video import VideoFrame, sample_frames
from pipeline.video.decode import SCALE_FLAGS
from tests.clips import BLUE, GREEN, RED, YELLOW, quadrants, smooth, solid, write_clip

BT709, BT601 = 1, 5
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def read(path, per_second=1000.0, width_pixels=640):
    return list(sample_frames(path, per_second=per_second, width_pixels=width_pixels))


def times(path, per_second=1000.0):
    return [frame.pts_seconds for frame in read(path, per_second)]


def error_of(path, **settings):
    with pytest.raises(PipelineError) as caught:
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
    monkeypatch.setattr("pipeline.video.decode.THREAD_TYPE", "NONE")
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
    assert "expected: more than 0 frames a second and a width of 1 pixel or more" in error_of(tmp_path, **settings)


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
    assert "b.mp4 has no video stream (streams: audio, video)" in error_of(both)


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
    assert "a.mp4 cannot be opened as a video" in error_of(clip)
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
    monkeypatch.setattr("pipeline.video.decode.SCALE_FLAGS", "no_such_flag")
    assert "a.mp4 is damaged or cut off 0.0 s after its beginning: Invalid argument" in error_of(clip)


def test_stream_without_frames(tmp_path):
    # a fragmented mp4 may end behind its header: a stream is described, and nothing follows
    clip = tmp_path / "a.mp4"
    with av.open(clip, "w", options={"movflags": "empty_moov+frag_keyframe"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    assert "a.mp4 has a video stream, but no frame in it can be decoded" in error_of(clip)
