"""What one more take costs: `python -m bench.add_one_take [--takes 20] [--seconds 15] [--scheme int8]`.

In a temporary project of generated clips, runs the stages that work take by take just as dvc.yaml does, then changes
one take and runs them again. Each cell is seconds, and how many takes were computed; the last column is the share of
the full run.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.clips import write_clip

PROJECT = Path(__file__).resolve().parents[1]
STAGES = ("frames", "augment", "bottlenecks")
RATE = 30  # frames per second, as phones record
LABELS = ("cup", "pen", "key", "box")


def project_params() -> dict[str, Any]:
    """Return what the project's params.yaml holds."""
    found: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    return found


def write_params(folder: Path, params: Mapping[str, Any]) -> None:
    """Write params.yaml, from which the stages that run in that folder take their values."""
    (folder / "params.yaml").write_text(yaml.safe_dump(dict(params), allow_unicode=True), encoding="utf-8")


def command(stage: str, scheme: str = "float32") -> list[str]:
    """Return a stage's command in dvc.yaml, for one scheme where it has a matrix."""
    template: str = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["cmd"]
    return [sys.executable, *template.replace("${item.scheme}", scheme).split()[1:]]


def run(stage: str, folder: Path, scheme: str = "float32") -> str:
    """Run a stage in a folder and return what it wrote to the terminal."""
    environment = {"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command(stage, scheme), cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{stage} failed:\n{done.stderr}")
    return done.stderr


def clip(number: int, num_seconds: float) -> Iterator[np.ndarray]:
    """Yield frames uint8 [720, 1280, 3] of a photo that a trembling hand films, with a little noise."""
    draw = np.random.default_rng(number)
    photos = sorted((PROJECT / "data/calibration").glob("*.jpg"))
    with Image.open(photos[number % len(photos)]) as photo:
        wide = np.asarray(photo.convert("RGB").resize((1600, 900), Image.Resampling.BICUBIC))
    noise = draw.normal(0, 3, (900, 1600, 3)).astype(np.int16)
    left, top = 160.0, 90.0
    for _ in range(round(num_seconds * RATE)):
        left, top = np.clip(np.add([left, top], draw.normal(0, 4, 2)), 0, [320, 180])
        x, y = round(left), round(top)
        picture = wide[y : y + 720, x : x + 1280] + noise[180 - y : 900 - y, 320 - x : 1600 - x]
        yield np.clip(picture, 0, 255).astype(np.uint8)


def add_take(number: int, folder: Path, num_seconds: float) -> Path:
    """Write one take and return its path."""
    path = folder / "data/videos" / LABELS[number % len(LABELS)] / f"take{number:03d}.mp4"
    return write_clip(path, list(clip(number, num_seconds)), rate=RATE)


def prepare(folder: Path, num_takes: int, num_seconds: float, scheme: str) -> None:
    """Make the project: clips, calibration pictures, and the quantized backbone, which depends on no take."""
    write_params(folder, project_params())
    for number in range(num_takes):
        add_take(number, folder, num_seconds)
    (folder / "data/photos").mkdir()
    shutil.copytree(PROJECT / "data/calibration", folder / "data/calibration")
    for stage in ("split", "backbone", "finetune", "quantize"):
        run(stage, folder, scheme)


def measured(title: str, folder: Path, scheme: str, full_seconds: float | None = None) -> float:
    """Run the stages, print a row, and return the seconds that they took."""
    run("split", folder)
    cells, total = [], 0.0
    for stage in STAGES:
        started = time.perf_counter()
        text = run(stage, folder, scheme)
        seconds = time.perf_counter() - started
        total += seconds
        found = re.search(r": (\d+) takes computed", text)
        cells.append(f"{seconds:6.1f} ({found[1] if found else '?':>3})")
    share = 100 * total / (full_seconds or total)
    print(f"{title:34}{''.join(f'{cell:>16}' for cell in cells)}{total:10.1f}{share:9.1f} %", flush=True)
    return total


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.add_one_take", description=__doc__.splitlines()[0])
    parser.add_argument("--takes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15, help="length of a take (default: %(default)s)")
    parser.add_argument("--scheme", default="float32", help="of the bottlenecks (default: %(default)s)")
    arguments = parser.parse_args()
    scheme = arguments.scheme
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, arguments.takes, arguments.seconds, scheme)
        print(f"{arguments.takes} takes of {arguments.seconds:g} s, 1280 x 720 at {RATE} fps; seconds (takes computed)")
        print(f"{'':34}{''.join(f'{stage:>16}' for stage in STAGES)}{'all':>10}{'share':>11}")
        full_seconds = measured("full run", folder, scheme)
        measured("nothing changed, DVC not asked", folder, scheme, full_seconds)
        added = add_take(arguments.takes, folder, arguments.seconds)
        measured("one take more", folder, scheme, full_seconds)
        added = added.rename(added.with_name("renamed.mp4"))
        measured("one take renamed", folder, scheme, full_seconds)
        added.unlink()
        measured("one take fewer", folder, scheme, full_seconds)
        params = project_params()
        write_params(folder, params | {"augment": params["augment"] | {"copies": 1}})
        measured("augment.copies: 1", folder, scheme, full_seconds)
        write_params(folder, params)
        measured("back to what it was", folder, scheme, full_seconds)


if __name__ == "__main__":
    main()
