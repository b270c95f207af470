"""How a process ended, in words."""

import signal

from pipeline.errors import ModelError

_NUM_LINES = 20
# How faulthandler begins its note, https://docs.python.org/3/library/faulthandler.html, and what it calls signals.
_FATAL = "Fatal Python error: "
_SIGNALS = {
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating-point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
    "Segmentation fault": "SIGSEGV",
}


def last_lines(text: str) -> str:
    """Return the end of what a process printed, indented, without faulthandler's note; tell if there are none."""
    lines = [line for line in text.partition(_FATAL)[0].splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-_NUM_LINES:]) or "    (it printed nothing)"


def ending(status: int) -> str:
    """Return how a process ended, from its return code: negative ones are signals, as subprocess has it."""
    return f"ended with status {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"


def noted_ending(text: str) -> str:
    """Return how a process ended, from what it printed with faulthandler: it notes all signals from within."""
    note = text.partition(_FATAL)[2].partition("\n")[0].strip()
    if not note:
        return "was ended from outside (SIGKILL, as the system does when memory runs out, or SIGTERM)"
    return f"was ended by {_SIGNALS.get(note, note)}"


def died(process: str, how: str, printed: str) -> ModelError:
    """Return the error for a process that a library ended.

    Args:
        process: What it was.
        how: How it ended (`ending`).
        printed: All that it printed.
    """
    return ModelError(
        found=f"{process} {how}; it last printed:\n{last_lines(printed)}",
        expected="libraries that fit this processor, and memory enough for the model",
        remedy="by its last lines: AVX or SIGILL mean that this processor is too old for TensorFlow's wheels; SIGKILL"
        " or bad_alloc that memory is short (close other programs, choose a smaller backbone); else run `make setup`,"
        " and report those lines if it happens again",
    )
