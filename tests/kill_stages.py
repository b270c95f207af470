"""Kills a stage at random moments: `python -m tests.kill_stages STAGE NUM_KILLS SEED` in a folder made by `prepare`.

Each run is a child process, forked after all imports, so that the kills fall into the work. A stage that works in
several threads or processes is killed after a random time, or when an output takes its name. One of a few milliseconds
kills itself at a random call of the operating system, which hits however slow the machine is. After every kill each
output must be whole or absent; after the last, a run must give what an undisturbed run gave, and leave nothing beside.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from pipeline.architecture import architecture
from pipeline.assemble import assemble
from pipeline.augment import augment
from pipeline.bottlenecks import bottlenecks
from pipeline.config.architecture import ArchitectureStage
from pipeline.config.assemble import AssembleStage
from pipeline.config.augment import AugmentStage
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.config.crossval import CrossvalConfig, CrossvalStage
from pipeline.config.deploy import DeployStage
from pipeline.config.engine import EngineConfig
from pipeline.config.frames import FramesConfig, FramesStage
from pipeline.config.gate import GateConfig, GateStage
from pipeline.config.multihead import MultiheadStage
from pipeline.config.quantize import QuantizeStage
from pipeline.config.report import ReportConfig, ReportStage
from pipeline.config.split import SplitConfig, SplitStage
from pipeline.crossval import crossval
from pipeline.deploy import deploy
from pipeline.files import layout, sha256_of_bytes, sha256_of_file, write_bytes, write_text
from pipeline.frames import frames
from pipeline.gate import gate
from pipeline.heads.head_file import Head
from pipeline.litert.quantizer import quantize as quantize_backbone
from pipeline.multihead import multihead
from pipeline.quantize import quantize
from pipeline.report import report
from pipeline.split import split
from pipeline.takes.cache import cache_folder
from pipeline.takes.splits import PARTS, Block, write_splits
from tests import tiny_models, tiny_project, tiny_results
from tests.clips import write_clip
from tests.test_augment import ALL
from tests.test_takes import table

Stages = dict[str, tuple[Callable[[], None], Sequence[Path]]]
FRAMES = FramesConfig(per_second=20, width=200, jpeg_quality=95)


def long_stages(engine: EngineConfig) -> Stages:
    """Return the stages that map takes to takes, each with its outputs."""
    float32 = BottlenecksStage("stretch", tiny_models.SCHEMES["float32"], engine)
    return {
        "frames": (partial(frames, FramesStage(FRAMES, engine)), [layout.FRAMES]),
        "augment": (partial(augment, AugmentStage(ALL, engine)), [layout.AUGMENTED]),
        "bottlenecks": (partial(bottlenecks, float32), [layout.bottlenecks("float32")]),
    }


STAGES = long_stages(tiny_project.ENGINE)


def head_stages(engine: EngineConfig) -> Stages:
    """Return the stages whose folds an engine trains, each with its outputs; `name_parts` writes what they read."""
    common = (tiny_project.TRAINING, tiny_project.UNKNOWN, CrossvalConfig(3, [50], 10), engine)
    heads = {"shade": "one", "parts": "many"}
    return {
        "crossval": (
            partial(crossval, CrossvalStage("float32", *common)),
            [
                *(layout.crossval_figures("float32"), layout.crossval_predictions("float32")),
                *(layout.crossval_probabilities("float32"), layout.learning_curve("float32")),
                layout.crossval_unknown("float32"),
            ],
        ),
        "multihead": (
            partial(multihead, MultiheadStage("float32", heads, *common)),
            [layout.further_figures("float32"), layout.further_heads("float32"), layout.further_plots("float32")],
        ),
    }


def name_parts() -> None:
    """Answer what the takes of `make_clips` show, for heads beside the first."""
    rows = [("cup", "a", "dark", "rim"), ("cup", "b", "light", "handle")]
    rows += [("rote Möhre", "a", "dark", "handle"), ("rote Möhre", "b", "light", "rim")]
    lines = [
        line
        for label, name, shade, part in rows
        for line in (f"{label}/{name}.mp4,shade,{shade}", f"{label}/{name}.mp4,parts,{part}")
    ]
    write_text(layout.LABELS, "\n".join(["take,head,label", *lines, ""]))


def named_after(path: Path, _name: str) -> pa.RecordBatchReader:
    """Return a table that depends on a file's content alone."""
    return table(path.read_text(encoding="utf-8")).to_reader()


