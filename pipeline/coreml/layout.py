"""Where the numbers of a picture stand: LiteRT has channels last (NHWC), Core ML has them first (NCHW).

All that has four dimensions is kept channels first in the program, whatever it is; all else stands as in LiteRT.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

TO_CHANNELS_FIRST = (0, 3, 1, 2)
TO_CHANNELS_LAST = (0, 2, 3, 1)


def axis_of(axis: int, rank: int) -> int:
    """Return where in the program a dimension of LiteRT's stands."""
    axis %= rank
    return TO_CHANNELS_LAST[axis] if rank == 4 else axis


def by_axis(values: Sequence[Any]) -> list[Any]:
    """Bring what there is one of for each dimension of LiteRT's into the program's order."""
    return [values[axis] for axis in TO_CHANNELS_FIRST] if len(values) == 4 else list(values)


def as_operand(constant: npt.NDArray[Any], rank: int) -> npt.NDArray[Any]:
    """Return a constant so that it is broadcast in the program as it is in LiteRT, with results of that rank."""
    if rank < 4:
        return constant
    whole = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    return np.ascontiguousarray(whole.transpose(TO_CHANNELS_FIRST))


def reshaped(mb: Any, x: Any, old: Sequence[int], new: Sequence[int]) -> Any:
    """Reshape as LiteRT does, which runs through the channels first.

    Args:
        mb: Core ML's builder.
        x: A value of the program.
        old: Its shape in LiteRT.
        new: The shape in LiteRT that it gets.
    """
    if list(old) == list(new):
        return x
    if len(old) == 4 and not _is_same_in_both(old):
        x = mb.transpose(x=x, perm=TO_CHANNELS_LAST)
    if len(new) == 4 and not _is_same_in_both(new):
        return mb.transpose(x=mb.reshape(x=x, shape=list(new)), perm=TO_CHANNELS_FIRST)
    return mb.reshape(x=x, shape=by_axis(new))


def _is_same_in_both(shape: Sequence[int]) -> bool:
    """Tell whether the numbers follow each other in the same order, channels first or last."""
    _, height, width, channels = shape
    return height * width == 1 or channels == 1
