"""What happens when the machine fails or a person interrupts: nothing half made, nothing lost, no traceback."""

import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config.engine import EngineConfig
from pipeline.errors import FullDiskError, PipelineError
from pipeline.files import layout, write_bytes, write_text
from pipeline.files.os_errors import telling_full_disk
from pipeline.takes.cache import TakeCache
from pipeline.takes.engines import LocalEngine
from pipeline.takes.jobs import TakeJob
from pipeline.takes.staging import staged
from tests import kill_stages, tiny_project
from tests.conftest import PROJECT
from tests.test_engines import needs_ray
from tests.test_takes import job, run

# `NUM_KILLS=300 pytest tests/test_faults.py` for a long run.
NUM_KILLS = int(os.environ.get("NUM_KILLS", "10"))
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "VIEWFINDER_CACHE"} | {
    "PYTHONPATH": f"{PROJECT}{os.pathsep}."
}


def begin(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        start_new_session=True,
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*kill_stages.STAGES, *kill_stages.SHORT_STAGES])
def test_a_stage_that_is_killed_again_and_again_ends_with_the_same_bytes(folder: Path, stage: str) -> None:
    kill_stages.prepare(stage)
    num_kills = NUM_KILLS if stage in kill_stages.STAGES else NUM_KILLS // 3 + 1
    with begin("-m", "tests.kill_stages", stage, str(num_kills), "0", folder=folder) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert int(output.split()[0]) >= 1


# A stage with a take that is done at once and two that would take a day.
INTERRUPTED = """
import sys, time
from functools import partial
from pathlib import Path
import pyarrow as pa
from pipeline.config.application import run_stage
from pipeline.config.frames import FramesStage
from pipeline.takes.cache import TakeCache
from pipeline.config.engine import EngineConfig
from pipeline.takes.engines import engine_of
from pipeline.takes.jobs import TakeJob
from pipeline.takes.runner import map_takes

def compute(seconds):
    time.sleep(seconds)
    return pa.table({"seconds": [seconds]}).to_reader()

def stage(config):
    jobs = [TakeJob(str(s), Path(f"{s}.parquet"), f"{s:064x}", partial(compute, s)) for s in (86400, 0, 86401)]
    map_takes(jobs, Path("data/frames"), stage="frames", engine=engine_of(ENGINE), cache=TakeCache(Path("cache")))

def main():
    run_stage("frames", FramesStage, stage)
"""


ENGINES = {"local": EngineConfig("local", 2), "ray": EngineConfig("ray", num_workers=2)}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=needs_ray)])
def test_ctrl_c_stops_at_once_and_keeps_what_was_done(folder: Path, engine: str) -> None:
    (folder / "interrupted.py").write_text(f"{INTERRUPTED}\nENGINE = {ENGINES[engine]}\n")
    settings = ["frames.per_second=1", "frames.width=64", "engine=local"]
    code = "import interrupted; interrupted.main()"
    with begin("-c", code, *settings, folder=folder) as process:
        while not list(Path("cache").glob("??/[0-9a-f]*")):
            assert process.poll() is None, process.communicate()[1]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to worker processes, too
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "frames: interrupted; finished takes are kept, `dvc repro` goes on from there"
    assert "Traceback" not in errors
    assert list(Path("data").iterdir()) == []
    assert len(list(Path("cache").glob("??/*"))) == 1


