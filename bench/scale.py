"""Time and memory of every stage against the number of frames: `python -m bench.scale [--frames 1000 10000 100000]`.

Each stage runs as `dvc repro` runs it, by its command in dvc.yaml and with the values of params.yaml, in a process of
its own, on takes of 25 frames (`--frames-per-take`): clips of 6 seconds, 1280 x 720, each turned and mirrored in eight
ways, so the take cache, which starts empty, spares nothing.
80 % of the takes are for training, 10 % each for validation and test.

Seconds are on the clock. Memory is the largest resident size of the stage's process as the system counted it (what
Ray's workers or DVC use is not in it). `ms/frame` staying the same down a column of one stage is what linear means.

`--stages` runs only these, for which what earlier stages give is made up: frames and copies are eight pictures again
and again, features are noise around a direction for each label. So training on 100,000 frames can be measured without
computing their features: `--frames 100000 --stages train`. All stages on 100,000 frames need about 40 GB in the
temporary folder (TMPDIR), half of it for the take cache.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from bench.add_one_take import LABELS, command, project_params, write_params
from bench.schemes import workspace
from pipeline.files import layout, sha256_of_file, write_bytes
from pipeline.images.codec import encode_jpeg
from pipeline.litert.interpreter import Model
from pipeline.takes.splits import TEST, TRAIN, VALIDATION, Block, Take, read_takes, write_splits
from pipeline.takes.tables import AUGMENTED, FRAMES, bottlenecks_schema, to_parquet
from tests.clips import write_clip

PROJECT = Path(__file__).resolve().parents[1]
STAGES = (
    *("split", "frames", "augment", "finetune", "quantize", "bottlenecks"),
    *("train", "crossval", "multihead", "assemble", "evaluate", "measure", "report", "gate", "deploy"),
)
AFTER_TRAINING = STAGES[STAGES.index("assemble") :]
NUM_PICTURES = 8
ORIENTATIONS = (
    (1, 0, 0, 1),
    (0, 1, -1, 0),
    (-1, 0, 0, -1),
    (0, -1, 1, 0),
    (-1, 0, 0, 1),
    (0, 1, 1, 0),
    (1, 0, 0, -1),
    (0, -1, -1, 0),
)
MIN_TAKES = 10 * len(LABELS)  # of ten takes, one is for validation and one for test
# What stages read of what others write; the splits are read by all of them.
READS = {
    "augment": ("frames",),
    "quantize": ("finetune",),
    "bottlenecks": ("frames", "augment", "finetune", "quantize"),
    "train": ("bottlenecks",),
    "crossval": ("bottlenecks",),
    "multihead": ("bottlenecks",),
    "assemble": ("quantize",),
    "evaluate": ("frames",),
    "report": ("frames",),
    "deploy": ("frames",),
}
MAX_BYTES = 2e9
# The system counts a process's memory from before its program was loaded, when it was a copy of what had started it.
# So a small process starts the stage, and tells its seconds and the largest resident size (kB; bytes on macOS).
LAUNCHER = """
import resource, subprocess, sys, time
started = time.perf_counter()
status = subprocess.call(sys.argv[1:], stdout=sys.stderr)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