def assemble_tiny() -> None:
    """Put a head that was never trained on the backbone, sparing TensorFlow."""

    def never_trained(_: Path) -> Head:
        weights, bias = tiny_models.head(num_labels=2)
        return Head(weights, bias, tiny_project.LABELS)

    tiny_project.have_no_further_heads("int8")
    with mock.patch("pipeline.assemble.read_head", never_trained):
        assemble(AssembleStage(tiny_project.BACKBONE.name, tiny_models.SCHEMES["int8"]))


SYSTEM_MODULES = {"posix", "fcntl", "_io"}
NO_LIMITS = GateConfig("figure", *[None] * 10)
# These work in one thread. What runs TensorFlow, and `evaluate`, whose output tells how long it took, are not here.
SHORT_STAGES: Stages = {
    "split": (partial(split, SplitStage(SplitConfig(20, 20, 5, []))), [layout.SPLITS]),
    "architecture": (partial(architecture, ArchitectureStage(tiny_project.BACKBONE)), [layout.ARCHITECTURE]),
    "quantize": (
        partial(quantize, QuantizeStage("stretch", tiny_models.SCHEMES["float16"])),
        [layout.backbone("float16"), layout.calibration_record("float16")],
    ),
    "assemble": (assemble_tiny, [layout.model("int8"), layout.labels("int8")]),
    "report": (partial(report, ReportStage("int8", ["float32", "int8"], ReportConfig(10, 4))), [layout.PICTURES]),
    "gate": (partial(gate, GateStage("int8", ["float32", "int8"], NO_LIMITS)), [layout.GATE]),
    "deploy": (
        partial(deploy, DeployStage("int8", "stretch", "uint8", tiny_project.BACKBONE.name)),
        [layout.DEPLOYED, layout.DEPLOYED_METRICS],
    ),
}


def prepare(stage: str) -> None:
    """Write what a stage reads."""
    if stage in (*STAGES, "split"):
        make_clips()
        for earlier in takewhile(lambda other: other != stage, STAGES if stage in STAGES else ()):
            STAGES[earlier][0]()
        write_bytes(layout.backbone("float32"), tiny_models.backbone())
        return
    tiny_project.make()
    write_bytes(
        layout.backbone("int8"),
        quantize_backbone(tiny_models.backbone(), tiny_models.SCHEMES["int8"], tiny_models.pictures(20)),
    )
    tiny_results.write_scheme("float32", wrong=[1])
    tiny_results.write_scheme("int8", wrong=[1, 4, 8])
    gate(GateStage("int8", ["float32", "int8"], NO_LIMITS))


