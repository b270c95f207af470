"""The sample takes: their table, their generator, and what is committed."""

import importlib.util
import re
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

DATA = Path(__file__).parents[1] / "data"
VIDEOS = DATA / "videos"


def load_generator() -> ModuleType:
    """Import data/make_samples.py, which is in no package, by its path."""
    spec = importlib.util.spec_from_file_location("make_samples", DATA / "make_samples.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


samples = load_generator()
BY_NAME = {take.name: take for take in samples.TAKES}
VARIABLE = next(take for take in samples.TAKES if take.variable_rate)


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def shortened(take, **changes):
    return replace(take, seconds=0.3, **changes)


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("hevc", ".mkv"), ("vp9", ".webm"), ("mpeg4", ".avi")])
def test_a_take_renders_to_the_same_bytes_again(tmp_path, codec, suffix):
    take = shortened(samples.TAKES[0], codec=codec, file=f"clip{suffix}", width=160, height=96)
    first, again = (samples.render(take, tmp_path / name) for name in "ab")
    assert len(decode(first)) == 7
    assert first.read_bytes() == again.read_bytes()


def test_encoders_get_the_colours_of_bt_601():
    flat = {"black": (0, 0, 0), "white": (255, 255, 255), "red": (255, 0, 0), "blue": (0, 0, 255)}
    planes = {
        name: samples.to_yuv420p(np.full((2, 2, 3), rgb, np.uint8)).ravel()[3:].tolist() for name, rgb in flat.items()
    }
    assert planes == {"black": [16, 128, 128], "white": [235, 128, 128], "red": [81, 90, 240], "blue": [41, 240, 110]}


def test_takes_differ_by_name_alone():
    take = shortened(samples.TAKES[0], width=160, height=96)
    one, other = (next(samples.frames(row, [0.0])) for row in (take, replace(take, file="other.mp4")))
    assert np.abs(one.astype(int) - other).mean() > 5


@pytest.mark.parametrize(("rotation", "turned_by_player"), [(90, -90), (180, -180), (270, 90)])
def test_a_turned_take_shows_the_upright_picture(tmp_path, rotation, turned_by_player):
    take = shortened(samples.TAKES[0], file="turned.mov", rotation=rotation, width=96, height=160)
    frame = decode(samples.render(take, tmp_path))[0]
    assert frame.rotation == turned_by_player
    shown = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    upright = next(samples.frames(take, [0.0]))
    assert shown.shape == upright.shape == (160, 96, 3)
    assert np.abs(shown.astype(int) - upright).mean() < 12


def test_a_failed_take_leaves_the_old_file(tmp_path):
    take = shortened(samples.TAKES[0], thing="no such picture")
    path = tmp_path / take.label / take.file
    path.parent.mkdir()
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError, match="no such picture"):
        samples.render(take, tmp_path)
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [(take.file, b"old")]


def test_a_file_without_a_track_header_is_named():
    with pytest.raises(ValueError, match="Found no moov box; expected an MP4 or QuickTime file"):
        samples.with_rotation(b"\x00\x00\x00\x08ftyp", 90, 480, 270)


def test_the_table_has_enough_labels_takes_and_shared_backgrounds():
    labels = {take.label for take in samples.TAKES}
    assert len(labels) >= 5
    assert all(sum(take.label == label for take in samples.TAKES) >= 4 for label in labels)
    assert len({take.file for take in samples.TAKES}) == len(BY_NAME) == len(samples.TAKES)
    assert any(" " in label for label in labels)
    assert any(not label.isascii() for label in labels)
    for background in {take.background for take in samples.TAKES}:
        assert len({take.label for take in samples.TAKES if take.background == background}) >= 3, background


def test_the_committed_takes_are_those_of_the_table():
    found = {path.relative_to(VIDEOS).as_posix() for path in VIDEOS.glob("*/*") if path.suffix != ".dvc"}
    assert found == set(BY_NAME)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_committed_take_decodes(name):
    take = BY_NAME[name]
    with av.open(VIDEOS / name) as container:
        frames = [(frame.time, frame.rotation, frame.width, frame.height) for frame in container.decode(video=0)]
    times, rotations, widths, heights = zip(*frames, strict=True)
    assert times[-1] - times[0] >= 3
    assert {rotation % 360 for rotation in rotations} == {-take.rotation % 360}
    stored = (take.height, take.width) if take.rotation % 180 else (take.width, take.height)
    assert (set(widths), set(heights)) == ({stored[0]}, {stored[1]})


def test_the_variable_rate_take_has_irregular_intervals():
    intervals = [b.time - a.time for a, b in pairwise(decode(VIDEOS / VARIABLE.name))]
    assert min(intervals) < 1 / 25
    assert max(intervals) > 0.5
    assert np.std(intervals) > 0.02


def test_the_samples_are_small():
    files = [path for folder in ("videos", "sources") for path in (DATA / folder).rglob("*") if path.is_file()]
    assert 1_000_000 < sum(path.stat().st_size for path in files) <= 12_000_000


@pytest.mark.parametrize("folder", ["sources", "calibration"])
def test_the_readme_names_the_origin_of_every_picture(folder):
    patterns = re.findall(r"`([^`\s]+\.(?:jpg|png|webp))`", (DATA / "README.md").read_text(encoding="utf-8"))
    files = [path.relative_to(DATA / folder).as_posix() for path in (DATA / folder).rglob("*") if path.is_file()]
    assert files
    assert not [file for file in files if not any(fnmatchcase(file, pattern) for pattern in patterns)]
