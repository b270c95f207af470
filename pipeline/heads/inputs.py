"""What the heads of a scheme learn from."""

from pipeline.config.unknown import LEARNED
from pipeline.files import layout
from pipeline.takes.lookalikes import Lookalike, without_lookalikes
from pipeline.takes.rows import Rows, read_rows
from pipeline.takes.splits import read_takes


def learned_rows(scheme: str, mode: str) -> tuple[Rows, list[Lookalike]]:
    """Read the bottlenecks of all takes, and with `unknown.mode: learned` those of what is none of the labels.

    Args:
        scheme: Whose backbone made them.
        mode: See `UnknownConfig`.

    Returns:
        The rows, and the pictures of other things that are not among them because they look like a label.

    Raises:
        InputError: If a table is missing or damaged, or a label has no frame to train on.
    """
    strangers = layout.STRANGERS if mode == LEARNED else None
    return without_lookalikes(read_rows(layout.bottlenecks(scheme), read_takes(layout.SPLITS), strangers=strangers))
