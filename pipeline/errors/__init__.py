"""The one error that a person can cause."""


class PipelineError(Exception):
    """Bad input, told in three parts: what was found, what was expected, how to mend it.

    Stages print it without a traceback and exit with status 1.
    """

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


def combine(errors: list[PipelineError], what: str) -> PipelineError:
    """Join errors of the same kind into one, so that a person mends all in one go.

    Args:
        errors: One or more errors.
        what: What they are about, in the plural ("takes").

    Returns:
        The only error itself, or one that lists them all.
    """
    if len(errors) == 1:
        return errors[0]
    return PipelineError(
        found=f"{len(errors)} {what} cannot be used:\n" + "\n".join(f"  - {error.found}" for error in errors),
        expected="; ".join(dict.fromkeys(error.expected for error in errors)),
        remedy="; ".join(dict.fromkeys(error.remedy for error in errors)),
    )
