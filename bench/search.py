"""What twenty trials cost against twenty runs: `python -m bench.search [--trials 20] [--runs 3] [--takes 3]`.

In a copy of the project with caches of its own, runs `dvc repro` once (which both sides begin with), then `make
search`, and then a few of its trials by `dvc exp run`, from which the cost of twenty is scaled. Each run makes the
trial's scheme and float32, without which the pipeline does not run.

Computing is what the processes spent on all processors: it hardly depends on what else the machine does.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd

from pipeline.choosing.experiments import set_param
from pipeline.files import layout

PROJECT = Path(__file__).resolve().parents[1]

Cost = tuple[float, float]  # seconds that passed, seconds of computing


def prepare(folder: Path, num_takes: int | None) -> None:
    """Copy what Git tracks, as it is now, into a repository of its own; of each label's videos so many, if not all."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    names = list(filter(None, tracked.split("\0")))
    videos = sorted(name for name in names if Path(name).is_relative_to(layout.VIDEOS))
    left_out = {name for _, of_label in groupby(videos, os.path.dirname) for name in list(of_label)[num_takes:]}
    for name in names if num_takes is None else set(names) - left_out:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    commit = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qm", "Begin"]
    for command in (["init", "-q"], ["add", "-A"], commit):
        subprocess.run(["git", *command], cwd=folder, check=True)


def cost(*command: str, folder: Path, cache: Path) -> Cost:
    """Run a Python module in a folder, with a take cache."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "VIEWFINDER_CACHE": str(cache), "DVC_NO_ANALYTICS": "1"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(trial: pd.Series, folder: Path, cache: Path) -> Cost:
    """Run a trial's architecture and scheme as an experiment of DVC."""
    schemes = list(dict.fromkeys(["float32", trial["scheme"]]))
    settings = {"backbone": trial["backbone"], "quantization": schemes, "deploy": trial["scheme"]}
    found = cost("dvc", "exp", "run", "--temp", *set_param(settings), folder=folder, cache=cache)
    print(f"  {trial['backbone']} {trial['scheme']}: {found[0]:.0f} s, {found[1]:.0f} s computing", flush=True)
    return found


def measured_runs(table: pd.DataFrame, num_runs: int, folder: Path, cache: Path) -> list[Cost]:
    """Return costs of some runs, from cheap trials to dear ones."""
    trials = table.iloc[1:].sort_values("seconds", kind="stable")  # the first trial is what `dvc repro` has run
    if trials.empty:
        sys.exit("there is one trial only: give more --trials")
    middles = [int((i + 0.5) * len(trials) / num_runs) for i in range(num_runs)]
    return [run(trials.iloc[index], folder, cache) for index in dict.fromkeys(middles)]


def mean(costs: Sequence[Cost]) -> Cost:
    return sum(one[0] for one in costs) / len(costs), sum(one[1] for one in costs) / len(costs)


def show(title: str, found: Cost, digits: int = 0) -> None:
    print(f"{title:58}{found[0]:9.{digits}f}{found[1]:11.{digits}f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.search", description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3, help="runs that are measured")
    parser.add_argument("--takes", type=int, help="of each label, at least 3 (default: all)")
    parser.add_argument("--keep", type=Path, help="folder to keep the search's table, picture and study in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "project", Path(name) / "takes"
        folder.mkdir()
        prepare(folder, arguments.takes)
        cost("dvc", "init", "-q", "-f", folder=folder, cache=cache)
        repro = cost("dvc", "repro", folder=folder, cache=cache)
        other = Path(name) / "takes of the search"  # neither side gains from the other
        shutil.copytree(cache, other)
        wanted = ("--trials", str(arguments.trials))
        trials = cost("pipeline.tools", "search", *wanted, folder=folder, cache=other)
        print(f"{arguments.trials} trials: {trials[0]:.0f} s, {trials[1]:.0f} s computing; now runs of", flush=True)
        if arguments.keep:
            shutil.copytree(folder / "plots/search", arguments.keep, dirs_exist_ok=True)
            shutil.copy(folder / ".cache/search/study.sqlite3", arguments.keep)
        table = pd.read_csv(folder / "plots/search/table.csv").sort_values("trial")
        runs = measured_runs(table, arguments.runs, folder, cache)
    each = mean(runs)
    every = (len(table) * each[0], len(table) * each[1])
    print(f"\n{'':58}{'seconds':>9}{'computing':>11}")
    show("a first `dvc repro`, which both begin with", repro)
    show(f"{len(table)} trials of `make search`", trials)
    show(f"{len(table)} runs of `dvc exp run`, scaled from {len(runs)}", every)
    show("runs / trials", (every[0] / trials[0], every[1] / trials[1]), 1)


if __name__ == "__main__":
    main()
