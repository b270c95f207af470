"""What a person can cause, in kinds: each tells what was found, what was expected and how to mend it.

A program that starts a stage or a tool learns the kind from the exit status.
"""

from collections.abc import Sequence
from typing import TypeVar


class PipelineError(Exception):
    """Something that a person can mend, told in three parts: what was found, what was expected, how to mend it.

    Stages and tools print it without a traceback and exit with its kind's status.
    """

    exit_status = 1

    def __init__(self, *, found: str, expected: str, remedy: str) -> None:
        """Keep the three parts.

        Args:
            found: What was found, with the file or the key and its value.
            expected: What was expected, with the choices where there are any.
            remedy: What to do about it.
        """
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{found}\n  expected: {expected}\n  to mend:  {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        """Let an error travel between processes."""
        return _restored, (type(self), self.found, self.expected, self.remedy)


class InputError(PipelineError):
    """A take, a picture or a table that cannot be used."""

    exit_status = 10


class ConfigurationError(PipelineError):
    """params.yaml, a file in conf/ or a command line that says what cannot be meant."""

    exit_status = 11


class ModelError(PipelineError):
    """Weights or a model that are missing, damaged, or not what they should be."""

    exit_status = 12


class MissingPackageError(PipelineError):
    """A package that is asked for is not installed."""

    exit_status = 13


class FullDiskError(PipelineError):
    """No room is left where something must be written."""

    exit_status = 14


class LimitError(PipelineError):
    """A model breaks a limit in `gate`."""

    exit_status = 15


Kind = TypeVar("Kind", bound=PipelineError)


def combine(errors: Sequence[PipelineError], what: str) -> PipelineError:
    """Join errors into one, so that a person mends all in one go.

    Args:
        errors: One or more errors.
        what: What they are about, in the plural ("takes").

    Returns:
        The only error itself, or one that lists them all, of the kind that they share.
    """
    if len(errors) == 1:
        return errors[0]
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else PipelineError
    return kind(
        found=f"{len(errors)} {what} cannot be used:\n" + "\n".join(f"  - {error.found}" for error in errors),
        expected="; ".join(dict.fromkeys(error.expected for error in errors)),
        remedy="; ".join(dict.fromkeys(error.remedy for error in errors)),
    )


def _restored(kind: type[Kind], found: str, expected: str, remedy: str) -> Kind:
    return kind(found=found, expected=expected, remedy=remedy)
