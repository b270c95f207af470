"""Where the command `viewfinder` begins: outside the package, so that it can choose which one to import."""

import importlib
import sys
from pathlib import Path


def start() -> None:
    """Run the command line of the project in the current folder; elsewhere, that of the project it was installed from.

    A second worktree or clone has its own code, and one environment may serve several.
    """
    here = Path.cwd()
    if (here / "dvc.yaml").is_file() and (here / "pipeline" / "tools").is_dir():
        sys.path.insert(0, str(here))
    importlib.import_module("pipeline.tools.cli").viewfinder(prog_name="viewfinder")
