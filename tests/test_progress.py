"""Long work tells how far it is, on a terminal and in a pipe."""

import io
import sys
from collections.abc import Iterator

import pytest

from pipeline.processes import progress
from pipeline.processes.progress import Progress, counted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def items() -> Iterator[str]:
        for item in "abcde":
            now[0] += 8
            yield item

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert list(counted(items(), "  frames", total=5, unit="take")) == list("abcde")
    # The end is told by whoever counts.
    assert capsys.readouterr().err == "frames: 2 of 5 takes\nframes: 4 of 5 takes\n"


def test_figures_stand_beside(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    with Progress("finetune", total=9, unit="step", initial=3) as counting:
        counting.update(validation_accuracy="0.9")
    assert capsys.readouterr().err == "finetune: 4 of 9 steps, validation accuracy 0.9\n"


def test_quick_work_prints_nothing_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    list(counted(range(3), "frames", total=3, unit="take"))
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    list(counted(range(3), "frames", total=3, unit="take"))
    assert "frames: 100%" in stream.getvalue()
    assert "3/3" in stream.getvalue()
