"""The command `make sweep`, with DVC itself, in a repository whose only stage is quick."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from pipeline.choosing.architectures import names_of, num_multiply_adds
from pipeline.choosing.experiments import Experiment, file_of, metrics_at, metrics_of, run, run_interruptibly
from pipeline.choosing.inputs import fingerprint, refuse_what_git_does_not_know
from pipeline.config.gate import MicroLimits
from pipeline.config.sweep import SearchConfig, SweepConfig, search_config, sweep_config
from pipeline.errors import ConfigurationError, ModelError, PipelineError
from pipeline.files import layout, write_bytes, write_text
from pipeline.litert.head import append_head
from pipeline.litert.micro_costs import blank_micro_classifier
from pipeline.tools import sweep as module
from pipeline.tools.cli import viewfinder
from pipeline.tools.results import asked_head
from pipeline.tools.sweep import sweep
from pipeline.tools.sweep_table import Row
from tests import tiny_models
from tests.sandbox import Sandbox
from tests.test_mcu import int8_backbone

LITE0, LITE1, LITE2 = BACKBONES = [f"efficientnet_lite{i}" for i in range(3)]
PIXELS = 32

# Stands for all stages: it notes that it ran, and refuses Lite2.
EVALUATE = """\
import json, shutil, sys, pathlib
backbone, scheme, log = sys.argv[1:]
open(log, "a").write(f"{backbone} {scheme}\\n")
if backbone == "efficientnet_lite2":
    sys.exit("no such weights")
pixels = 32 if backbone.endswith("_32") else 224
metrics = {"scheme": scheme, "accuracy": 0.9 if pixels == 224 else 0.8, "take_accuracy": 1, "accuracy_drop": 0,
           "standard_error": 0.01, "scored_by": "crossval", "size_bytes": 1000 * pixels, "latency_ms": {"p50": 77},
           "peak_memory_bytes": 2**20, "num_threads": 1, "num_test_frames": 10, "num_test_takes": 2}
for folder in ("metrics/schemes", f"models/classifiers/{scheme}"):
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
pathlib.Path(f"metrics/schemes/{scheme}.json").write_text(json.dumps(metrics))
shutil.copy("data/videos/model", f"models/classifiers/{scheme}/model.tflite")
"""


def log_of(project: Sandbox) -> Path:
    return project.folder.parent / "log"


def runs(project: Sandbox) -> list[str]:
    return log_of(project).read_text().splitlines() if log_of(project).exists() else []


def stages(log: Path) -> dict[str, Any]:
    """Return what dvc.yaml says. There is one log, also for the copies of the project that DVC runs experiments in."""
    evaluate = {
        "matrix": {"scheme": "${quantization}"},
        "cmd": f"python evaluate.py ${{backbone}} ${{item.scheme}} {log}",
        "deps": ["data/videos"],
        "outs": [str(layout.model("${item.scheme}"))],
        "metrics": [{str(layout.metrics("${item.scheme}")): {"cache": False}}],
    }
    report = {"cmd": "mkdir -p pictures && echo > pictures/a.png", "deps": ["metrics"], "outs": ["pictures"]}
    return {"stages": {"evaluate": evaluate, "report": report}, "plots": ["pictures/a.png"]}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A fresh clone of a project that was run, with an edit of params.yaml that is not committed."""
    ran = Sandbox(tmp_path_factory.mktemp("sweep_tool") / "project")
    ran.copy("conf", "params.yaml", "requirements.lock", "requirements-dev.lock")
    ran.write("data/videos/model", append_head(int8_backbone(), *tiny_models.head()))
    ran.write("evaluate.py", EVALUATE)
    ran.write(".gitignore", "/.cache\n/plots\n/models\n/pictures\n")
    ran.write_yaml("dvc.yaml", stages(log_of(ran)))
    ran.begin()
    ran.repro()
    ran.commit()
    log_of(ran).unlink()
    clone = ran.clone("clone")  # dvc.lock knows what is not there
    clone.edit("# The one file", "# mine\n# The one file")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone.folder)
        for name, value in clone.environment.items():
            patch.setenv(name, value)
        yield clone


