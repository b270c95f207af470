"""Settings and tools that many tests share."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no time limit", deadline=None)  # a busy machine is no failure
settings.load_profile("no time limit")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Programs that a shell starts in the background ignore Ctrl-C, and so would the stages that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder and change into it: the pipeline's paths are relative to the project's folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MB, where that is allowed."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield tmp_path
    # Lazily: what still holds a file there, such as a worker that ends, is no failure of the test.
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
