"""How far long work is: a bar on a terminal, and a line now and then where there is none (a pipe, a log, CI)."""

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0  # so that quick work prints none

Item = TypeVar("Item")


class Progress:
    """Counts what is done, on stderr."""

    def __init__(self, title: str, *, total: int, unit: str, initial: int = 0, leave: bool = True) -> None:
        """Begin to count.

        Args:
            title: What is being done.
            total: How many there are.
            unit: What is counted, in the singular.
            initial: How many are done already.
            leave: Whether the finished bar stays.
        """
        self._title, self._total, self._unit, self._num = title, total, unit, initial
        self._bar = tqdm(total=total, initial=initial, desc=title, unit=unit, disable=None, leave=leave)
        self._last = time.monotonic()

    def update(self, **shown: str) -> None:
        """Count one more, and show some figures beside."""
        self._num += 1
        if not self._bar.disable:
            self._bar.update()
            if shown:
                self._bar.set_postfix(shown, refresh=False)
        elif self._num < self._total and time.monotonic() >= self._last + SECONDS_BETWEEN_LINES:
            beside = "".join(f", {name.replace('_', ' ')} {value}" for name, value in shown.items())
            sys.stderr.write(f"{self._title.strip()}: {self._num} of {self._total} {self._unit}s{beside}\n")
            sys.stderr.flush()
            self._last = time.monotonic()

    def close(self) -> None:
        """Leave the bar, if there is one, as it is."""
        self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def counted(items: Iterable[Item], title: str, *, total: int, unit: str, leave: bool = True) -> Iterator[Item]:
    """Yield items, and count them when they are done with."""
    with Progress(title, total=total, unit=unit, leave=leave) as progress:
        for item in items:
            yield item
            progress.update()
