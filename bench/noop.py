"""What DVC itself costs: `python -m bench.noop [--clips 300] [--frames-per-clip 67]`.

In a temporary repository with the project's own dvc.yaml and many short clips of 640 x 360, runs `dvc repro` once in
full and then with nothing to do. A stand-in for `python` notes how long each stage's command takes; the rest is DVC's.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.add_one_take import LABELS, RATE, clip, copy_project, project_params
from tests.clips import write_clip

# $1 $2 is "-m pipeline.<stage>".
PYTHON = """#!/bin/sh
start=$(date +%s.%N)
{python} "$@"
status=$?
echo "$2 $start $(date +%s.%N)" >> {log}
exit $status
"""


def prepare(folder: Path, num_clips: int, num_frames_per_clip: int) -> None:
    """Make a repository with the project's code, one scheme, and clips."""
    params = project_params()
    params["quantization"], params["deploy"] = ["float32"], "float32"
    params["frames"]["per_second"], params["augment"]["copies"] = 1000, 1  # all frames of a clip
    copy_project(folder, params)
    for number in range(num_clips):
        path = folder / "data/videos" / LABELS[number % len(LABELS)] / f"take{number:04d}.mp4"
        write_clip(path, [picture[::2, ::2] for picture in clip(number, num_frames_per_clip / RATE)], rate=RATE)


def dvc(*arguments: str, folder: Path, log: Path) -> tuple[float, float]:
    """Run DVC and return the seconds that passed, and those that its process and its children were computing."""
    path = f"{log.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.time() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.noop", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--frames-per-clip", type=int, default=67)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name) / "project", Path(name) / "bin/log"
        folder.mkdir()
        log.parent.mkdir()
        prepare(folder, arguments.clips, arguments.frames_per_clip)
        (log.parent / "python").write_text(PYTHON.format(python=sys.executable, log=log))
        (log.parent / "python").chmod(0o755)
        full_seconds, _ = dvc("repro", folder=folder, log=log)
        rows = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
        seconds = {stage.removeprefix("pipeline."): float(end) - float(start) for stage, start, end in rows}
        log.unlink()
        num_bytes = sum(path.stat().st_size for path in (folder / ".dvc/cache").rglob("*") if path.is_file())
        noop_seconds, noop_cpu_seconds = min(dvc("repro", folder=folder, log=log) for _ in range(3))
        if log.exists():
            sys.exit(f"nothing should have run, but did:\n{log.read_text(encoding='utf-8')}")
    num_frames = arguments.clips * arguments.frames_per_clip
    print(f"{num_frames} frames, {num_bytes / 1e9:.1f} GB in DVC's cache; seconds and share of a full `dvc repro`")
    for stage, spent in [*seconds.items(), ("DVC itself", full_seconds - sum(seconds.values())), ("all", full_seconds)]:
        print(f"  {stage:14}{spent:8.1f}{100 * spent / full_seconds:8.1f} %")
    print(
        f"`dvc repro` with nothing to do: {noop_seconds:.1f} s ({noop_cpu_seconds:.1f} s of computing), best of three"
    )


if __name__ == "__main__":
    main()
