"""Stage `code`: tells what the code of each stage is.

Reads pipeline/ and the lock files; writes build/code/<stage>.json for every stage: the digests of all local modules
that it imports, directly or not, and what the lock files say of the libraries that these import. Each stage depends on
its own file, so an edit re-runs the stages that use what was edited. An edit of comments or docstrings, or another
version of a library that a stage does not use, leaves its file as it is.
"""

import json
import sys
from pathlib import Path

from pipeline.config.application import print_error
from pipeline.errors import PipelineError
from pipeline.files import layout, write_text
from pipeline.files.os_errors import telling_os_errors
from pipeline.keys.description import description
from pipeline.keys.usage import modules


def code() -> None:
    """Write the file of every stage."""
    names = stages()
    for name in names:
        write_text(layout.code(name), json.dumps(description(name), indent=2, sort_keys=True) + "\n")
    sys.stderr.write(f"code: {len(names)} stages\n")


def stages() -> list[str]:
    """Return the names of the stages, which are the modules in pipeline/ itself; sorted."""
    below = (name.removeprefix("pipeline.") for name in modules() if name.count(".") == 1)
    return [name for name in below if not name.startswith("_") and _file_of(name).is_file()]


def _file_of(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.py")


def main() -> None:
    """Run the stage. It has no configuration, so Hydra's half a second is spared."""
    try:
        with telling_os_errors(Path.cwd()):
            code()
    except PipelineError as error:
        print_error("code", error)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
