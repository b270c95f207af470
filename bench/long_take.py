"""Memory and time for long takes: `python -m bench.long_take [--minutes 10 60] [--scheme float32]`.

For each length, a take of so many minutes, 1280 x 720 at 30 frames a second (a few seconds again and again), goes
through the stages that work take by take, by their commands in dvc.yaml and with the values of params.yaml, each in a
process of its own. Memory is the largest resident size of that process as the system counted it.
"""

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path

import av

from bench.add_one_take import RATE, clip, project_params, write_params
from bench.scale import run
from bench.schemes import workspace
from pipeline.files import layout, sha256_of_file, write_bytes
from pipeline.takes.splits import TEST, TRAIN, VALIDATION, Block, write_splits
from tests.clips import write_clip

SECONDS_PER_LOOP = 10
STAGES = ("frames", "augment", "bottlenecks")


def write_long_clip(path: Path, num_minutes: float) -> None:
    """Write some seconds again and again, without encoding them again."""
    with tempfile.TemporaryDirectory() as name:
        source = write_clip(Path(name) / "short.mp4", list(clip(0, SECONDS_PER_LOOP)), rate=RATE)
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as target, av.open(str(source)) as template:
            stream = target.add_stream_from_template(template.streams.video[0])
            for number in range(round(60 * num_minutes / SECONDS_PER_LOOP)):
                with av.open(str(source)) as again:
                    for packet in again.demux(video=0):
                        if packet.pts is not None and packet.dts is not None:
                            offset = int(number * SECONDS_PER_LOOP / Fraction(packet.time_base))
                            packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                            target.mux(packet)


def measure(num_minutes: float, scheme: str) -> None:
    """Print a row for each stage."""
    with tempfile.TemporaryDirectory(prefix="viewfinder-long-") as name:
        folder = Path(name)
        write_params(folder, project_params() | {"quantization": [scheme], "deploy": scheme})
        path = layout.VIDEOS / "cup/long.mp4"
        write_long_clip(folder / path, num_minutes)
        sha256, spans = sha256_of_file(folder / path), {TRAIN: (0.0, 0.8), VALIDATION: (0.8, 0.9), TEST: (0.9, 1.0)}
        blocks = [Block("cup", "long.mp4", str(path), sha256, part, *span) for part, span in spans.items()]
        write_splits(folder / layout.SPLITS, blocks)
        converted = (workspace() / layout.CONVERTED_BACKBONE).read_bytes()
        for target in (layout.TUNED_BACKBONE, layout.backbone(layout.REFERENCE_SCHEME)):
            write_bytes(folder / target, converted)
        for shared in (layout.CALIBRATION, layout.STRANGERS):
            (folder / shared).symlink_to(Path(__file__).resolve().parents[1] / shared)
        if scheme != layout.REFERENCE_SCHEME:
            run("quantize", folder, scheme)
        for stage in STAGES:
            cost = run(stage, folder, scheme)
            print(f"{num_minutes:>9g}  {stage:14}{cost.seconds:10.1f}{cost.peak_bytes / 1e6:12,.0f}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.long_take", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60], help="default: 10 60")
    parser.add_argument("--scheme", default="float32", help="of the bottlenecks (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"{'minutes':>9}  {'stage':14}{'seconds':>10}{'peak MB':>12}")
    for num_minutes in arguments.minutes:
        measure(num_minutes, arguments.scheme)


if __name__ == "__main__":
    main()
