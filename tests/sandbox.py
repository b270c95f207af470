"""A small DVC project in a folder of its own, with commands run as a person types them."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import yaml

from pipeline.files import write_bytes, write_text
from tests.conftest import PROJECT

RAN = re.compile(r"Running stage '([^']+)'")


class Sandbox:
    """A folder under Git and DVC. It shares nothing with others, whatever is set up for the person who runs the tests.

    Attributes:
        folder: Where it lies. What is not part of it, such as DVC's site cache, lies beside.
        programs: Programs that are found before all others, by every sandbox beside this one, too.
        environment: The variables that commands get.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder.parent / "bin"
        found = [str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment = {**os.environ, "PATH": os.pathsep.join(found), "GIT_CONFIG_GLOBAL": os.devnull}
        for role in ("AUTHOR", "COMMITTER"):
            self.environment |= {f"GIT_{role}_NAME": "a", f"GIT_{role}_EMAIL": "a@example.org"}
        self.environment |= {"DVC_NO_ANALYTICS": "1", "COLUMNS": "200", "NO_PROXY": "127.0.0.1"}
        self.environment["DVC_SITE_CACHE_DIR"] = str(folder.with_name(f"{folder.name}_site_cache"))
        self.environment.pop("PYTHONPATH", None)  # the code in the folder is meant

    def copy(self, *names: str) -> None:
        """Copy files and folders of this project."""
        for name in names:
            source, target = PROJECT / name, self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copy(source, target)

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file, and the folders above it."""
        path = self.folder / name
        write_text(path, content) if isinstance(content, str) else write_bytes(path, content)

    def write_yaml(self, name: str, values: object) -> None:
        """Write a YAML file, with keys in the order given."""
        self.write(name, yaml.safe_dump(values, sort_keys=False))

    def read_yaml(self, name: str) -> Any:
        """Return what a YAML or JSON file says."""
        return yaml.safe_load((self.folder / name).read_text(encoding="utf-8"))

    def edit(self, old: str, new: str, file: str = "params.yaml") -> None:
        """Replace the first occurrence of some text."""
        text = (self.folder / file).read_text(encoding="utf-8")
        assert old in text
        self.write(file, text.replace(old, new, 1))

    def set(self, **params: object) -> None:
        """Give parameters other values."""
        self.write_yaml("params.yaml", self.read_yaml("params.yaml") | params)

    def begin(self) -> None:
        """Put the folder under Git and DVC, and commit what is there."""
        self.run("git", "init", "--quiet")
        self.run("dvc", "init", "--quiet")
        self.commit()

    def commit(self) -> None:
        """Commit everything that Git does not ignore, as the docs advise after a run."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "run", "--allow-empty")

    def clone(self, name: str) -> "Sandbox":
        """Return a fresh clone that lies beside this one."""
        self.run("git", "clone", "--quiet", str(self.folder), str(self.folder.parent / name))
        return Sandbox(self.folder.parent / name)

    def run(self, *command: str, ok: bool = True) -> str:
        """Run a command and return what it printed to both streams; fail unless its status is as expected."""
        with tempfile.TemporaryFile("w+") as printed:
            return self._run(command, ok, printed, printed)

    def output(self, *command: str) -> str:
        """Run a command and return what it printed for programs to read."""
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            return self._run(command, True, output, errors)

    def json(self, *command: str) -> Any:
        """Run a command that prints JSON."""
        return json.loads(self.output(*command))

    def repro(self, *targets: str, ok: bool = True) -> tuple[list[str], str]:
        """Run `dvc repro` and return the stages that ran, and what was printed."""
        printed = self.run("dvc", "repro", *targets, ok=ok)
        return RAN.findall(printed), printed

    def _run(self, command: tuple[str, ...], ok: bool, output: IO[str], errors: IO[str]) -> str:
        # Files and no pipes: the worker of DVC's queue, which stays behind, would keep a pipe open.
        done = subprocess.run(command, cwd=self.folder, env=self.environment, stdout=output, stderr=errors, check=False)
        errors.seek(0)
        assert (done.returncode == 0) == ok, errors.read()
        output.seek(0)
        return output.read()
