"""Tells what models take on a microcontroller, in tables and lines of the commands that choose."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.gate import MICRO_COSTS, MicroLimits


def micro_columns(limits: MicroLimits) -> list[str]:
    """Return the heads of columns, one for each limit that is set."""
    return [cost.replace("_", ", ") for cost in limits.by_cost()]


def micro_cells(costs: Mapping[str, float], limits: MicroLimits) -> list[str]:
    """Return the cells of a model in these columns."""
    return [f"{costs[cost]:,}" if cost in costs else "-" for cost in limits.by_cost()]


def told_micro(num_fit: int, num_models: int, limits: MicroLimits) -> str:
    """Tell how many models fit into a microcontroller."""
    return f"{num_fit} of {num_models} keep {limits}: no other is on the front, or chosen"


def micro_lines(schemes: Sequence[Mapping[str, Any]], limits: MicroLimits) -> list[str]:
    """Tell what each scheme takes that runs on a microcontroller; nothing if there are no limits.

    Args:
        schemes: The metrics of each, with the costs that there are limits on.
        limits: In `gate`.
    """
    lines = []
    for metrics in schemes:
        costs = [f"{metrics[cost]:,} bytes of {cost.removesuffix('_bytes')}" for cost in MICRO_COSTS if cost in metrics]
        if costs:
            lines.append(f"On a microcontroller: {metrics['scheme']} takes {' and '.join(costs)} ({limits})")
    return lines