@dataclass(frozen=True)
class Cost:
    """What a stage took."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Sizes:
    """How much is made up.

    Attributes:
        num_takes: Of all labels together.
        num_frames_per_take: In each of them.
        num_copies: Of each train frame, beside the frame itself.
    """

    num_takes: int
    num_frames_per_take: int
    num_copies: int


# What stages read, made up


def make_videos(folder: Path, sizes: Sizes, per_second: float) -> None:
    """Write clips that give as many frames as a take has, each turned or mirrored in eight ways."""
    (folder / layout.PHOTOS).mkdir(parents=True)
    for number in range(sizes.num_takes):
        base, way = divmod(number, len(ORIENTATIONS))
        if way == 0:
            shown = picture(base, 1280, 720)
            num_frames = round(30 * sizes.num_frames_per_take / per_second)
            frames = [np.roll(shown, 4 * index, 1) for index in range(num_frames)]
            content = write_clip(folder / "base.mp4", frames, rate=30).read_bytes()
        turned = with_matrix(content, ORIENTATIONS[way])
        write_bytes(folder / layout.VIDEOS / table_of(number).with_suffix(""), turned)


def with_matrix(content: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """Give an MP4 file another display matrix (ISO/IEC 14496-12, 8.3.2: nine numbers behind 40 bytes of `tkhd`)."""
    at = content.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    numbers = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    return content[:at] + numbers + content[at + len(numbers) :]


def table_of(number: int) -> Path:
    """Return where a take's table lies in a stage's folder."""
    return Path(LABELS[number % len(LABELS)]) / f"take{number:05d}.mp4.parquet"


def make_splits(folder: Path, num_takes: int) -> None:
    """Write what the stage `split` would, with invented hashes if there are no videos."""
    blocks = []
    for number in range(num_takes):
        name, rank = table_of(number).stem, number // len(LABELS) % 10
        part = {0: VALIDATION, 1: TEST}.get(rank, TRAIN)
        label = LABELS[number % len(LABELS)]
        path = layout.VIDEOS / label / name
        sha256 = sha256_of_file(folder / path) if (folder / path).exists() else f"{number:064x}"
        blocks.append(Block(label, name, str(path), sha256, part, 0.0, 1.0))
    write_splits(folder / layout.SPLITS, blocks)


def make_frames(folder: Path, sizes: Sizes) -> None:
    """Write tables of frames in which eight pictures repeat."""
    images, num_rows = pictures(), sizes.num_frames_per_take
    for number, take in enumerate(takes_of(folder)):
        ids = [f"{number:010d}-{row:06d}" for row in range(num_rows)]
        seconds = [row / 4 for row in range(num_rows)]
        chosen = [images[(number + row) % NUM_PICTURES] for row in range(num_rows)]
        table = pa.table([ids, seconds, chosen], schema=FRAMES)
        write_bytes(folder / layout.FRAMES / take.table, to_parquet(table))


def make_augmented(folder: Path, sizes: Sizes) -> None:
    """Write tables of copies in which eight pictures repeat."""
    images = pictures()
    for number, take in enumerate(takes_of(folder)):
        rows = [(row, copy) for row in range(sizes.num_frames_per_take) for copy in range(1, sizes.num_copies + 1)]
        ids, seconds = [f"{number:010d}-{row:06d}" for row, _ in rows], [row / 4 for row, _ in rows]
        chosen = [images[(number + row + copy) % NUM_PICTURES] for row, copy in rows]
        table = pa.table([ids, [copy for _, copy in rows], seconds, chosen], schema=AUGMENTED)
        write_bytes(folder / layout.AUGMENTED / take.table, to_parquet(table))


def make_tuned(folder: Path, _sizes: Sizes) -> None:
    """Pass the backbone on as it was converted."""
    write_bytes(folder / layout.TUNED_BACKBONE, (folder / layout.CONVERTED_BACKBONE).read_bytes())


def make_quantized(folder: Path, _sizes: Sizes) -> None:
    """Write the backbone of float32, which is the converted one."""
    write_bytes(folder / layout.backbone("float32"), (folder / layout.CONVERTED_BACKBONE).read_bytes())


def make_bottlenecks(folder: Path, sizes: Sizes) -> None:
    """Write features of float32: noise around a direction for each label."""
    content = (folder / layout.CONVERTED_BACKBONE).read_bytes()
    feature_length, draw = Model(content).output_length, np.random.default_rng(0)
    directions = {label: draw.normal(0, 0.3, feature_length) for label in LABELS}
    for kind, rows_per_frame in (("frames", 1), ("augmented", sizes.num_copies)):
        num_rows = sizes.num_frames_per_take * rows_per_frame
        for take in takes_of(folder):
            vectors = (directions[take.label] + draw.normal(0, 1, (num_rows, feature_length))).astype(np.float32)
            features = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), feature_length)
            columns = [[str(row) for row in range(num_rows)], [0] * num_rows, [0.0] * num_rows, features]
            table = pa.table(columns, schema=bottlenecks_schema(feature_length))
            write_bytes(folder / layout.bottlenecks("float32") / kind / take.table, to_parquet(table))


MAKE_UP: dict[str, Callable[[Path, Sizes], None]] = {
    "frames": make_frames,
    "augment": make_augmented,
    "finetune": make_tuned,
    "quantize": make_quantized,
    "bottlenecks": make_bottlenecks,
}


def picture(number: int, width: int, height: int) -> np.ndarray:
    """Return uint8 [height, width, 3]: patches of colour that run into each other, and a camera's noise."""
    draw = np.random.default_rng(number)
    patches = Image.fromarray(draw.integers(0, 256, (9, 16, 3), np.uint8))
    smooth = np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(smooth + draw.normal(0, 2, (height, width, 1)), 0, 255).astype(np.uint8)