def make_clips(num_frames: int = 60) -> None:
    """Write two labels of two clips each, every clip cut into all parts, and what `bottlenecks` needs besides."""
    tiny_project.make()
    blocks = []
    for number, name in enumerate(("cup/a.mp4", "cup/b.mp4", "rote Möhre/a.mp4", "rote Möhre/b.mp4")):
        draw = np.random.default_rng(number)
        pictures = [draw.integers(0, 256, (30, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(num_frames)]
        path = write_clip(layout.VIDEOS / name, pictures, rate=20)
        for start, part in zip((0.0, 0.4, 0.7), PARTS, strict=True):
            end = {0.0: 0.4, 0.4: 0.7}.get(start, 1.0)
            label, take = name.split("/")
            blocks.append(Block(label, take, str(path), sha256_of_file(path), part, start, end))
    write_splits(layout.SPLITS, blocks)
    for folder in (layout.FRAMES, layout.AUGMENTED):
        shutil.rmtree(folder)


def main(stage: str, num_kills: int, seed: int) -> None:
    """Run, kill, compare; print how many runs were killed before they ended."""
    run, outputs = (STAGES | SHORT_STAGES)[stage]
    draw = random.Random(seed)
    kill = killing_by_call(run, draw) if stage in SHORT_STAGES else killing_by_time(run, draw, outputs[0])
    whole = {path: digest(path) for path in outputs}
    num_killed = 0
    for _ in range(num_kills):
        for path in [cache_folder(), *outputs]:
            if draw.random() < 0.5:
                remove(path)
        num_killed += kill()
        for path in outputs:
            assert digest(path) in (None, whole[path]), f"{path} is neither whole nor absent"
    finish(begin(run))
    assert {path: digest(path) for path in outputs} == whole, f"{stage} gave something else after {num_kills} kills"
    left = [path for output in outputs if output.is_dir() for path in output.parent.glob(f".{output.name}.*")]
    assert not left, f"{left} left behind"
    sys.stdout.write(f"{num_killed} killed\n")


def killing_by_time(run: Callable[[], None], draw: random.Random, output: Path) -> Callable[[], bool]:
    """Return a function that runs a stage, kills it, and tells if the stage had not ended before."""
    seconds = min(undisturbed(run), undisturbed(run))

    def kill() -> bool:
        child = begin(run)
        if draw.random() < 0.3:
            wait_for_output(child, output)  # the moment at which it takes its name
        else:
            time.sleep(draw.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])

    return kill


def killing_by_call(run: Callable[[], None], draw: random.Random) -> Callable[[], bool]:
    """Return the same for a stage that kills itself just before or after its n-th call of the operating system."""
    num_events = Path("num_events")
    remove(cache_folder())
    finish(begin(lambda: num_events.write_text(str(count_system_events(run)))))
    last = int(num_events.read_text())

    def kill() -> bool:
        deadly = draw.randint(1, last)
        return os.WIFSIGNALED(os.waitpid(begin(lambda: count_system_events(run, deadly)), 0)[1])

    return kill


def count_system_events(run: Callable[[], None], deadly: int | None = None) -> int:
    """Run a stage and return how often its main thread called the operating system and came back, or die at one."""
    num_events = 0

    def count(_: FrameType, event: str, function: Any) -> None:
        nonlocal num_events
        modules = {getattr(function, "__module__", None), type(getattr(function, "__self__", None)).__module__}
        if event.startswith("c_") and modules & SYSTEM_MODULES:
            num_events += 1
            if num_events == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return num_events


def undisturbed(run: Callable[[], None]) -> float:
    """Run a stage with an empty cache and return the seconds that it took."""
    remove(cache_folder())
    started = time.monotonic()
    finish(begin(run))
    return time.monotonic() - started


def begin(run: Callable[[], object]) -> int:
    """Start a stage in a child process and return its id."""
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        run()
    except BaseException:
        os._exit(1)
    os._exit(0)


def wait_for_output(child: int, output: Path) -> None:
    """Wait until there is another output than now, or the child has ended; its status stays to be asked for."""
    before = inode(output)
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if inode(output) not in (None, before):
            return


def inode(path: Path) -> int | None:
    """Return what tells a file or folder from others of the same name, or None if there is nothing."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def finish(child: int) -> None:
    """Wait for a child process that must succeed."""
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"the stage ended with status {status}"


def die(marker: Path, num_deaths: int, name: str) -> pa.RecordBatchReader:
    """Kill this process the first times, counting in a file, then give a table."""
    num_before = len(marker.read_text()) if marker.exists() else 0
    if num_before < num_deaths:
        marker.write_text("x" * (num_before + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return table(name).to_reader()


def digest(path: Path) -> str | None:
    """Return a hash of a file, or of the names and contents of a folder's files; None if there is nothing."""
    if not path.exists():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return sha256_of_bytes("".join(f"{file} {sha256_of_file(file)}\n" for file in files).encode())


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
