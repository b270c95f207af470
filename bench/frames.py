"""Compares the frames path with the ffmpeg program: `python -m bench.frames`.

What is compared, each from the same H.264 clip on disk to the same number of pictures of the same width:

* `rgb`: `pipeline.video.sample_frames`, whose arrays are dropped, against ffmpeg writing raw rgb24 to the null device;
  ffmpeg once with its own scaler settings and once with those that this project uses ("same flags"), which give the
  same pixels for every frame that both take.
* `jpeg`: `pipeline.per_take.frames.frames_of_video`, as the stage runs it (quality 95, full chroma), against ffmpeg
  writing JPEG of its best quality (`-q:v 2`): with its usual half chroma, which spares it a quarter of the work and the
  conversion to RGB, and with full chroma.
* `2 at once`: two takes in two threads, as the stage works, against two ffmpeg processes.

"PyAV, all" decodes every frame with PyAV and converts the wanted ones as ours does, to the same pictures: the
difference is what `pipeline.video.planned` saves.

ffmpeg takes frames with its `fps` filter, at "all" none. It decodes all of them; ours decodes what the wanted frames
need. All use as many threads as they choose. ffmpeg's time includes starting its process, ours not importing Python
modules: the stage does that once for all takes.

The contenders of a row run in turn, so that other work on the machine hits all alike; times are medians over `--runs`.
The ratio is ffmpeg's time over ours: above 1 ours is faster. The ratio of processor time (all threads) says the same of
a machine that is busy elsewhere. Clips are made once and kept in the temporary folder: a moving test picture with
noise, `--gop-seconds` between key frames, and a long one that repeats a smaller file without encoding it again.
"""

import argparse
import math
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import av
import imageio_ffmpeg

from pipeline.config.frames import FramesConfig
from pipeline.files import sha256_of_file
from pipeline.per_take.frames import frames_of_video
from pipeline.video import sample_frames
from pipeline.video.convert import SCALE_FLAGS, Converter

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
ALL_FRAMES = 1000.0  # more frames a second than any clip here has
Contender = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """What one run took, in seconds: on the clock, and on all processors together."""

    wall_seconds: float
    cpu_seconds: float


def make_clip(folder: Path, *, seconds: int, gop_seconds: float, kbit_per_second: int, repeats: int = 1) -> Path:
    """Encode a moving 720p picture at 30 frames a second, unless it is there already; repeat it without encoding."""
    base = folder / f"{seconds}s-gop{gop_seconds:g}-{kbit_per_second}k.mp4"
    if not base.exists():
        source = f"testsrc2=size=1280x720:rate=30:duration={seconds},noise=alls=6:allf=t"
        coding = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-b:v", f"{kbit_per_second}k"]
        _make(base, ["-f", "lavfi", "-i", source, *coding, "-g", str(round(30 * gop_seconds))])
    if repeats == 1:
        return base
    clip = base.with_stem(f"{base.stem}-x{repeats}")
    if not clip.exists():
        _make(clip, ["-stream_loop", str(repeats - 1), "-i", str(base), "-c", "copy"])
    return clip


def _make(path: Path, arguments: Sequence[str]) -> None:
    """Let ffmpeg write a file, whole or not at all."""
    unfinished = path.with_stem(f"unfinished-{path.stem}")
    subprocess.run([FFMPEG, "-v", "error", "-y", *arguments, str(unfinished)], check=True)
    unfinished.rename(path)


def ours_rgb(clip: Path, rate: float, width_pixels: int) -> None:
    for _ in sample_frames(clip, per_second=rate, width_pixels=width_pixels):
        pass


def everything_rgb(clip: Path, rate: float, width_pixels: int) -> None:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        converter, last_slot = Converter(stream, width_pixels), -1
        for frame in container.decode(stream):
            if math.floor(frame.time * rate) > last_slot:
                last_slot = math.floor(frame.time * rate)
                converter.convert(frame)


def ours_jpeg(clip: Path, rate: float, width_pixels: int) -> None:
    config = FramesConfig(per_second=rate, width=width_pixels, jpeg_quality=95)
    for _ in frames_of_video(clip, sha256_of_file(clip), config):
        pass


def ffmpeg(clip: Path, rate: float, width_pixels: int, *, flags: str = "", output: Sequence[str]) -> None:
    sampling = "" if rate >= ALL_FRAMES else f"fps={rate:g},"
    scale = f"{sampling}scale={width_pixels}:-2{f':flags={flags}' if flags else ''}"
    timing = ["-fps_mode", "passthrough"] if rate >= ALL_FRAMES else []
    command = [FFMPEG, "-v", "error", "-nostdin", "-y", "-i", str(clip), *timing, "-vf", scale, *output, os.devnull]
    subprocess.run(command, check=True)


