"""Pictures on which two models that should be one are compared."""

import numpy as np


def probes(input_pixels: int) -> list[np.ndarray]:
    """Return three pictures, uint8 [input_pixels, input_pixels, 3]: grey, noise, and noise in 8 x 8 blocks."""
    generator = np.random.default_rng(0)
    shape = (input_pixels, input_pixels, 3)
    blocks = generator.integers(0, 256, (input_pixels // 8 + 1, input_pixels // 8 + 1, 3), dtype=np.uint8)
    coarse = blocks.repeat(8, 0).repeat(8, 1)[:input_pixels, :input_pixels]
    return [np.full(shape, 127, np.uint8), generator.integers(0, 256, shape, dtype=np.uint8), coarse]
