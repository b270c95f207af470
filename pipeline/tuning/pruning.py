"""Magnitude pruning while training: the smallest weights become zeros, few at first, and stay zeros.

M. Zhu and S. Gupta, "To prune, or not to prune", 2017, https://arxiv.org/abs/1710.01878. Zeros make a model no faster
in an ordinary runtime, and its file no smaller: it is the compressed file, which app stores ship, that shrinks.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.backbones.quiet_tensorflow import keras


def prunable_kernels(upper_part: keras.Model, backbone: keras.Model) -> list[keras.Variable]:
    """Return the kernels that zeros are made in: those of the tuned convolutions over all channels.

    Not among them are depthwise kernels (few weights, and each channel has no other), the backbone's first
    convolution (few weights that see the picture itself), biases and batch normalizations.
    """
    convolutions = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    tuned = {id(layer) for layer in upper_part.layers}
    return [layer.kernel for layer in convolutions[1:] if id(layer) in tuned]


def sparsity_at(step: int, end_step: int, final_sparsity: float) -> float:
    """Return the share of zeros after a step, 0..final_sparsity (equation 1 of the paper, from 0 at step 0).

    It rises fast at first, while there are many weights to spare, and levels off towards the end.
    """
    left = 1 - min(step / end_step, 1) if end_step else 0
    return final_sparsity * (1 - left**3)


def mask_of_largest(weights: npt.NDArray[np.float32], sparsity: float) -> npt.NDArray[np.bool_]:
    """Return which weights stay: False for the share `sparsity` that is closest to zero, rounded to whole weights."""
    mask = np.ones(weights.size, bool)
    num_zeros = round(sparsity * weights.size)
    mask[np.argsort(np.abs(weights), axis=None, kind="stable")[:num_zeros]] = False
    return mask.reshape(weights.shape)


class Pruning(keras.callbacks.Callback):  # type: ignore[misc]
    """Makes zeros in kernels while a model is fitted; every kernel gets the same share."""

    def __init__(
        self, kernels: Sequence[keras.Variable], final_sparsity: float, *, end_step: int, interval_steps: int
    ) -> None:
        """Keep what to prune and when.

        Args:
            kernels: Weights that zeros are made in.
            final_sparsity: Share of zeros in the end, 0..1.
            end_step: Step after which that share is reached.
            interval_steps: Steps between two choices of the zeros; in between they stay the same.
        """
        super().__init__()
        self._kernels = kernels
        self._final_sparsity = final_sparsity
        self._end_step = end_step
        self._interval_steps = interval_steps
        self._masks = [np.ones(kernel.shape, np.float32) for kernel in kernels]
        self._step = 0

    @property
    def is_complete(self) -> bool:
        """Tell whether the final share is reached."""
        return self._step >= self._end_step

    @property
    def zero_percent(self) -> float:
        """Return how many of the weights are zeros now, in percent."""
        num_zeros = sum(mask.size - int(mask.sum()) for mask in self._masks)
        return 100 * num_zeros / max(1, sum(mask.size for mask in self._masks))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 - Keras names them
        """Choose the zeros when it is time, and undo what the optimizer made of them."""
        self._step += 1
        is_due = self._step % self._interval_steps == 0 and self._step < self._end_step
        if is_due or self._step == self._end_step:
            sparsity = sparsity_at(self._step, self._end_step, self._final_sparsity)
            values = [keras.ops.convert_to_numpy(kernel) for kernel in self._kernels]
            self._masks = [mask_of_largest(value, sparsity).astype(np.float32) for value in values]
        for kernel, mask in zip(self._kernels, self._masks, strict=True):
            kernel.assign(kernel * mask)