@pytest.mark.slow
def test_ctrl_c_while_a_stage_imports_its_libraries(folder: Path) -> None:
    with begin("-X", "importtime", "-m", "pipeline.train", folder=folder) as process:
        assert process.stderr is not None
        while not process.stderr.readline().endswith("| pipeline\n"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert [line for line in errors.splitlines() if not line.startswith("import time:")] == ["", "interrupted"]


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all files that `pipeline.files` writes go where the system answers "no space left on device"."""

    def full(descriptor: int, mode: str) -> object:
        os.close(descriptor)
        return Path("/dev/full").open(mode, buffering=0)

    monkeypatch.setattr("pipeline.files.os.fdopen", full)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = TakeCache(tmp_path / "cache")
    before = run([job("cup/1")], tmp_path / "out", cache)
    with monkeypatch.context() as patch:
        fill_disk(patch)
        with pytest.raises(PipelineError) as caught:
            run([job("cup/1"), job("cup/2")], tmp_path / "out", cache)
    assert "no space left on the disk while writing" in str(caught.value)
    assert "MB free" in caught.value.found
    assert "MB for it" in caught.value.expected
    assert "make room" in caught.value.remedy
    assert {path.name for path in tmp_path.iterdir()} == {"out", "cache"}
    assert (tmp_path / "out/cup/1.parquet").read_bytes() == before["cup/1.parquet"]
    assert len(list(cache.folder.rglob("*/*"))) == 1
    capsys.readouterr()
    run([job("cup/1"), job("cup/2")], tmp_path / "out", cache)
    assert "1 takes computed, 1 reused" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_that_is_full_when_the_backbone_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_project.make()
    before = sorted(layout.TUNED_BACKBONE.parent.iterdir())
    fill_disk(monkeypatch)
    with pytest.raises(FullDiskError, match=r"while writing models/backbone/tuned.tflite \(.* MB free\)"):
        write_bytes(layout.TUNED_BACKBONE, b"x")
    assert sorted(layout.TUNED_BACKBONE.parent.iterdir()) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told_whatever_a_stage_was_writing(folder: Path) -> None:
    (folder / "full.py").write_text(
        "from pipeline.config.application import run_stage\n"
        "from pipeline.config.split import SplitStage\n"
        "def stage(config): open('/dev/full', 'wb', 0).write(b'x')\n"
        "def main(): run_stage('split', SplitStage, stage)\n"
    )
    settings = ["split.validation_percent=10", "split.test_percent=10", "split.test=[]"]
    with begin("-c", "import full; full.main()", *settings, folder=folder) as process:
        _, errors = process.communicate()
    assert process.returncode == FullDiskError.exit_status
    assert errors.startswith(f"\nsplit: no space left on the disk while writing {folder} (")
    assert "Traceback" not in errors


def large(name: str) -> pa.RecordBatchReader:
    return pa.table({"content": [os.urandom(200_000)]}).to_reader()


def test_a_disk_that_fills_up_while_takes_are_written(tiny_disk: Path) -> None:
    jobs = [job(f"cup/{i}", large) for i in range(4)]  # 0.8 MB, and as much in the cache
    with pytest.raises(PipelineError, match="no space left on the disk while writing"):
        run(jobs, tiny_disk / "out", TakeCache(tiny_disk / "cache"))
    assert [path.name for path in tiny_disk.iterdir()] == ["cache"]
    assert len(list((tiny_disk / "cache").glob("??/[0-9a-f]*"))) >= 1
    assert not list((tiny_disk / "cache").glob("??/.*"))


def test_other_errors_of_the_disk_are_not_called_full() -> None:
    with pytest.raises(FileNotFoundError), telling_full_disk(Path("x")):
        raise FileNotFoundError(2, "No such file or directory")


def test_an_interrupted_replacement_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames/old").touch()

    def rename(path: Path, target: Path) -> Path:
        if target == tmp_path / "frames" and not path.name.endswith(".old"):
            raise KeyboardInterrupt
        return path.replace(target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "frames") as staging:
        (staging / "new").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["frames", "frames/old"]


def test_giving_up_begins_no_further_take(tmp_path: Path) -> None:
    begun: list[str] = []

    def compute(name: str) -> pa.RecordBatchReader:
        begun.append(name)
        return pa.table({"name": [name]}).to_reader()

    jobs = [TakeJob(str(i), Path(str(i)), f"{i:064x}", partial(compute, str(i))) for i in range(50)]
    with contextlib.closing(LocalEngine(1).run(jobs, tmp_path)) as outcomes:
        next(outcomes)
    assert len(begun) <= 4


def test_what_libraries_do_at_the_end_cannot_fail_a_stage_that_is_done(folder: Path) -> None:
    kill_stages.make_clips(num_frames=10)
    layout.SPLITS.unlink(missing_ok=True)
    write_text(folder / "sitecustomize.py", "import atexit, os\natexit.register(os.abort)\n")
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{PROJECT}"}
    settings = ["split.validation_percent=30", "split.test_percent=30", "split.test=[]"]
    command = [sys.executable, "-m", "pipeline.split", *settings]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "split: 2 labels" in done.stderr
    assert layout.SPLITS.is_file()
    aborted = subprocess.run([sys.executable, "-c", ""], env=environment, capture_output=True, check=False)
    assert aborted.returncode == -signal.SIGABRT
