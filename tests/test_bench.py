"""The benchmarks: each says what it takes, pages and remarks name none that is not there, and two run for real."""

import importlib
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from bench import input_types, kernels
from bench.heads import rows_of
from bench.schemes import Pictures
from pipeline.litert.head import append_head
from pipeline.litert.metadata import embed_labels
from pipeline.litert.quantizer import quantize
from tests import tiny_models
from tests.conftest import PROJECT

NAMES = sorted(path.stem for path in (PROJECT / "bench").glob("*.py"))
PAGES = [PROJECT / "README.md", *PROJECT.glob("docs/pages/**/*.md"), *PROJECT.glob("conf/**/*.yaml")]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
COMMANDS = sorted(set(re.findall(r"python -m bench\.\w+[^`]*", TEXT)))
OPTION = re.compile(r"--[a-z-]+")

Start = Callable[[str, str], str]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Start:
    """Give a function that starts a benchmark with arguments, to its end, and returns what it prints."""

    def started(name: str, arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments.split()])
        run = importlib.import_module(f"bench.{name}").main
        if arguments == "--help":
            with pytest.raises(SystemExit, match=r"^0$"):
                run()
        else:
            run()
        return capsys.readouterr().out

    return started


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_takes(name: str, start: Start) -> None:
    assert start(name, "--help").startswith(f"usage: python -m bench.{name} [-h]")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_in_pages_and_remarks_exist(command: str, start: Start) -> None:
    name = re.findall(r"bench\.(\w+)", command)[0]
    assert name in NAMES
    assert set(OPTION.findall(command)) <= set(OPTION.findall(start(name, "--help")))


def test_pages_name_every_benchmark() -> None:
    assert [name for name in NAMES if not any(f"bench.{name}" in command for command in COMMANDS)] == []


def test_benchmarks_that_run_stages_leave_none_out() -> None:
    """One that they do not know is missed by those behind it."""
    stages = list(yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    left_out = {"code", "check", "architecture", "backbone", "inspect"}
    assert list(importlib.import_module("bench.scale").STAGES) == [name for name in stages if name not in left_out]
    behind = stages[stages.index("quantize") : stages.index("evaluate") + 1]
    assert list(importlib.import_module("bench.finetune").BEHIND) == behind


@pytest.mark.slow
def test_frames_prints_a_row_for_each_contender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    printed = start("frames", "--seconds 1 --repeats 2 --runs 1 --only long")
    rows = re.findall(r"^long +rgb +(1/s|0\.2/s) +(ours|PyAV, all|ffmpeg) +([\d. ]+)$", printed, re.MULTILINE)
    assert [name for _, name, _ in rows] == 2 * ["ours", "PyAV, all", "ffmpeg"]
    assert all(float(seconds.split()[0]) > 0 for _, _, seconds in rows)


@pytest.mark.slow
def test_scale_runs_a_stage_on_what_it_makes_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    printed = start("scale", "--frames 80 --frames-per-take 2 --stages augment")
    (row,) = re.findall(r"^ +80  augment +([\d.]+) +([\d.]+) +(\d+)$", printed, re.MULTILINE)
    seconds, ms_per_frame, peak_megabytes = map(float, row)
    assert ms_per_frame * 80 / 1000 == pytest.approx(seconds, abs=0.06)  # both are rounded
    assert peak_megabytes > 20


def test_unknown_tells_apart_what_lies_apart() -> None:
    unknown = importlib.import_module("bench.unknown")
    generator = np.random.default_rng(0)
    num, length = 60, 12
    labels = np.arange(num) % 3
    centres = 4 * np.eye(length)
    vectors = (centres[labels] + generator.normal(0, 0.5, (num, length))).astype(np.float32)
    strangers = (centres[6] + generator.normal(0, 0.5, (20, length))).astype(np.float32)
    pictures = Pictures("made up", np.zeros((num, 1, 1, 3), np.uint8), labels, np.arange(num))
    table = unknown.score(rows_of([vectors], pictures), strangers, 1)
    assert list(table) == ["max softmax", "energy", "class means", "5 neighbours", "learned row"]
    assert table["learned row"]["strangers"] == table["class means"]["strangers"] == "1.000 ± 0.000"
    assert table["learned row"]["refused"] == "100.0 ± 0.0"
    assert {row["accuracy"] for row in table.values()} == {"100.0 ± 0.0"}
    assert all(0 <= float(row["held out"].split()[0]) <= 1 for row in table.values())


def test_input_types_tells_who_refuses_what() -> None:
    content = embed_labels(
        append_head(tiny_models.backbone(), *tiny_models.head()), list("abc"), name="n", description="d"
    )
    pictures = list(tiny_models.pictures(4, pixels=40))

    def refuses(model: bytes, rgbs: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise input_types.RefusedError("no bytes")

    every = [
        input_types.Runtime("LiteRT", input_types.in_python("litert")),
        input_types.Runtime("none", refuses),
        input_types.Runtime("at its size", input_types.in_python("litert"), is_scaled=True, num_frames=0),
    ]
    assert input_types.table({"float32": content}, every, pictures[:2], pictures[2:]) == [
        "| LiteRT | float32 | 1; 1, 100.0% | 1; 1, 100.0% |",
        "| none | float32 | refused: no bytes | refused: no bytes |",
        "| at its size | float32 | 1 | 1 |",
    ]


def test_kernels_counts_what_is_a_step_off() -> None:
    config = replace(tiny_models.SCHEMES["int4"], pointwise="convolution")
    content = quantize(tiny_models.backbone(num_features=64), config, tiny_models.pictures(60))
    shares = [kernels.steps_off(content, picture) for picture in tiny_models.pictures(5)]
    assert np.shape(shares) == (5, 1)
    if platform.machine() == "x86_64":
        assert 0 < np.mean(shares) < 0.2


def test_kernels_holds_each_set_against_xnnpack() -> None:
    content = quantize(tiny_models.backbone(num_features=64), tiny_models.SCHEMES["int8"], tiny_models.pictures(60))
    labels = np.arange(24) % 2
    inputs = tiny_models.pictures(24, seed=9)
    inputs[labels == 1] //= 4  # the dark ones
    pictures = Pictures("made up", inputs, labels, np.arange(24))
    rows = list(kernels.agreement(content, pictures, np.arange(24) >= 16, []))
    assert [row["kernels"] for row in rows] == ["XNNPACK here", "LiteRT's own here", "LiteRT's plain here"]
    assert (rows[0]["features"], rows[0]["same label"]) == ("bit-equal", "100.0")
    assert {row["accuracy"] for row in rows} == {"100.0"}
