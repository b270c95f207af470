import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.code import code, stages
from pipeline.errors import ConfigurationError
from pipeline.files import layout
from pipeline.keys.description import LOCKS, description
from pipeline.keys.usage import usage_of
from tests.conftest import PROJECT

PILLOW = "pillow==99.0.0 \\\n    --hash=sha256:ab\n"


@pytest.fixture
def locks(folder: Path) -> Path:
    """The project's lock files in an empty folder."""
    for lock in LOCKS:
        shutil.copy(PROJECT / lock, folder)
    return folder


def written() -> dict[str, str]:
    code()
    return {path.stem: path.read_text() for path in layout.CODE.iterdir()}


def test_every_stage_gets_a_file_with_modules_and_libraries(locks: Path) -> None:
    files = written()
    assert sorted(files) == stages()
    frames = json.loads(files["frames"])
    assert frames["modules"] == dict(usage_of("pipeline.frames").modules)
    assert {"av", "pillow", "numpy", "pyarrow"} <= set(frames["libraries"])
    assert "tensorflow" not in frames["libraries"]


def test_the_same_code_gives_the_same_bytes(locks: Path) -> None:
    assert written() == written()


def test_another_version_in_a_lock_changes_the_files_of_the_stages_that_use_it(locks: Path) -> None:
    before = written()
    lock = locks / LOCKS[0]
    lock.write_text(lock.read_text() + PILLOW)
    after = written()
    changed = {name for name in before if before[name] != after[name]}
    uses = {name for name in stages() if "PIL" in usage_of(f"pipeline.{name}").libraries}
    assert changed == uses
    assert {"frames", "augment"} <= changed
    assert not {"split", "gate", "code"} & changed


def test_a_version_that_no_stage_uses_changes_nothing(locks: Path) -> None:
    before = written()
    lock = locks / LOCKS[0]
    lock.write_text(lock.read_text() + PILLOW.replace("pillow", "celery"))
    assert written() == before


def test_a_missing_lock_ends_without_a_traceback(folder: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pipeline.code"],
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "code: the system refused requirements.lock: No such file or directory" in run.stderr
    assert "Traceback" not in run.stderr


def test_code_that_is_broken_is_named(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for lock in LOCKS:
        shutil.copy(PROJECT / lock, tmp_path)
    (tmp_path / "pipeline/images/codec.py").write_text("def (:")
    run = subprocess.run(
        [sys.executable, "-m", "pipeline.code"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == ConfigurationError.exit_status
    assert "code: " in run.stderr
    assert "codec.py" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_description_names_no_place_on_this_machine() -> None:
    assert str(PROJECT) not in json.dumps(description("finetune"))
