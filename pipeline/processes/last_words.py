"""Prints what a process held back, if it dies before it can do so.

A watcher, a bare Python, waits for the end of a pipe that the watched process alone can write to. The system closes
it when that process dies, however it dies; then the watcher prints the end of the log on the terminal and ends, too.
"""

import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.processes.endings import died, noted_ending

_PROJECT = Path(__file__).resolve().parents[2]
_MAIN = "from pipeline.processes.last_words import main; main()"


@contextlib.contextmanager
def watched(log: BinaryIO) -> Iterator[None]:
    """Print the end of a log to standard error if this process dies meanwhile.

    Args:
        log: A file that the process's output is about to go to.
    """
    command = [sys.executable, "-S", "-c", _MAIN, str(log.fileno()), " ".join(Path(sys.argv[0]).parts[-2:])]
    with _interrupts_wait():
        watcher = subprocess.Popen(
            command, cwd=_PROJECT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[log.fileno()]
        )
    try:
        with _fatal_signals_noted(log):
            yield
    finally:
        watcher.kill()  # it has nothing to tell
        watcher.communicate()


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Start the watcher with SIGINT blocked: a Ctrl-C is for it, too, and must not find it unprepared."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _fatal_signals_noted(log: BinaryIO) -> Iterator[None]:
    """Write into the log which signal ends the process, unless somebody has had them noted already."""
    if faulthandler.is_enabled():
        yield
        return
    faulthandler.enable(log, all_threads=False)
    try:
        yield
    finally:
        faulthandler.disable()


def main() -> None:
    """Wait for the end of standard input, then print the end of the log whose descriptor is the first argument."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who presses Ctrl-C knows why it ended
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sys.stdin.buffer.read()
    descriptor, process = int(sys.argv[1]), sys.argv[2]
    with os.fdopen(descriptor, "rb") as log:
        log.seek(0)
        printed = log.read().decode(errors="replace")
    sys.stderr.write(f"\n{process}: {died('the process', noted_ending(printed), printed)}\n")
