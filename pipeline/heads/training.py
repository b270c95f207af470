"""Trains a linear head on cached bottlenecks, in Keras."""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from pipeline.backbones.quiet_tensorflow import keras, tensorflow
from pipeline.config.train import TrainingConfig
from pipeline.heads.head_file import Head
from pipeline.takes.examples import Examples

LOGITS_LAYER = "logits"


@dataclass(frozen=True)
class TrainedHead:
    """What training gives.

    Attributes:
        head: The best head.
        curves: A row for each look at the validation examples: step, train_loss, train_accuracy, validation_loss,
            validation_accuracy.
        best_step: The step whose weights the head has: the one with the lowest validation loss.
    """

    head: Head
    curves: pd.DataFrame
    best_step: int


def train_head(
    train: Examples, validation: Examples, labels: list[str], config: TrainingConfig, *, title: str, log_folder: Path
) -> TrainedHead:
    """Train dropout and one dense layer by AdamW with cosine decay, and keep the best validation checkpoint.

    The result is the same for the same examples, settings and seed, on the same machine.

    Args:
        train: Examples of the frames and their augmented copies.
        validation: Examples of frames of other takes.
        labels: Label names in the order of the logits.
        config: Settings.
        title: For the progress bar.
        log_folder: Where TensorBoard's event files go.
    """
    keras.utils.set_random_seed(config.seed)
    tensorflow.config.experimental.enable_op_determinism()
    model = build_head(train.features.shape[1], len(labels), config.dropout)
    _compile(model, config)
    weights = class_weights(train.label_indices, len(labels)) if config.class_balance else None
    num_looks = math.ceil(config.steps / config.eval_step_interval)
    with tempfile.TemporaryDirectory() as scratch:
        best = Path(scratch) / "best.weights.h5"
        history = model.fit(
            batches(train, config, weights),
            steps_per_epoch=min(config.eval_step_interval, config.steps),
            epochs=num_looks,
            validation_data=_validation_batches(validation, config),
            callbacks=[
                keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True, save_weights_only=True),
                keras.callbacks.TensorBoard(log_folder, write_graph=False),
                _Progress(num_looks, title),
            ],
            shuffle=False,  # the batches are shuffled already
            verbose=0,
        ).history
        curves = _curves(history, config)
        best_step = int(curves["step"].to_numpy()[curves["validation_loss"].to_numpy().argmin()])
        model.load_weights(best)
    kernel, bias = model.get_layer(LOGITS_LAYER).get_weights()
    return TrainedHead(Head(kernel, bias, tuple(labels)), curves, best_step)


def build_head(feature_length: int, num_labels: int, dropout: float) -> keras.Model:
    """Return the head: features float32 [batch, feature_length] in, logits float32 [batch, num_labels] out."""
    return keras.Sequential(
        [
            keras.Input((feature_length,), name="features"),
            keras.layers.Dropout(dropout, name="dropout"),
            keras.layers.Dense(num_labels, name=LOGITS_LAYER),
        ],
        name="head",
    )


def _compile(model: keras.Model, config: TrainingConfig) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")])


def class_weights(label_indices: npt.NDArray[np.int64], num_labels: int) -> npt.NDArray[np.float32]:
    """Return a weight for each label so that every label adds the same to the loss; the mean over examples is 1."""
    counts = np.bincount(label_indices, minlength=num_labels)
    weights: npt.NDArray[np.float32] = (counts.sum() / (num_labels * np.maximum(counts, 1))).astype(np.float32)
    return weights


def batches(
    examples: Examples, config: TrainingConfig, weight_of_label: npt.NDArray[np.float32] | None
) -> tensorflow.data.Dataset:
    """Return endless batches, each pass over the examples in another order.

    The examples are shuffled by index and copied batch by batch: a shuffle buffer of TensorFlow's would hold them all
    a second time.
    """
    signature = (
        tensorflow.TensorSpec((None, *examples.features.shape[1:]), examples.features.dtype),
        tensorflow.TensorSpec((None,), tensorflow.int64),
        tensorflow.TensorSpec((None,), tensorflow.float32),
    )
    weights = np.ones(int(examples.label_indices.max()) + 1, np.float32) if weight_of_label is None else weight_of_label

    def batches() -> Iterator[tuple[npt.NDArray[np.generic], ...]]:
        for indices in _shuffled(len(examples), config.train_batch_size, config.seed):
            labels = examples.label_indices[indices]
            yield examples.features[indices], labels, weights[labels]

    return tensorflow.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)


def _shuffled(num_examples: int, batch_size: int, seed: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield indices of batches for ever; each run of `num_examples` indices holds every example once."""
    generator = np.random.default_rng(seed)
    waiting = np.zeros(0, np.intp)
    while True:
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, generator.permutation(num_examples)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def _validation_batches(examples: Examples, config: TrainingConfig) -> tensorflow.data.Dataset:
    size = len(examples) if config.validation_batch_size == -1 else config.validation_batch_size
    arrays = (np.asarray(examples.features), examples.label_indices)
    return tensorflow.data.Dataset.from_tensor_slices(arrays).batch(size).cache()


def _curves(history: dict[str, list[float]], config: TrainingConfig) -> pd.DataFrame:
    """Rename Keras's history and count in steps."""
    names = {
        "loss": "train_loss",
        "accuracy": "train_accuracy",
        "val_loss": "validation_loss",
        "val_accuracy": "validation_accuracy",
    }
    curves = pd.DataFrame(history)[list(names)].rename(columns=names)
    interval = min(config.eval_step_interval, config.steps)
    curves.insert(0, "step", (curves.index + 1) * interval)
    return curves


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """One bar over all steps, with the validation accuracy behind it."""

    def __init__(self, num_looks: int, title: str) -> None:
        super().__init__()
        self._bar = tqdm(total=num_looks, desc=title, unit="look", disable=None)

    def on_epoch_end(self, _epoch: int, logs: dict[str, float] | None = None) -> None:
        """Move on by one look at the validation examples."""
        self._bar.update()
        self._bar.set_postfix(validation_accuracy=f"{(logs or {}).get('val_accuracy', math.nan):.3f}")

    def on_train_end(self, _logs: dict[str, float] | None = None) -> None:
        """Leave the finished bar standing."""
        self._bar.close()
