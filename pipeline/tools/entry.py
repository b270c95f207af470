"""Where the command `viewfinder` begins: in the code of the project in the current folder."""

import os
import sys
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]


def start() -> None:
    """Run the command line of the project in the current folder; elsewhere, that of the project it was installed from.

    A second worktree or clone has its own code, and one environment may serve several.
    """
    here = Path.cwd()
    if here != _PROJECT and (here / "dvc.yaml").is_file() and (here / "pipeline/tools/__main__.py").is_file():
        path = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "pipeline.tools", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})
    from pipeline.tools.cli import viewfinder  # noqa: PLC0415 - not needed if another project's is

    viewfinder(prog_name="viewfinder")
