"""What all commands share: where they act, and how they end."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from pipeline.errors import ConfigurationError, PipelineError

INTERRUPTED = 130  # 128 and the number of the signal, as shells have it

_OF_A_PROJECT = ("dvc.yaml", "params.yaml")


class Tool(click.Command):
    """A command that acts on the project in the current folder, and tells without a traceback what a person can mend.

    It exits with the error's own status, and with 130 after Ctrl-C.
    """

    def __init__(self, *arguments: Any, needs_project: bool = True, **named: Any) -> None:
        """Keep whether it has to be started in a project's folder; all else is click's."""
        super().__init__(*arguments, **named)
        self._needs_project = needs_project

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        # Here, not above: they bring Hydra, which takes longer than all that `--help` does.
        from pipeline.config.application import print_error
        from pipeline.files.os_errors import telling_os_errors

        name = ctx.command_path.partition(" ")[2] or str(self.name)
        try:
            if self._needs_project:
                refuse_outside_a_project()
            with telling_os_errors(Path.cwd()):
                return super().invoke(ctx)
        except PipelineError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                raise error.__cause__  # noqa: B904 # as of `... | head`, which has seen enough: click ends quietly
            sys.stdout.flush()
            print_error(name, error)
            sys.exit(error.exit_status)
        except KeyboardInterrupt:
            sys.stderr.write(f"\n{name}: interrupted\n")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)  # sys.exit would wait for threads in the middle of a take


def refuse_outside_a_project() -> None:
    """Check that the current folder is a project's.

    Raises:
        ConfigurationError: If it is not.
    """
    missing = [name for name in _OF_A_PROJECT if not Path(name).is_file()]
    if missing:
        raise ConfigurationError(
            found=f"no {' and no '.join(missing)} in {Path.cwd()}",
            expected="the folder of a project, which holds both",
            remedy="cd into your project, and start the command there",
        )
