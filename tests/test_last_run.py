"""What others have computed, and what was cleaned away, is found in DVC's cache: one more take costs one take."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.files import layout
from pipeline.takes.last_run import LastRun
from tests.sandbox import Sandbox

pytestmark = pytest.mark.slow


def add_photo(project: Sandbox, label: str, number: int) -> None:
    """Write a small photo that no other is equal to."""
    path = project.folder / layout.PHOTOS / label / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([number, *label.encode()]).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)


def stored(project: Sandbox, md5: str) -> Path:
    """Return where DVC's cache has something."""
    return project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def counts(printed: str) -> dict[str, tuple[int, int]]:
    """Return how many takes each stage computed and reused."""
    found = re.findall(r"(\w+): (\d+) takes computed, (\d+) reused", printed)
    return {stage: (int(computed), int(reused)) for stage, computed, reused in found}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Make a project of six photos whose frames and copies are made and pushed."""
    made = Sandbox(tmp_path_factory.mktemp("last_run") / "project")
    made.folder.mkdir()
    for name in ("pipeline", "conf", "dvc.yaml", "params.yaml", "pyproject.toml", "requirements.lock", ".gitignore"):
        made.copy(name)
    made.copy("requirements-dev.lock")
    (made.folder / layout.VIDEOS).mkdir(parents=True)
    made.write(str(layout.VIDEOS / ".gitkeep"), "")
    for label in ("cup", "pen"):
        for number in range(3):
            add_photo(made, label, number)
    made.begin()
    made.repro("augment")
    made.run("dvc", "remote", "add", "--default", "storage", str(made.folder.parent / "storage"))
    made.commit()
    made.run("dvc", "push", "frames", "augment")
    return made


def test_a_clone_computes_what_is_new_and_nothing_else(project: Sandbox) -> None:
    clone = project.clone("clone")
    clone.run("dvc", "pull", "frames", "augment")
    add_photo(clone, "cup", 7)
    assert counts(clone.repro("augment")[1]) == {"frames": (1, 6), "augment": (1, 6)}


def test_what_was_cleaned_away_is_found_and_what_dvc_lost_is_computed(project: Sandbox) -> None:
    for name in (".cache", "data/frames", "data/augmented", "build"):
        shutil.rmtree(project.folder / name)
    add_photo(project, "pen", 8)
    assert counts(project.repro("augment")[1]) == {"frames": (1, 6), "augment": (1, 6)}

    shutil.rmtree(project.folder / ".cache")
    (copies,) = [out for out in project.read_yaml("dvc.lock")["stages"]["augment"]["outs"] if "nfiles" in out]
    damaged = stored(project, json.loads(stored(project, copies["md5"]).read_text())[0]["md5"])
    damaged.chmod(0o644)
    damaged.write_bytes(b"something else")
    add_photo(project, "pen", 9)
    assert counts(project.repro("augment")[1]) == {"frames": (1, 7), "augment": (2, 6)}


@pytest.mark.parametrize("lock", [None, "", "stages: 3", "stages: {a: {outs: [{path: data/frames, hash: md5}]}}", "{"])
def test_a_lock_that_says_nothing_of_use(folder: Path, lock: str | None) -> None:
    if lock is not None:
        Path("dvc.lock").write_text(lock)
    assert not LastRun.of(layout.FRAMES, layout.FRAMES_KEYS).get_file("ab" * 32, Path("out"))
    assert not Path("out").exists()