RAW = ("-pix_fmt", "rgb24", "-f", "rawvideo")
JPEG_HALF = ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "2", "-f", "image2pipe")
JPEG_FULL = ("-c:v", "mjpeg", "-pix_fmt", "yuvj444p", "-q:v", "2", "-f", "image2pipe")
RGB_CONTENDERS: dict[str, Callable[[Path, float, int], None]] = {
    "ours": ours_rgb,
    "PyAV, all": everything_rgb,
    "ffmpeg": partial(ffmpeg, output=RAW),
    "ffmpeg, same flags": partial(ffmpeg, output=RAW, flags=SCALE_FLAGS),
}
LONG_CONTENDERS = ("ours", "PyAV, all", "ffmpeg")
JPEG_CONTENDERS: dict[str, Callable[[Path, float, int], None]] = {
    "ours": ours_jpeg,
    "ffmpeg": partial(ffmpeg, output=JPEG_HALF),
    "ffmpeg, full chroma": partial(ffmpeg, output=JPEG_FULL),
}


def measure(contenders: dict[str, Contender], num_runs: int) -> dict[str, Cost]:
    """Run the contenders in turn and return the median cost of each."""
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for _ in range(num_runs):
        for name, run in contenders.items():
            wall, cpu = time.perf_counter(), _cpu_seconds()
            run()
            costs[name].append(Cost(time.perf_counter() - wall, _cpu_seconds() - cpu))
    return {
        name: Cost(statistics.median(c.wall_seconds for c in runs), statistics.median(c.cpu_seconds for c in runs))
        for name, runs in costs.items()
    }


def _cpu_seconds() -> float:
    """Return the processor time so far of this process and of the children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def twice(run: Contender) -> None:
    """Do the same for two takes at once."""
    with ThreadPoolExecutor(2) as executor:
        for future in [executor.submit(run) for _ in range(2)]:
            future.result()


def print_row(clip: str, task: str, rate: float, costs: dict[str, Cost]) -> None:
    ours = costs["ours"]
    for name, cost in costs.items():
        rate_text = "all" if rate >= ALL_FRAMES else f"{rate:g}/s"
        ratios = f"{cost.wall_seconds / ours.wall_seconds:7.2f} {cost.cpu_seconds / ours.cpu_seconds:9.2f}"
        print(
            f"{clip:6} {task:15} {rate_text:>6}  {name:20} {cost.wall_seconds:8.2f} {cost.cpu_seconds:8.2f} {ratios}",
            flush=True,
        )


def print_header() -> None:
    with subprocess.Popen([FFMPEG, "-version"], stdout=subprocess.PIPE, text=True) as process:
        ffmpeg_version = process.communicate()[0].split()[2]
    packages = ", ".join(f"{name} {version(name)}" for name in ("av", "numpy", "pillow"))
    print(f"Python {platform.python_version()}, {packages}, ffmpeg {ffmpeg_version}, {os.cpu_count()} CPUs\n")
    columns = f"{'wall s':>8} {'CPU s':>8} {'ratio':>7} {'CPU ratio':>9}"
    print(f"{'clip':6} {'task':15} {'frames':>6}  {'contender':20} {columns}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.frames", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="length of the short clip (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=10, help="the long clip is so many times as long (%(default)s)")
    parser.add_argument("--gop-seconds", type=float, default=2, help="between key frames (default: %(default)s)")
    parser.add_argument("--width", type=int, default=640, help="width of the pictures (default: %(default)s)")
    parser.add_argument("--only", choices=("rgb", "jpeg", "pair", "jpeg pair", "long"), help="one part of the table")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    folder = Path(tempfile.gettempdir()) / "viewfinder-bench"
    folder.mkdir(exist_ok=True)
    make = partial(make_clip, folder, seconds=arguments.seconds, gop_seconds=arguments.gop_seconds)
    short = make(kbit_per_second=8000)
    long = make(kbit_per_second=2000, repeats=arguments.repeats)
    print_header()
    parts: list[tuple[str, str, Path, dict[str, Callable[[Path, float, int], None]], tuple[float, ...]]] = [
        ("rgb", "short", short, RGB_CONTENDERS, (ALL_FRAMES, 4, 1, 0.2)),
        ("jpeg", "short", short, JPEG_CONTENDERS, (ALL_FRAMES, 4, 1)),
        ("pair", "short", short, RGB_CONTENDERS, (ALL_FRAMES, 4, 1)),
        ("jpeg pair", "short", short, JPEG_CONTENDERS, (ALL_FRAMES, 4)),
        ("long", "long", long, {name: RGB_CONTENDERS[name] for name in LONG_CONTENDERS}, (1, 0.2)),
    ]
    for part, clip_name, clip, contenders, rates in parts:
        for rate in rates if arguments.only in {None, part} else ():
            runs: dict[str, Contender] = {
                name: partial(run, clip, rate, arguments.width) for name, run in contenders.items()
            }
            if "pair" in part:
                runs = {name: partial(twice, run) for name, run in runs.items()}
            task = {"pair": "rgb, 2 at once", "jpeg pair": "jpeg, 2 at once", "long": "rgb"}.get(part, part)
            print_row(clip_name, task, rate, measure(runs, arguments.runs))


if __name__ == "__main__":
    main()
