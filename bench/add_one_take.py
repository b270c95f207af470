"""What one more take costs, from the command to the prompt: `python -m bench.add_one_take [--takes 20] [--seconds 15]`.

In a temporary repository of generated clips with the project's own dvc.yaml and its settings, runs `dvc repro` in full,
then changes one take, or a setting, and runs it again. Each row: seconds of the whole command and their share of the
full run's; how many takes the stages computed that work take by take (all schemes together); how many stages ran.
"""

import argparse
import os
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


def copy_project(folder: Path, params: Mapping[str, Any]) -> None:
    """Make a repository with the project's code, calibration pictures and settings, and no take."""
    for name in ("pipeline", "conf", "data/calibration", "data/strangers"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "requirements.lock", "requirements-dev.lock", ".gitignore", ".dvcignore"):
        shutil.copy(PROJECT / name, folder / name)
    for name in ("photos", "videos"):
        (folder / "data" / name).mkdir()
    write_params(folder, params)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    dvc("init", "--quiet", folder=folder)


def dvc(*arguments: str, folder: Path) -> str:
    """Run DVC as a person does who has activated the environment, and return what it printed to both streams."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env={key: value for key, value in environment.items() if key != "PYTHONPATH"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout)
    return done.stdout


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


def measured(title: str, folder: Path, full_seconds: float | None = None) -> float:
    """Run `dvc repro`, print a row, and return the seconds that it took."""
    started = time.perf_counter()
    printed = dvc("repro", folder=folder)
    seconds = time.perf_counter() - started
    computed = [sum(map(int, re.findall(rf"^{stage}\S*: (\d+) takes computed", printed, re.M))) for stage in STAGES]
    num_stages = len(re.findall("^Running stage", printed, re.M))
    share = 100 * seconds / (full_seconds or seconds)
    cells = "".join(f"{number:>13}" for number in [*computed, num_stages])
    print(f"{title:26}{seconds:8.1f}{share:8.1f} %{cells}", flush=True)
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.add_one_take", description=__doc__.splitlines()[0])
    parser.add_argument("--takes", type=int, default=20, help="at least 12 (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="length of a take (default: %(default)s)")
    arguments = parser.parse_args()
    params = project_params()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder, params)
        for number in range(arguments.takes):
            add_take(number, folder, arguments.seconds)
        schemes = ", ".join(params["quantization"])
        print(f"{arguments.takes} takes of {arguments.seconds:g} s, 1280 x 720 at {RATE} fps; {schemes}")
        titles = "".join(f"{name:>13}" for name in [*STAGES, "stages"])
        print(f"{'`dvc repro` after':26}{'seconds':>8}{'share':>10}{titles}")
        full_seconds = measured("a fresh clone", folder)
        measured("nothing changed", folder, full_seconds)
        added = add_take(arguments.takes, folder, arguments.seconds)
        measured("one take more", folder, full_seconds)
        added = added.rename(added.with_name("renamed.mp4"))
        measured("one take renamed", folder, full_seconds)
        added.unlink()
        measured("one take fewer", folder, full_seconds)
        write_params(folder, params | {"augment": params["augment"] | {"copies": 1}})
        measured("augment.copies: 1", folder, full_seconds)
        write_params(folder, params)
        measured("back to what it was", folder, full_seconds)


if __name__ == "__main__":
    main()
