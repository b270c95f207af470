"""Runs a model that learns (see `trainable`) in LiteRT."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError
from pipeline.litert.interpreter import load_interpreter

SIGNATURES = ("infer", "train", "save", "restore")

Floats = npt.NDArray[np.float32]


class Learner:
    """A model that learns, with what it has learned so far. Not thread-safe.

    Attributes:
        batch_size: Rows of a step.
        num_features: Of the backbone.
        num_outputs: Rows of the weights.
    """

    def __init__(self, content: bytes, num_threads: int = 1) -> None:
        """Load a model; it knows what it knew when it was made.

        Args:
            content: A .tflite file that `with_training` made.
            num_threads: Threads that LiteRT may use, at least 1.

        Raises:
            ModelError: If LiteRT cannot load it, or it does not have the four signatures.
        """
        self._interpreter = load_interpreter(content, num_threads)
        found = list(self._interpreter.get_signature_list())
        if set(found) != {*SIGNATURES}:
            raise ModelError(
                found=f"a model with the signatures {', '.join(found) or 'none'}",
                expected=f"a model that learns, with {', '.join(SIGNATURES)}",
                remedy="make it: viewfinder trainable",
            )
        self._run = {name: self._interpreter.get_signature_runner(name) for name in SIGNATURES}
        given = self._run["train"].get_input_details()
        self._pixels = self._run["infer"].get_input_details()["image"]["dtype"]
        self.batch_size, self.num_features = map(int, given["features"]["shape"])
        self.num_outputs = int(given["labels"]["shape"][1])

    def infer(self, image: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Run the model.

        Args:
            image: uint8 [input_pixels, input_pixels, 3], RGB, 0..255.

        Returns:
            Features [num_features], and the probabilities of all labels, new ones too, [num_named]; float32.
        """
        answer = self._run["infer"](image=image[np.newaxis].astype(self._pixels))
        return answer["features"][0], answer["probabilities"][0]

    def train(self, features: Floats, labels: Floats, learning_rate: float, momentum: float) -> float:
        """Take one step.

        Args:
            features: float32 [num, num_features], at most `batch_size` rows; the rest is padding.
            labels: float32 [num, num_outputs], 1 at each row's label.
            learning_rate: Above 0.
            momentum: 0 to below 1.

        Returns:
            The mean cross-entropy before the step, in nats.
        """
        padding = ((0, self.batch_size - len(features)), (0, 0))
        answer = self._run["train"](
            features=np.pad(features, padding),
            labels=np.pad(labels, padding),
            learning_rate=np.full(1, learning_rate, np.float32),
            momentum=np.full(1, momentum, np.float32),
        )
        return float(answer["loss"][0])

    def save(self) -> dict[str, Floats]:
        """Return `weights`, float32 [num_outputs, num_features], and `bias`, [num_outputs]."""
        saved: dict[str, Any] = self._run["save"](unused=np.zeros(1, np.float32))
        return {name: saved[name].copy() for name in ("weights", "bias")}

    def restore(self, saved: dict[str, Floats]) -> None:
        """Know again what `save` gave, and forget the momentum."""
        self._run["restore"](weights=saved["weights"], bias=saved["bias"])
