"""The camera's YUV picture: the reference, and the examples in Java and C, which must make the same bytes of it."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.images.model_input import to_model_input
from pipeline.images.yuv import i420_of, rgb_of_i420
from tests.conftest import PROJECT

EXAMPLES = PROJECT / "examples/camera"
WIDTH, HEIGHT, SIDE = 64, 48, 31


def noise(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Any bytes are a frame: uint8 [num_bytes], as I420."""
    return np.random.default_rng(0).integers(0, 256, width * height * 3 // 2, dtype=np.uint8)


def expected(content: bytes, rotation: int, *, crop: bool, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    upright = np.ascontiguousarray(np.rot90(rgb_of_i420(content, height, width), -rotation // 90))
    return to_model_input(upright, SIDE, "crop" if crop else "stretch")


def test_the_conversion_is_that_of_jpeg() -> None:
    """JFIF is full-range BT.601: Pillow's own conversion differs from it by rounding alone."""
    frame = noise().tobytes()
    size = WIDTH * HEIGHT
    y, u, v = (
        np.frombuffer(frame, np.uint8, count, begin)
        for begin, count in ((0, size), (size, size // 4), (size * 5 // 4, size // 4))
    )
    colours = [plane.reshape(HEIGHT // 2, WIDTH // 2).repeat(2, 0).repeat(2, 1) for plane in (u, v)]
    ycbcr = np.stack([y.reshape(HEIGHT, WIDTH), *colours], -1)
    theirs = np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB")).astype(int)
    assert np.abs(rgb_of_i420(frame, HEIGHT, WIDTH) - theirs).max() <= 1


def test_there_and_back() -> None:
    y, x = np.mgrid[0:48, 0:64]
    smooth = np.stack([3 * x + 20, 4 * y + 10, 2 * (x + y) + 5], -1).astype(np.uint8)
    back = rgb_of_i420(i420_of(smooth), 48, 64)
    assert np.abs(back.astype(int) - smooth).max() <= 6  # colour is half as fine
    grey = np.full((4, 4, 3), 77, np.uint8)
    assert np.array_equal(rgb_of_i420(i420_of(grey), 4, 4), grey)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    path = tmp_path_factory.mktemp("c") / "camera_input.so"
    command = [compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(path)]
    subprocess.run([*command, str(EXAMPLES / "camera_input.c"), "-lm"], check=True)
    return ctypes.CDLL(str(path))


class Frame(ctypes.Structure):
    """`camera_frame` of camera_input.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("y", "u", "v")),
        *((name, ctypes.c_int) for name in ("y_row_stride", "colour_row_stride", "colour_pixel_stride")),
        *((name, ctypes.c_int) for name in ("width", "height", "rotation")),
    ]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("layout", ["I420", "NV12", "NV21"])
def test_c_makes_the_same_bytes(library: ctypes.CDLL, rotation: int, crop: bool, layout: str) -> None:
    frame = noise()
    size, padding = WIDTH * HEIGHT, 16
    y = np.pad(frame[:size].reshape(HEIGHT, WIDTH), ((0, 0), (0, padding)))  # rows of cameras are often padded
    u, v = (frame[begin : begin + size // 4].reshape(HEIGHT // 2, WIDTH // 2) for begin in (size, size * 5 // 4))
    alternating = np.ascontiguousarray(np.stack([u, v] if layout == "NV12" else [v, u], -1)).reshape(HEIGHT // 2, WIDTH)
    first, second = alternating.ctypes.data, alternating.ctypes.data + 1
    planes = {"I420": (u.ctypes.data, v.ctypes.data), "NV12": (first, second), "NV21": (second, first)}[layout]
    strides = (WIDTH + padding, *((WIDTH // 2, 1) if layout == "I420" else (WIDTH, 2)))
    given = Frame(y.ctypes.data, *planes, *strides, WIDTH, HEIGHT, rotation)
    found = np.zeros((SIDE, SIDE, 3), np.uint8)
    library.camera_input(ctypes.byref(given), ctypes.c_bool(crop), SIDE, found.ctypes.data_as(ctypes.c_void_p))
    np.testing.assert_array_equal(found, expected(frame.tobytes(), rotation, crop=crop))


@pytest.mark.slow
@pytest.mark.parametrize(("rotation", "crop"), [(0, False), (90, False), (180, True), (270, True)])
def test_java_makes_the_same_bytes(tmp_path: Path, rotation: int, crop: bool) -> None:
    if shutil.which("javac") is None:
        pytest.skip("no Java compiler here")
    sources = [EXAMPLES / "java/viewfinder/camera/CameraInput.java", PROJECT / "tests/CameraInputOfFile.java"]
    subprocess.run(["javac", "-Xlint:all", "-Werror", "-d", str(tmp_path), *map(str, sources)], check=True)
    frame = tmp_path / "frame.i420"
    frame.write_bytes(noise().tobytes())
    arguments = [frame, WIDTH, HEIGHT, rotation, SIDE, str(crop).lower(), tmp_path / "input"]
    subprocess.run(["java", "-cp", str(tmp_path), "CameraInputOfFile", *map(str, arguments)], check=True)
    found = np.frombuffer((tmp_path / "input").read_bytes(), np.uint8).reshape(SIDE, SIDE, 3)
    np.testing.assert_array_equal(found, expected(noise().tobytes(), rotation, crop=crop))