@pytest.fixture(autouse=True)
def no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not spend seconds on measuring; models of the same name are as fast as their turn."""
    measured = lambda models: {name: float(i + 1) for i, name in enumerate(models)}  # noqa: E731
    monkeypatch.setattr("pipeline.choosing.latency.measure_in_turns", measured)


@pytest.mark.slow
def test_a_sweep_compares_and_leaves_the_folder_as_it_was(
    repository: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    before = repository.output("git", "status", "--porcelain"), Path("params.yaml").read_text()
    sweep(SweepConfig([LITE0], [None, PIXELS], ["float32"]))
    assert (repository.output("git", "status", "--porcelain"), Path("params.yaml").read_text()) == before
    assert runs(repository) == [f"{LITE0} float32", f"{LITE0}_{PIXELS} float32"]
    table = pd.read_csv("plots/sweep/table.csv")
    assert table["backbone"].tolist() == [LITE0, f"{LITE0}_{PIXELS}"]
    assert table["accuracy"].tolist() == [0.9, 0.8]
    assert table["size_bytes"].tolist() == [224_000, 32_000]
    assert table["latency_ms_p50"].tolist() == [1, 2]  # not the 77 of metrics/
    assert table["num_multiply_adds"].tolist() == [407_000_000, round(407_000_000 * (PIXELS / 224) ** 2)]
    assert Path("plots/sweep/tradeoff.png").read_bytes().startswith(b"\x89PNG")
    told = capfd.readouterr()
    assert "-S 'quantization=[float32]' report\n" in told.err
    assert f"-S backbone={LITE0}_{PIXELS} -S" in told.err
    assert f"Chosen: {LITE0} float32: accuracy 0.900 at 1.0 ms" in told.out
    assert f"To use it: `backbone: {LITE0}` and `deploy: float32` in params.yaml" in told.out


@pytest.mark.slow
def test_what_is_there_is_not_run_again_and_what_fails_costs_no_other(
    repository: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    before = len(runs(repository))
    with pytest.raises(PipelineError, match=f"the experiment {LITE2}-[0-9a-f]{{8}} failed"):
        sweep(SweepConfig([LITE2, LITE0], [None], ["float32"]))
    assert runs(repository)[before:] == [f"{LITE2} float32"]
    told = capfd.readouterr()
    assert "# there already: dvc exp run --temp" in told.err
    assert f"Chosen: {LITE0} float32" in told.out


@pytest.mark.slow
def test_the_table_as_json_is_all_that_stdout_gets(repository: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    sweep(SweepConfig([LITE0], [None], ["float32"]), as_json=True)
    (row,) = json.loads(capfd.readouterr().out)
    assert (row["backbone"], row["accuracy"], row["latency_ms_p50"], row["is_on_front"]) == (LITE0, 0.9, 1.0, True)


@pytest.mark.slow
def test_limits_of_a_microcontroller_are_measured_on_experiments_that_are_there(
    repository: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    config = SweepConfig([LITE0], [None], ["float32", "int8"])
    sweep(config)
    before = len(runs(repository))
    repository.edit("max_flash_bytes: null", "max_flash_bytes: 100000")
    capfd.readouterr()
    sweep(config)
    repository.edit("max_flash_bytes: 100000", "max_flash_bytes: null")
    assert len(runs(repository)) == before
    told = capfd.readouterr().out
    flash_bytes = len(blank_micro_classifier(Path("data/videos/model").read_bytes()))
    assert f"  {flash_bytes:,}  " in told
    assert "1 of 2 keep gate.max_flash_bytes: 100,000" in told
    assert f"Chosen: {LITE0} int8" in told


@pytest.mark.slow
def test_metrics_and_files_of_experiments_are_read(repository: Sandbox) -> None:
    name = repository.output("git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps").split()[0]
    assert metrics_of([name, "another"])[name]["float32"]["scheme"] == "float32"
    assert file_of(name, str(layout.model("float32"))) == Path("data/videos/model").read_bytes()
    assert metrics_of(["another"]) == {}
    assert metrics_at("HEAD")["float32"]["accuracy"] == 0.9
    with pytest.raises(ConfigurationError, match=r"no metrics can be read at nowhere"):
        metrics_at("nowhere")
    message = f"model.tflite of the experiment {name} is not in DVC's cache (.|\n)*dvc exp remove {name}"
    with pytest.raises(ModelError, match=message):
        file_of(name, str(layout.model("float16")))  # which no experiment made


@pytest.mark.slow
def test_the_fingerprint_tells_apart_what_gives_other_metrics(
    repository: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, first = yaml.safe_load(Path("params.yaml").read_text()), fingerprint()
    text = Path("params.yaml").read_text()
    write_text(Path("params.yaml"), yaml.safe_dump(params | {"choose": {"latency_ms": 1}, "backbone": LITE1}))
    assert fingerprint() == first
    write_text(Path("params.yaml"), yaml.safe_dump(params | {"resize": "pad"}))
    assert fingerprint() != first
    write_text(Path("params.yaml"), text)
    write_bytes(Path("data/videos/more"), b"another take")
    assert fingerprint() != first
    with pytest.raises(PipelineError, match=r"data/videos/more in neither Git nor DVC"):
        refuse_what_git_does_not_know()
    Path("data/videos/more").unlink()
    assert fingerprint() == first
    write_text(Path("data/labels.csv"), "take,head,label\n")  # `check` makes it where it is missing
    refuse_what_git_does_not_know()
    write_text(Path("params.yaml"), yaml.safe_dump(params | {"heads": {"material": "one"}}))
    with pytest.raises(PipelineError, match=r"data/labels\.csv in neither Git nor DVC"):
        refuse_what_git_does_not_know()
    write_text(Path("params.yaml"), text)
    Path("data/labels.csv").unlink()


def row(backbone: str, accuracy: float, material: float) -> Row:
    heads = {
        "material": {"accuracy": material, "standard_error": 0.0, "num_test_frames": 8, "num_test_takes": 2},
        "parts": {"accuracy": 0.75, "standard_error": 0.01, "num_test_frames": 10, "num_test_takes": 2},
    }
    return Row(backbone, 224, "float32", accuracy, 0.0, 1.0, 0.0, 2**20, 5.0, 2**20, None, True, 1, 10, 2, "x", heads)


@pytest.mark.parametrize(
    ("head", "chosen", "told"),
    [
        (None, LITE0, "(by the first head; --head material or --head parts chooses by another)"),
        ("material", LITE1, "(by the head material; `accuracy`, `by take` and `drop` are the first head's)"),
    ],
)
def test_models_are_compared_by_the_head_that_is_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], head: str | None, chosen: str, told: str
) -> None:
    write_text(Path("params.yaml"), "choose: {latency_ms: 10}\n")
    module.tell([row(LITE0, 0.9, 0.7), row(LITE1, 0.8, 0.95)], MicroLimits(), head, as_json=False)
    said = capsys.readouterr().out
    accuracy = "accuracy" if head is None else "accuracy of material"
    assert f"Chosen: {chosen} float32: {accuracy} {0.9 if head is None else 0.95:.3f}" in said
    assert f"Best with at most 10 ms: {chosen} float32 ({accuracy} 0.9" in said
    assert told in said
    assert f"2 models, scored on {10 if head is None else 8} frames of 2 takes" in said
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert any(line.startswith("backbone pixels scheme accuracy by take drop material parts size") for line in lines)
    (best,) = (line for line in lines if line.startswith(f"{LITE1} "))
    assert "0.800 ± 0.000 1.000 +0.000 0.950 ± 0.000 0.750 ± 0.010 1.00 MiB" in best
    table = pd.read_csv("plots/sweep/table.csv")
    assert table["backbone"].tolist()[0] == chosen
    assert sorted(table["accuracy_material"]) == [0.7, 0.95]
    assert "heads" not in table


def test_with_one_head_there_is_nothing_to_choose_a_head_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(Path("params.yaml"), "choose: {}\n")
    module.tell([replace(row(LITE0, 0.9, 0.7), heads={})], MicroLimits(), as_json=False)
    assert "head" not in capsys.readouterr().out


def test_a_head_that_the_project_does_not_have_is_refused() -> None:
    params: dict[str, Any] = {"heads": {"material": "one"}}
    assert [asked_head(params, name) for name in (None, "probabilities", "material")] == [None, None, "material"]
    with pytest.raises(ConfigurationError, match=r"(?s)--head parts.*project's heads: probabilities, material\n"):
        asked_head(params, "parts")
    with pytest.raises(ConfigurationError, match=r"(?s)--head parts.*project's heads: probabilities\n"):
        asked_head({}, "parts")  # as params.yaml of an earlier version


def test_a_folder_without_git_is_refused(folder: Path) -> None:
    with pytest.raises(PipelineError, match="no commit of Git here"):
        refuse_what_git_does_not_know()


@pytest.mark.slow
def test_an_unknown_backbone_is_refused_before_anything_runs(repository: Sandbox) -> None:
    before = runs(repository)
    with pytest.raises(PipelineError, match="backbone: resnet"):
        sweep(SweepConfig(["resnet"], [None], ["float32"]))
    assert runs(repository) == before


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_reaches_an_experiment_only_in_its_own_checkout(signal_number: int, tmp_path: Path) -> None:
    script = f"""
