"""The command `viewfinder` as a whole: where it acts, how it ends, how fast it answers, how it is installed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.errors import ConfigurationError
from pipeline.files import write_text
from pipeline.takes.cache import CACHE_VARIABLE, TakeCache
from pipeline.tools.cli import viewfinder
from pipeline.tools.tool import Tool
from tests.conftest import PROJECT

COMMANDS = {
    "summary",
    "score",
    "predict",
    "arm64",
    "trainable",
    "coreml",
    "onnx",
    "mcu",
    "federate",
    "pretrained",
    "try",
    "film",
    "sweep",
    "search",
    "compare",
    "report",
    "import",
    "cache",
    "clean",
    "completion",
}


def start(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the console script's function, as a process in another folder."""
    code = "import sys; from pipeline.tools.entry import start; sys.argv[0] = 'viewfinder'; start()"
    changed = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONSAFEPATH": "1"} | environment
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=changed, capture_output=True, text=True, check=False)


def test_every_command_has_a_line_of_help_that_is_not_cut_off() -> None:
    told = CliRunner().invoke(viewfinder, ["--help"], terminal_width=80).stdout
    assert set(viewfinder.commands) == COMMANDS
    assert "..." not in told.replace("[ARGS]...", "")
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S.*\.$", told, re.MULTILINE)


def test_help_waits_for_nothing_heavy() -> None:
    code = "import sys, pipeline.tools.cli; print([name for name in sys.modules if '.' not in name])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert "'click'" in loaded
    for heavy in ("numpy", "hydra", "omegaconf", "dvc", "pandas", "tensorflow", "matplotlib", "optuna"):
        assert f"'{heavy}'" not in loaded


def test_outside_a_project_commands_say_so_and_help_helps(folder: Path) -> None:
    for name in COMMANDS - {"score", "predict", "completion", "cache", "import"}:
        done = CliRunner().invoke(viewfinder, [name])
        assert done.exit_code == ConfigurationError.exit_status
        assert f"{name}: no dvc.yaml and no params.yaml in {folder}\n" in done.stderr
        assert CliRunner().invoke(viewfinder, [name, "--help"]).exit_code == 0
    write_text(Path("dvc.yaml"), "")
    assert "cache show: no params.yaml in" in CliRunner().invoke(viewfinder, ["cache", "show"]).stderr


def test_the_project_in_the_current_folder_brings_its_own_code(folder: Path) -> None:
    assert start("--help", folder=folder).stdout.startswith("Usage: viewfinder [OPTIONS] COMMAND")  # the installed one
    code = "print('the code of', __file__)\n"
    for name, content in {
        "pipeline/__init__.py": "",
        "pipeline/tools/__init__.py": "",
        "pipeline/tools/__main__.py": code,
    }.items():
        write_text(folder / name, content)
    assert start("--help", folder=folder).stdout.startswith("Usage: viewfinder")  # a folder of that name is no project
    write_text(folder / "dvc.yaml", "")
    assert start("--help", folder=folder).stdout == f"the code of {folder / 'pipeline/tools/__main__.py'}\n"


def test_the_module_is_the_command(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.tools", "-h"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: viewfinder [OPTIONS]")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = CliRunner().invoke(viewfinder, ["completion", shell])
    assert done.exit_code == 0, done.stderr
    assert "_VIEWFINDER_COMPLETE=" in done.stdout.replace("env _", "_")


def test_options_and_their_values_are_completed(folder: Path) -> None:
    words = {"COMP_WORDS": "viewfinder score m d --runtime ", "COMP_CWORD": "5"}
    done = start(folder=folder, _VIEWFINDER_COMPLETE="bash_complete", **words)
    assert done.stdout.split() == ["plain,litert", "plain,reference", "plain,mediapipe", "plain,arm64"]


def test_ctrl_c_ends_it_with_130_and_without_a_traceback() -> None:
    code = "import signal; from pipeline.tools.tool import Tool\n"
    code += "Tool('wait', callback=lambda: signal.raise_signal(signal.SIGINT), needs_project=False)(args=[])\n"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "\nwait: interrupted\n")


def test_ctrl_c_while_modules_are_imported(folder: Path) -> None:
    write_text(folder / "viewfinder", "import sys, time, pipeline\nprint('ready', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "viewfinder"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1] == "\ninterrupted\n"
    assert process.returncode == 130


def test_a_full_disk_is_told_as_what_it_is(folder: Path) -> None:
    def fill() -> None:
        raise OSError(28, "No space left on device")

    done = CliRunner().invoke(Tool("fill", callback=fill, needs_project=False), [])
    assert "fill: no space left on the disk" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m pipeline.tools completion zsh | true"
    done = subprocess.run(command, shell=True, cwd=PROJECT, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == ""


def test_room_is_made_in_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        write_text(Path(name), "{}\n")
    monkeypatch.setenv(CACHE_VARIABLE, str(folder / "takes"))
    for digit in "ab":
        TakeCache(folder / "takes").put(digit * 64, b"result")
    shown = CliRunner().invoke(viewfinder, ["cache", "show"]).stdout
    assert shown == f"{folder / 'takes'}: 2 results, 0.00 GB of at most 20.00 GB\n"
    made = CliRunner().invoke(viewfinder, ["cache", "make-room", "--max-bytes", "0"]).stdout
    assert made == f"{folder / 'takes'}: 0 results, 0.00 GB of at most 0.00 GB; 2 removed (0.00 GB)\n"


def test_the_package_names_script_and_code() -> None:
    found = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    assert found["project"]["scripts"] == {"viewfinder": "pipeline.tools.entry:start"}
    assert found["tool"]["setuptools"]["packages"]["find"]["include"] == ["pipeline", "pipeline.*"]
    assert found["tool"]["distutils"]["build"]["build-base"].startswith(".cache/")


def test_the_makefile_explains_every_target_and_starts_tools_by_their_command() -> None:
    text = (PROJECT / "Makefile").read_text(encoding="utf-8")
    phony = text.split(".PHONY:")[1].replace("\\\n", " ").splitlines()[0].split()
    told = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[1] for line in told.splitlines()] == phony
    used = set(re.findall(r"\$\(BIN\)/viewfinder ([\w-]+)", text))
    of_files = {"score", "predict", "import", "completion", "film", "pretrained"}
    assert used == COMMANDS - of_files - {"arm64", "trainable", "coreml", "onnx", "mcu", "federate"}
    assert not re.search(r"-m pipeline\.(tools|choosing|score)", text)


def test_a_project_that_was_moved_with_its_environment_is_told_so(tmp_path: Path) -> None:
    project = tmp_path / "before it moves"
    project.mkdir()
    shutil.copy(PROJECT / "Makefile", project)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")], check=True)

    def told(folder: Path) -> str:
        done = subprocess.run(["make", "help"], cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert "make repro" in told(project)
    assert f"{project}/.venv, which is not there. Remove it" in told(project.rename(tmp_path / "moved"))
