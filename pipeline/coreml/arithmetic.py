"""Operators of Core ML's programs (MIL) in numpy, as its reference defines them.

https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html says what each takes; the names
of arguments are its own. Arrays are float32, pictures [1, channels, height, width].
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def _conv(
    x: Floats,
    weight: Floats,
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    pad: Sequence[int],
    bias: Floats | None = None,
    **_: Any,
) -> Floats:
    num_outputs, num_inputs, *kernel = weight.shape
    result: Any = 0.0
    for row, column, part in _taps(_padded(x, pad, 0), kernel, strides, dilations):
        _, _, height, width = part.shape
        pixels = part.reshape(groups, num_inputs, -1)
        factors = weight[:, :, row, column].reshape(groups, num_outputs // groups, num_inputs)
        result = result + (factors * pixels if num_inputs == 1 else factors @ pixels)
    found: Floats = result.reshape(1, num_outputs, height, width)
    return found if bias is None else found + bias.reshape(1, -1, 1, 1)


def _max_pool(x: Floats, kernel_sizes: Sequence[int], strides: Sequence[int], pad: Sequence[int], **_: Any) -> Floats:
    parts = [part for _, _, part in _taps(_padded(x, pad, -np.inf), kernel_sizes, strides)]
    found: Floats = np.maximum.reduce(parts)
    return found


def _avg_pool(
    x: Floats,
    kernel_sizes: Sequence[int],
    strides: Sequence[int],
    pad: Sequence[int],
    exclude_padding_from_average: bool,
    **_: Any,
) -> Floats:
    ones = _padded(np.ones_like(x), pad, 0 if exclude_padding_from_average else 1)
    return _sums(_padded(x, pad, 0), kernel_sizes, strides) / _sums(ones, kernel_sizes, strides)


def _sums(padded: Floats, kernel: Sequence[int], strides: Sequence[int]) -> Floats:
    found: Floats = np.sum([part for _, _, part in _taps(padded, kernel, strides)], 0)
    return found


def _padded(x: Floats, pad: Sequence[int], value: float) -> Floats:
    top, bottom, left, right = (int(number) for number in pad)
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _taps(
    padded: Floats, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int] = (1, 1)
) -> Iterator[tuple[int, int, Floats]]:
    """Yield for each place in a kernel the pixels that it meets."""
    lengths = [
        (size - (length - 1) * dilation - 1) // stride + 1
        for size, length, stride, dilation in zip(padded.shape[2:], kernel, strides, dilations, strict=True)
    ]
    for row, column in itertools.product(*map(range, kernel)):
        top, left = row * dilations[0], column * dilations[1]
        rows = slice(top, top + (lengths[0] - 1) * strides[0] + 1, strides[0])
        columns = slice(left, left + (lengths[1] - 1) * strides[1] + 1, strides[1])
        yield row, column, padded[:, :, rows, columns]


def _linear(x: Floats, weight: Floats, bias: Floats | None = None, **_: Any) -> Floats:
    found: Floats = x @ weight.T
    return found if bias is None else found + bias


def _softmax(x: Floats, axis: int, **_: Any) -> Floats:
    exponentials = np.exp(x - x.max(axis, keepdims=True))
    found: Floats = exponentials / exponentials.sum(axis, keepdims=True)
    return found


def _gelu(x: Floats, mode: str, **_: Any) -> Floats:
    if mode == "EXACT":
        from scipy.special import erf  # noqa: PLC0415 - a tenth of a second, for few networks

        share = erf(x / math.sqrt(2))
    else:
        share = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return np.asarray(x * (1 + share) / 2, np.float32)


def _batch_norm(
    x: Floats,
    mean: Floats,
    variance: Floats,
    epsilon: float,
    gamma: Floats | None = None,
    beta: Floats | None = None,
    **_: Any,
) -> Floats:
    shape = (1, -1, *(1,) * (x.ndim - 2))
    found: Floats = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + epsilon)
    found = found if gamma is None else found * gamma.reshape(shape)
    return found if beta is None else found + beta.reshape(shape)


def _pad(x: Floats, pad: Sequence[int], constant_val: float, **_: Any) -> Floats:
    pairs = np.asarray(pad).reshape(-1, 2)  # of the last dimensions
    return np.pad(x, [(0, 0)] * (x.ndim - len(pairs)) + [tuple(pair) for pair in pairs], constant_values=constant_val)


def _slice_by_index(x: Floats, begin: Sequence[int], end: Sequence[int], stride: Sequence[int], **_: Any) -> Floats:
    return x[tuple(slice(*part) for part in zip(begin, end, stride, strict=True))]


def _slice_by_size(x: Floats, begin: Sequence[int], size: Sequence[int], **_: Any) -> Floats:
    return x[tuple(slice(first, first + length) for first, length in zip(begin, size, strict=True))]


def _reduction(reduce: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, keep_dims, **_: reduce(x, axis=tuple(map(int, axes)), keepdims=bool(keep_dims))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)


# What takes no argument but numbers.
_OF_ONE: Mapping[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "cast": lambda x: x,  # the type of its output says what it becomes
    "exp": np.exp,
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
}
_OF_TWO: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mul": np.multiply,
    "real_div": np.divide,
    "sub": np.subtract,
}
OPERATORS: Mapping[str, Callable[..., Any]] = {
    **{name: lambda x, compute=compute, **_: compute(x) for name, compute in _OF_ONE.items()},
    **{name: lambda x, y, compute=compute, **_: compute(x, y) for name, compute in _OF_TWO.items()},
    "avg_pool": _avg_pool,
    "batch_norm": _batch_norm,
    "clip": lambda x, alpha, beta, **_: np.clip(x, alpha, beta),
    "concat": lambda values, axis, **_: np.concatenate(values, axis),
    "conv": _conv,
    "gelu": _gelu,
    "leaky_relu": lambda x, alpha, **_: np.where(x < 0, x * alpha, x),
    "linear": _linear,
    "max_pool": _max_pool,
    "pad": _pad,
    "reduce_max": _reduction(np.max),
    "reduce_mean": _reduction(np.mean),
    "reduce_min": _reduction(np.min),
    "reduce_sum": _reduction(np.sum),
    "reshape": lambda x, shape, **_: x.reshape(shape),
    "rsqrt": lambda x, epsilon, **_: 1 / np.sqrt(x + epsilon),
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "softmax": _softmax,
    "transpose": lambda x, perm, **_: x.transpose(perm),
}
