"""Reads tables that people write: few columns, separated by commas, as spreadsheets save them."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import InputError

_WORDS = {2: "two", 3: "three"}


@contextmanager
def telling_what_is_wrong(table: str, columns: Sequence[str], remedy: str) -> Iterator[None]:
    """Turn what is wrong with a table, an OSError or a ValueError, into an InputError.

    Args:
        table: What it is called in the message.
        columns: That it should have.
        remedy: What to do.
    """
    try:
        yield
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            found=f"{table} cannot be read ({error})",
            expected=f"a table with the columns {', '.join(columns)}, separated by commas",
            remedy=remedy,
        ) from error


def rows_of(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number of each row's line, and its values without space around them.

    Args:
        path: UTF-8, with the names of the columns in its first line.
        columns: Their names.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If its columns are others, or a row has more or fewer values; csv.Error if quotes do not match.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise ValueError(f"its first line is {','.join(reader.fieldnames or ())!r}")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num} has not {_WORDS[len(columns)]} fields")
            yield reader.line_num, tuple(row[name].strip() for name in columns)