import pathlib, time
said = "while it looks through the project"
try:
    time.sleep(1.5)
    said = "in a stage"
    pathlib.Path({str(tmp_path / "away")!r}).write_text("")
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path({str(tmp_path / "log")!r}).write_text(said)
"""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as behind `nohup ... &`
    threading.Timer(0.5, os.kill, [os.getpid(), signal_number]).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_interruptibly([sys.executable, "-c", script], (tmp_path / "away").exists)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "log").read_text() == "in a stage"


def test_commands_are_those_that_one_would_type() -> None:
    experiment = Experiment("x", {"backbone": LITE1, "quantization": ["float32", "int8"]}, "report")
    assert " ".join(experiment.command()) == (
        f"dvc exp run --temp --name x -S backbone={LITE1} -S quantization=[float32,int8] report"
    )


def test_names_of_all_backbones_at_all_resolutions() -> None:
    assert names_of([LITE0, f"{LITE1}_160"], [None, 192]) == [LITE0, f"{LITE0}_192", f"{LITE1}_160"]


def test_multiply_adds_are_published_or_scaled_by_the_area() -> None:
    assert num_multiply_adds(LITE0) == (407_000_000, True)
    assert num_multiply_adds(f"{LITE0}_112") == (round(407_000_000 / 4), False)


def test_the_projects_own_lists_are_valid() -> None:
    assert sweep_config().backbones
    assert search_config().num_trials > 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (([], [None], ["float32"]), r"backbones: \[\]"),
        (([LITE0, LITE0], [None], ["float32"]), "each once"),
        (([LITE0], [16], ["float32"]), "input_pixels: 16"),
        (([LITE0], [None], ["int8"]), "float32 among them"),
    ],
)
def test_lists_that_cannot_be_swept_are_refused(values: tuple[list[Any], list[Any], list[Any]], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        SweepConfig(*values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed: -1"),
        ({"num_trials": 0}, "num_trials: 0"),
    ],
)
def test_numbers_that_cannot_be_searched_by_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        SearchConfig([LITE0], [None], ["float32"], **({"num_trials": 2, "seed": 0} | change))


@pytest.mark.slow
def test_the_command_tells_what_is_wrong(repository: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sweep_config", lambda: SweepConfig([], [None], ["float32"]))
    done = CliRunner().invoke(viewfinder, ["sweep"])
    assert done.exit_code == ConfigurationError.exit_status
    assert "sweep: backbones: []" in done.stderr


# Sleeps in a stage, and notes what ended it.
SLOW = """\
import pathlib, sys, time
log = pathlib.Path(sys.argv[1])
log.write_text("began")
try:
    time.sleep(60)
except KeyboardInterrupt:
    log.write_text("interrupted")
    raise
"""


@pytest.mark.slow
def test_ctrl_c_ends_an_experiment_of_dvc_and_leaves_params_as_they_were(repository: Sandbox, tmp_path: Path) -> None:
    before, log = Path("params.yaml").read_text(), tmp_path / "log"
    write_text(Path("evaluate.py"), SLOW.replace("sys.argv[1]", repr(str(log))))

    def interrupt() -> None:
        while not log.exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            run(Experiment("slow", {"backbone": LITE1}, "evaluate"))
    finally:
        write_text(Path("evaluate.py"), EVALUATE)
    assert log.read_text() == "interrupted"
    assert Path("params.yaml").read_text() == before
    assert metrics_of(["slow"]) == {}
