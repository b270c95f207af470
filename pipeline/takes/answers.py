"""data/labels.csv: what further heads are to say of each take, beside what its folder is called."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from pipeline.config.heads import ONE
from pipeline.errors import InputError
from pipeline.takes.hand_made import rows_of, telling_what_is_wrong
from pipeline.takes.splits import NONE

COLUMNS = ("take", "head", "label")
ALL_OF_A_FOLDER = "/*"

Answers = Mapping[str, tuple[str, ...]]  # the labels of each take that was asked; none if none is true


def read_answers(path: Path, heads: Mapping[str, str], takes: Collection[str]) -> dict[str, Answers]:
    """Read what is true of each take.

    A row names a take (`hammer/IMG_0412.mov`) or all takes of a folder (`hammer/*`), a head and a label. What a take is
    named for itself is taken instead of what its folder says. `_none` as the label says that none of the head's labels
    is true; a take without a row is not asked.

    Args:
        path: The table.
        heads: The kind of each head by its name.
        takes: All takes, as "<folder>/<take>".

    Returns:
        For each head the labels of each take.

    Raises:
        InputError: If the table is missing or damaged, names a take that is not there or a head almost as in `heads`,
            says two things of a take, or has too few labels for a head.
    """
    rows = list(_rows(path)) if heads else []
    known = {*takes, *(f"{name.partition('/')[0]}{ALL_OF_A_FOLDER}" for name in takes)}
    for line, row in rows:
        _refuse_row(f"{path}, line {line}", row, heads, known)
    return {
        head: _of_head(path, head, kind, [row for _, row in rows if row[1] == head], takes)
        for head, kind in heads.items()
    }


def unlisted_heads(path: Path, heads: Mapping[str, str]) -> list[str]:
    """Return the heads of the table that `heads` does not list, whose rows `read_answers` leaves out.

    Raises:
        InputError: If the table is missing or damaged.
    """
    return sorted({head for _, (_, head, _) in _rows(path)} - set(heads)) if heads else []


def _rows(path: Path) -> list[tuple[int, tuple[str, ...]]]:
    """Return the rows, each a take, a head and a label, with the numbers of their lines."""
    with telling_what_is_wrong(str(path), COLUMNS, "correct it, or set `heads: {}` in params.yaml"):
        return list(rows_of(path, COLUMNS))


def _refuse_row(where: str, row: tuple[str, ...], heads: Mapping[str, str], known: Collection[str]) -> None:
    """Raise InputError if a row says nothing, is of a take that is not there, or of a head almost as in `heads`."""
    take, head, label = row
    if head not in heads:
        if get_close_matches(head, heads):  # else it is another question, which params.yaml does not ask
            raise _wrong(where, f"the head `{head}`", f"one of those in `heads`: {', '.join(heads)}", head, heads)
        return
    if take not in known:
        raise _wrong(where, f"the take `{take}`", "a take, or all of a folder as `folder/*`", take, known)
    if label.splitlines() != [label]:
        raise _wrong(where, "a row without a label", f"a label, or `{NONE}` if none is true", "", ())


def _of_head(path: Path, head: str, kind: str, rows: Sequence[tuple[str, ...]], takes: Collection[str]) -> Answers:
    found: dict[str, set[str]] = {}
    for take, _, label in rows:
        found.setdefault(take, set()).add(label)
    for take, labels in found.items():
        if len(labels) > 1 and (kind == ONE or NONE in labels):
            raise InputError(
                found=f"{path}: `{take}` is {' and '.join(sorted(labels))} for the head `{head}`",
                expected="one label" if kind == ONE else f"labels, or `{NONE}` alone",
                remedy="remove all rows but one, or let the head's labels be true together: `many` in params.yaml",
            )
    answers = dict[str, tuple[str, ...]]()
    for take in takes:
        own = take if take in found else take.partition("/")[0] + ALL_OF_A_FOLDER
        if own in found:
            answers[take] = tuple(sorted(found[own] - {NONE}))
    num_labels, least = len({label for labels in answers.values() for label in labels}), 2 if kind == ONE else 1
    if num_labels < least:
        raise InputError(
            found=f"{path}: {num_labels} labels for the head `{head}`",
            expected=f"at least {least}",
            remedy="add rows, or remove the head from `heads` in params.yaml",
        )
    return answers


def _wrong(where: str, found: str, expected: str, name: str, known: Collection[str]) -> InputError:
    near = get_close_matches(name, sorted(known), 1)
    return InputError(
        found=f"{where}: {found}",
        expected=expected,
        remedy=f"did you mean `{near[0]}`?" if near else "correct or remove the row",
    )