def pictures() -> list[bytes]:
    """Return encoded pictures of 640 x 360, about 90 kB each."""
    return [encode_jpeg(picture(number, 640, 360), quality=95) for number in range(NUM_PICTURES)]


def takes_of(folder: Path) -> list[Take]:
    """Return the takes of the split file."""
    return read_takes(folder / layout.SPLITS)


# Measuring


def run(stage: str, folder: Path, scheme: str) -> Cost:
    """Run a stage and return what it took."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"VIEWFINDER_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, *command(stage, scheme)],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{stage} failed:\n{done.stderr}")
    seconds, peak = done.stdout.split()
    return Cost(float(seconds), int(peak) * (1 if sys.platform == "darwin" else 1024))


def measure(num_frames: int, num_frames_per_take: int, stages: list[str], scheme: str) -> dict[str, Cost]:
    """Run stages on a project of so many frames, in the order of dvc.yaml."""
    params = project_params() | {"quantization": [scheme], "deploy": scheme}
    sizes = Sizes(num_frames // num_frames_per_take, num_frames_per_take, params["augment"]["copies"])
    costs = {}
    with tempfile.TemporaryDirectory(prefix="viewfinder-scale-") as name:
        folder = Path(name)
        write_params(folder, params)
        if set(stages) & set(STAGES[STAGES.index("finetune") :]):
            write_bytes(folder / layout.CONVERTED_BACKBONE, (workspace() / layout.CONVERTED_BACKBONE).read_bytes())
        (folder / "data").mkdir()
        for shared in (layout.CALIBRATION, layout.STRANGERS):
            (folder / shared).symlink_to(PROJECT / shared)
        if {"split", "frames"} & set(stages):
            make_videos(folder, sizes, params["frames"]["per_second"])
        for stage in STAGES:
            if stage in stages:
                costs[stage] = run(stage, folder, scheme)
                per_frame_ms = 1000 * costs[stage].seconds / num_frames
                print(
                    f"{num_frames:>9,}  {stage:12}{costs[stage].seconds:10.1f}{per_frame_ms:12.2f}"
                    f"{costs[stage].peak_bytes / 1e6:12,.0f}",
                    flush=True,
                )
            elif any(stage in READS.get(reader, ()) for reader in stages):
                MAKE_UP[stage](folder, sizes)
            if stage == "split":  # the real one shares takes out by hash; all sizes are to be alike
                make_splits(folder, sizes.num_takes)
    return costs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--frames-per-take", type=int, default=25, help="default: %(default)s")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--scheme", default="float32", help="default: %(default)s; others as far as `train`")
    arguments = parser.parse_args()
    if min(arguments.frames) < MIN_TAKES * arguments.frames_per_take:
        parser.error(f"{MIN_TAKES} takes are the least, so that each label has one in each part: give more --frames")
    chosen = arguments.stages
    if arguments.scheme != layout.REFERENCE_SCHEME and (
        set(chosen) & set(AFTER_TRAINING)
        or ("bottlenecks" in chosen and "quantize" not in chosen)
        or ("train" in chosen and "bottlenecks" not in chosen)
    ):
        parser.error("with another scheme than float32 give `--stages ... quantize bottlenecks train` at most")
    if set(chosen) & set(AFTER_TRAINING) and not set(STAGES[STAGES.index("train") :]) <= set(chosen):
        parser.error("what comes after `train` needs all stages from there on")
    print(f"{'frames':>9}  {'stage':12}{'seconds':>10}{'ms/frame':>12}{'peak MB':>12}")
    costs = [
        measure(num_frames, arguments.frames_per_take, chosen, arguments.scheme) for num_frames in arguments.frames
    ]
    peak, stage = max((cost.peak_bytes, stage) for found in costs for stage, cost in found.items())
    verdict = "within" if peak <= MAX_BYTES else "MORE THAN"
    print(f"largest: {peak / 1e6:,.0f} MB in `{stage}`, {verdict} {MAX_BYTES / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
