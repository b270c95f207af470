"""A sweep in a fresh clone, as the README has it. DVC's queue, templating and caches are real, and so are params.yaml,
conf/ and dvc.yaml. Only the stages are not: `python` on the PATH is STUB, which
writes a stage's outputs at once.
"""

import csv
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from pipeline.files import layout
from tests.conftest import PROJECT

# Writes all outputs of a stage, as text that follows from its command and from all that it depends on.
STUB = f"""#!{sys.executable}
import hashlib, json, os, pathlib, sys, yaml
name = sys.argv[2].removeprefix("pipeline.")
params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
scheme = "".join(word.partition("=")[2] for word in sys.argv[3:])
text = pathlib.Path("dvc.yaml").read_text()
for key, choice in {{"item.scheme": scheme, "deploy": params["deploy"]}}.items():
    text = text.replace("${{" + key + "}}", choice)
stages = yaml.safe_load(text)["stages"]
stage = stages[name]
print(" ".join([name, params["backbone"], scheme]), file=open(os.environ["RAN"], "a"))
digest = hashlib.sha256(" ".join(sys.argv[1:]).encode())
tracked = [param for param in stage.get("params", []) if isinstance(param, str)]
files = [file for param in stage.get("params", []) if isinstance(param, dict) for file in param]
digest.update(json.dumps([params[key] for key in tracked]).encode())
for dep in map(pathlib.Path, [*files, *stage["deps"]] if name != "check" else []):  # its output is always the same
    for file in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
        digest.update(file.read_bytes() if file.is_file() else b"")
outs = [out if isinstance(out, str) else next(iter(out)) for key in ("outs", "metrics") for out in stage.get(key, [])]
for out in map(pathlib.Path, outs):
    made = {{"accuracy": int(digest.hexdigest()[:3], 16) / 4096, "scheme": scheme, "name": params["backbone"]}}
    of_folder = [out / "rote Möhre/1.parquet", out / "2.parquet"]
    if name == "code":
        of_folder, made = [out / f"{{stage}}.json" for stage in stages], {{}}
    for file in [out] if out.suffix else of_folder:
        file.parent.mkdir(parents=True, exist_ok=True)
        of_keys = file.suffix in (".json", ".yaml")  # JSON is YAML
        file.write_text(json.dumps(made) if of_keys else f"{{file}} {{digest.hexdigest()}}")
"""
SCHEME = "float32"
MAX_WAIT_SECONDS = 600  # after that the queue is taken for dead


class StubProject:
    """A Git and DVC repository with this project's dvc.yaml, params.yaml and conf/, whose stages are stubs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make(cls, folder: Path) -> "StubProject":
        """Write and commit everything that belongs to Git; no stage has run."""
        shutil.copytree(PROJECT / "conf", folder / "conf")
        for name in (".dvcignore", ".gitignore", "dvc.yaml", "requirements.lock", "requirements-dev.lock"):
            shutil.copy(PROJECT / name, folder)
        takes = ("data/videos/cup/1.mp4", "data/videos/rote Möhre/2.mp4", "data/photos/README.md")
        for name in (*takes, "data/calibration/1.png", "pipeline/code.py"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        params = yaml.safe_load((PROJECT / "params.yaml").read_text())
        (folder / "params.yaml").write_text(yaml.safe_dump({**params, "quantization": [SCHEME], "deploy": SCHEME}))
        python = folder.parent / "bin/python"
        python.parent.mkdir(exist_ok=True)
        python.write_text(STUB)
        python.chmod(0o755)
        made = cls(folder)
        made.run("git", "init", "--quiet")
        made.run("dvc", "init", "--quiet")
        made.commit()
        return made

    def run(self, *command: str) -> str:
        """Run a command with the stub as `python`, and return what it printed; fail if it does."""
        found = [str(self.folder.parent / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        environment = {**os.environ, "PATH": os.pathsep.join(found), "RAN": str(self.folder.parent / "ran.txt")}
        environment |= {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a"}
        environment |= {"GIT_COMMITTER_EMAIL": "a@b", "DVC_NO_ANALYTICS": "1", "NO_PROXY": "127.0.0.1"}
        environment["DVC_SITE_CACHE_DIR"] = str(self.folder.parent / "site_cache")
        environment.pop("PYTHONPATH", None)
        # Files and no pipes: the queue's worker, which stays behind, would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            done = subprocess.run(command, cwd=self.folder, env=environment, stdout=output, stderr=errors, check=False)
            output.seek(0)
            errors.seek(0)
            text = output.read()
            assert done.returncode == 0, text + errors.read()
        return text

    def commit(self) -> None:
        """Commit everything that Git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "all")

    def clone(self, name: str) -> "StubProject":
        """Return a fresh clone, beside this one, which shares nothing with it but the log of what ran."""
        self.run("git", "clone", "--quiet", str(self.folder), str(self.folder.parent / name))
        return StubProject(self.folder.parent / name)

    def ran(self) -> list[str]:
        """Return stage, backbone and scheme of all that ran since the last call."""
        log = self.folder.parent / "ran.txt"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubProject]:
    """A clone with a finished sweep over two resolutions, as the README has it."""
    folder = tmp_path_factory.mktemp("sweep") / "project"
    folder.mkdir()
    made = StubProject.make(folder).clone("clone")
    made.run("dvc", "exp", "run", "--queue", "-S", "backbone=efficientnet_lite0,efficientnet_lite0_192")
    made.run("dvc", "queue", "start")
    try:
        wait_for_queue(made.folder, num_tasks=2)
        yield made
    finally:
        made.run("dvc", "queue", "stop", "--kill")


def wait_for_queue(folder: Path, num_tasks: int) -> None:
    """Wait until all tasks have ended (`dvc queue status`, without the time that a new process takes).

    A task that a worker has just taken is neither queued nor running for a moment, so those that ended are counted.
    """
    end = time.monotonic() + MAX_WAIT_SECONDS
    while True:
        with Repo(str(folder)) as repo:
            statuses = [task["status"] for task in repo.experiments.celery_queue.status()]
        if sum(status not in ("Queued", "Running") for status in statuses) == num_tasks:
            return
        assert time.monotonic() < end, statuses
        time.sleep(0.5)


def test_a_sweep_repeats_nothing_reads_well_and_leaves_to_git_only_what_is_gits(clone: StubProject) -> None:
    counted = Counter(line.split()[0] for line in clone.ran())
    assert [counted[stage] for stage in ("split", "frames", "augment")] == [1, 1, 1]
    twice = ("architecture", "backbone", "bottlenecks", "train", "deploy")
    assert {stage: counted[stage] for stage in twice} == dict.fromkeys(twice, 2)

    rows = csv.DictReader(io.StringIO(clone.run("dvc", "exp", "show", "--csv").replace("params.yaml:", "")))
    tried = {row["backbone"]: row for row in rows if row["Experiment"]}
    assert {name: row["State"] for name, row in tried.items()} == {
        "efficientnet_lite0": "Success",
        "efficientnet_lite0_192": "Success",
    }
    assert len({float(row["metrics/deployed.json:accuracy"]) for row in tried.values()}) == 2

    clone.run("dvc", "exp", "apply", tried["efficientnet_lite0_192"]["Experiment"])
    assert (clone.folder / "models/deployed").is_dir()
    status = clone.run("git", "status", "--porcelain", "--untracked-files")
    changed = {line[3:] for line in status.splitlines()}
    written = {str(path) for path in (layout.ARCHITECTURE, layout.metrics(SCHEME), layout.DEPLOYED_METRICS)}
    assert changed == {"dvc.lock", "params.yaml", *written}
