"""What fine-tuning and pruning give and cost: `python -m bench.finetune [--splits 3] [--pruning-percent 50]`.

On the project's frames (those of a finished `dvc repro`, else they are made in the temporary folder) runs the stages
from `augment` to `evaluate`, as dvc.yaml does, with three settings: the head alone, fine-tuning, and fine-tuning with
pruning. Everything else is what params.yaml says. Each is repeated on several splits (the takes of
a label change places), as few takes are tested in one. A cell is the mean over splits and its standard error; what each
split gave goes to standard error.
"""

import argparse
import copy
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.add_one_take import command, project_params, write_params
from bench.schemes import latencies_ms, workspace
from pipeline.files import layout
from pipeline.litert.flatbuffer import operator_name, read_model
from pipeline.litert.interpreter import Model
from pipeline.takes.cache import CACHE_VARIABLE, cache_folder
from pipeline.takes.splits import TEST, TRAIN, VALIDATION, Block, read_takes, write_splits

PROJECT = Path(__file__).resolve().parents[1]
SCHEMES = ("float32", "int8")
BEHIND = ("quantize", "bottlenecks", "train", "crossval", "multihead", "assemble", "evaluate")
COLUMNS = {
    "accuracy": "percent of test frames that are right",
    "by take": "percent of test takes that are right when their frames vote",
    "log loss": "on test frames, lower is better",
    "MiB": "model.tflite as it lies in the app",
    "zipped": "the same compressed, as it is downloaded",
    "zeros": "percent of the weights of all full convolutions that are zero, in the shipped file",
    "ms": "median latency on this machine, one thread, the models taking turns",
    "tuning": "seconds of computing in the stage finetune, all processors together",
    "rest": "the same of the stages behind it, for both schemes together",
}


def settings(params: dict[str, Any], pruning_percent: float) -> dict[str, dict[str, Any]]:
    """Return what params.yaml holds with each setting."""
    found = {}
    for name, mode, percent in (
        ("head", "head", 0),
        ("finetune", "finetune", 0),
        (f"finetune, {pruning_percent:g}% pruned", "finetune", pruning_percent),
    ):
        found[name] = copy.deepcopy(params)
        found[name]["training"]["mode"] = mode
        found[name]["finetune"]["pruning_percent"] = percent
    return found


def rotated(source: Path, number: int, num_takes: int | None) -> list[Block]:
    """Return a split of whole takes: of each label one take is tested, one validates, and both differ by number."""
    blocks: list[Block] = []
    by_label: dict[str, list[Block]] = {}
    for take in read_takes(source / layout.SPLITS):
        whole = replace(take.blocks[0], start=0.0, end=1.0)
        by_label.setdefault(take.label, []).append(whole)
    for of_label in by_label.values():
        takes = sorted(of_label, key=lambda block: block.sha256)[:num_takes]
        parts = {number % len(takes): TEST, (number + 1) % len(takes): VALIDATION}
        blocks += [replace(block, part=parts.get(i, TRAIN)) for i, block in enumerate(takes)]
    return blocks


def prepare(folder: Path, source: Path, params: dict[str, Any], blocks: list[Block]) -> None:
    """Make a project that looks like one after the stage `backbone`, from the frames and the backbone of another."""
    for path in (layout.FRAMES, layout.CALIBRATION, layout.CONVERTED_BACKBONE):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(source / path)
    write_splits(folder / layout.SPLITS, blocks)
    write_params(folder, params)


def run(stage: str, folder: Path, scheme: str = "float32") -> float:
    """Run a stage and return the seconds that processors computed for it, which a busy machine does not change."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), CACHE_VARIABLE: str(cache_folder().absolute())}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command(stage, scheme), cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{stage} failed:\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Run all stages and return a row for each scheme."""
    run("augment", folder)
    tuning = run("finetune", folder)
    rest = sum(run(stage, folder, scheme) for stage in BEHIND for scheme in SCHEMES)
    found = [json.loads((folder / layout.evaluation(scheme)).read_text(encoding="utf-8")) for scheme in SCHEMES]
    return {
        metrics["scheme"]: {
            "accuracy": 100 * metrics["test"]["accuracy"],  # what leads is of cross-validation in one mode alone
            "by take": 100 * metrics["test"]["take_accuracy"],
            "log loss": metrics["test"]["log_loss"],
            "MiB": metrics["size_bytes"] / 2**20,
            "zipped": metrics["compressed_size_bytes"] / 2**20,
            "zeros": zero_percent((folder / layout.model(metrics["scheme"])).read_bytes()),
            "tuning": tuning,
            "rest": rest,
        }
        for metrics in found
    }


def zero_percent(content: bytes) -> float:
    """Return how many weights of the full convolutions of a model are zeros, in percent."""
    model = read_model(content)
    graph = model.subgraphs[0]
    kernels = [graph.tensors[op.inputs[1]] for op in graph.operators if operator_name(model, op) == "CONV_2D"]
    dtypes = {0: "<f4", 9: "i1"}  # schema.TensorType
    values = [np.asarray(model.buffers[k.buffer].data, np.uint8).view(dtypes[k.type]) for k in kernels]
    return 100 * sum(int((value == 0).sum()) for value in values) / sum(value.size for value in values)


def summary(values: Sequence[float], decimals: int) -> str:
    """Return the mean, and its standard error where there are several values that differ."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0
    return f"{np.mean(values):.{decimals}f}" + (f" ± {error:.{decimals}f}" if error > 0 else "")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.finetune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=3, help="how many splits (default: %(default)s)")
    parser.add_argument("--pruning-percent", type=float, default=50, help="default: %(default)s")
    parser.add_argument("--takes", type=int, help="of each label, at least 3 (default: all)")
    parser.add_argument("--epochs", type=int, help="of fine-tuning (default: as params.yaml says)")
    arguments = parser.parse_args()
    variants = settings(project_params(), arguments.pruning_percent)
    if arguments.epochs:
        for params in variants.values():
            params["finetune"]["epochs"] = arguments.epochs
    source = workspace()
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    models: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for split in range(arguments.splits):
            for name, params in variants.items():
                folder = Path(temporary) / f"{split} {name}"
                prepare(folder, source, params, rotated(source, split, arguments.takes))
                for scheme, row in measure(folder).items():
                    figures = ", ".join(f"{key} {value:.3g}" for key, value in row.items())
                    print(f"split {split}, {name}, {scheme}: {figures}", file=sys.stderr, flush=True)
                    rows.setdefault((name, scheme), []).append(row)
                    models[f"{name} {scheme}"] = (folder / layout.model(scheme)).read_bytes()
    pixels = Model(next(iter(models.values()))).input_pixels
    noise = np.random.default_rng(0).integers(0, 256, (pixels, pixels, 3), np.uint8)
    latency = latencies_ms(models, noise)
    decimals = {"accuracy": 1, "by take": 1, "log loss": 3, "MiB": 2, "zipped": 2, "zeros": 1, "tuning": 0, "rest": 0}
    table = {
        (name, scheme): {key: summary([row[key] for row in found], places) for key, places in decimals.items()}
        | {"ms": f"{latency[f'{name} {scheme}']:.1f}"}
        for (name, scheme), found in rows.items()
    }
    print(pd.DataFrame.from_dict(table, orient="index")[list(COLUMNS)].to_string(), end="\n\n")
    print("\n".join(f"  {name:9} {meaning}" for name, meaning in COLUMNS.items()))


if __name__ == "__main__":
    main()
