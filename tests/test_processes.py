"""What a library prints is kept off the terminal, and reaches it when the process fails, aborts or is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.processes.endings import died, ending, last_lines, noted_ending
from pipeline.processes.silence import silenced

ROOT = Path(__file__).parent.parent
SAID = "os.write(2, b'compiled to use AVX instructions\\n')"


def python(*lines: str) -> subprocess.Popen[str]:
    """Run lines in a process of its own, silenced."""
    program = ["import ctypes, os, signal, sys, time", "from pipeline.processes.silence import silenced"]
    program += ["with silenced():", *(f"    {line}" for line in lines), "print('after')"]
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join(program)], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def last_words(*lines: str) -> tuple[int, str]:
    """Return how such a process ended, and what it left on standard error."""
    process = python(*lines)
    printed, told = process.communicate(timeout=60)
    assert printed == ""
    return process.returncode, told


def test_silenced_holds_back_what_any_language_prints(capfd: pytest.CaptureFixture[str]) -> None:
    with silenced():
        subprocess.run([sys.executable, "-c", "print('out'); import sys; print('err', file=sys.stderr)"], check=True)
    os.write(1, b"after\n")
    assert capfd.readouterr() == ("after\n", "")


def test_silenced_shows_all_when_something_is_raised(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError), silenced():
        subprocess.run([sys.executable, "-c", "print('last words'); raise SystemExit(1)"], check=True)
    assert "last words" in capfd.readouterr().err


def test_a_process_that_ends_well_says_nothing() -> None:
    process = python(SAID, "print('noise')")
    assert process.communicate(timeout=60) == ("after\n", "")
    assert process.returncode == 0


def test_an_abort_in_cpp_shows_its_last_words() -> None:
    status, told = last_words(SAID, "os.abort()")
    assert status == -signal.SIGABRT
    assert "-c: the process was ended by SIGABRT; it last printed:\n    compiled to use AVX instructions\n" in told
    assert "to mend:  by its last lines: AVX or SIGILL mean" in told
    assert "Fatal Python error" not in told


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's name of what a failed assert() calls")
def test_a_failed_check_shows_what_was_checked() -> None:
    status, told = last_words("ctypes.CDLL(None).__assert_fail(b'rows > 0', b'kernel.cc', 7, b'Run')")
    assert status == -signal.SIGABRT
    assert "kernel.cc:7: Run: Assertion `rows > 0' failed." in told


def test_a_crash_names_its_signal() -> None:
    assert "ended by SIGSEGV; it last printed:\n    (it printed nothing)" in last_words("ctypes.string_at(0)")[1]


def test_killed_for_want_of_memory_shows_the_last_words() -> None:
    status, told = last_words(SAID, "os.kill(os.getpid(), signal.SIGKILL)")
    assert status == -signal.SIGKILL
    assert "ended from outside (SIGKILL, as the system does when memory runs out, or SIGTERM)" in told
    assert "    compiled to use AVX instructions\n" in told


def test_ctrl_c_is_followed_by_no_explanation(tmp_path: Path) -> None:
    """The terminal sends it to all processes of the group, the watcher among them."""
    begun = tmp_path / "begun"
    program = (
        "import pathlib, signal, time\nfrom pipeline.processes.silence import silenced\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        f"with silenced():\n    pathlib.Path({str(begun)!r}).touch(); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, text=True, stderr=subprocess.PIPE, start_new_session=True
    )
    while not begun.exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == -signal.SIGINT


def test_what_libraries_print_while_litert_loads_is_not_lost_either() -> None:
    program = (
        "import os\nfrom pipeline.litert.interpreter import without_delegate_message\n"
        f"with without_delegate_message():\n    {SAID}; os.abort()"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, timeout=60, check=False
    )
    assert process.returncode == -signal.SIGABRT
    assert "    compiled to use AVX instructions\n" in process.stderr


def test_endings_in_words() -> None:
    assert ending(3) == "ended with status 3"
    assert ending(-signal.SIGKILL) == "was ended by SIGKILL"
    assert noted_ending("notes\nFatal Python error: Illegal instruction\n\nStack") == "was ended by SIGILL"
    assert noted_ending("Fatal Python error: Something new\n") == "was ended by Something new"
    assert last_lines("\n".join(map(str, range(30)))).split() == [str(number) for number in range(10, 30)]
    error = died("the process that measures m.tflite", ending(-signal.SIGABRT), "CHECK failed\n")
    assert error.found == "the process that measures m.tflite was ended by SIGABRT; it last printed:\n    CHECK failed"
