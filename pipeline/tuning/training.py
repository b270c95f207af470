"""Trains the upper part of a backbone together with its head, in Keras."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.backbones.quiet_tensorflow import keras, tensorflow
from pipeline.config.finetune import FinetuneConfig
from pipeline.config.train import TrainingConfig
from pipeline.heads.head_file import Head
from pipeline.heads.steps import LOGITS_LAYER, batches, build_head
from pipeline.heads.weighing import output_weights
from pipeline.processes.progress import Progress
from pipeline.takes.examples import Examples
from pipeline.tuning import CURVES
from pipeline.tuning.pruning import Pruning


@dataclass(frozen=True)
class Tuning:
    """How tuning went. The weights of the best epoch are those that the upper part has now.

    Attributes:
        curves: A row an epoch with the columns `CURVES`; epoch 0 is the head on the backbone as it came, whose train
            columns are empty. zero_percent counts the weights of the pruned kernels alone.
        best_epoch: The epoch with the lowest validation loss; with pruning, among those with all zeros made.
    """

    curves: pd.DataFrame
    best_epoch: int


def tune(
    upper: keras.Model,
    kernels: list[keras.Variable],
    head: Head,
    train: Examples,
    validation: Examples,
    training: TrainingConfig,
    config: FinetuneConfig,
    *,
    log_folder: Path,
) -> Tuning:
    """Train a part of a backbone, in place, from where it and the head are, and leave it with the best weights.

    AdamW with cosine decay, as for the head. The result is the same for the same arguments on the same machine.

    Args:
        upper: From the boundary, of the shape of `train.features`, to the features.
        kernels: Weights of it that pruning makes zeros in, if asked to.
        head: A head that was trained on what the backbone gives now.
        train: Examples of the frames and their augmented copies.
        validation: Examples of frames of other takes.
        training: Dropout, weight decay, class balance and seed.
        config: All else.
        log_folder: Where TensorBoard's event files go.
    """
    keras.utils.set_random_seed(training.seed)
    tensorflow.config.experimental.enable_op_determinism()
    num_steps = math.ceil(len(train) / config.train_batch_size)
    model = _model(upper, head, training, freeze_batch_norm=config.freeze_batch_norm)
    _compile(model, config.learning_rate, num_steps * config.epochs, training.weight_decay)
    pruning = _pruning(kernels, config, num_steps)
    held_out = _in_order(validation, config.train_batch_size)
    start = model.evaluate(held_out, verbose=0, return_dict=True)
    best = _Best(start, pruning, config.patience)
    weights = output_weights(train.label_indices, len(head.labels), class_balance=training.class_balance)
    model.fit(
        batches(train, replace(training, train_batch_size=config.train_batch_size), weights),
        steps_per_epoch=num_steps,
        epochs=config.epochs,
        validation_data=held_out,
        callbacks=[
            pruning,  # before the one that keeps weights
            best,
            keras.callbacks.TensorBoard(log_folder, write_graph=False),
            _Progress(num_steps * config.epochs),
        ],
        shuffle=False,  # the batches are shuffled already
        verbose=0,
    )
    model.set_weights(best.weights)
    return Tuning(pd.DataFrame(best.rows, columns=CURVES), best.epoch)


def _model(upper: keras.Model, head: Head, training: TrainingConfig, *, freeze_batch_norm: bool) -> keras.Model:
    """Join the upper part and the head: [batch, *shape of the boundary] in, logits float32 [batch, num_labels] out."""
    for layer in upper.layers:  # frozen, a batch normalization also uses the statistics that it came with
        layer.trainable = not (freeze_batch_norm and isinstance(layer, keras.layers.BatchNormalization))
    top = build_head(len(head.weights), len(head.bias), training.dropout)
    top.get_layer(LOGITS_LAYER).set_weights([head.weights, head.bias])
    boundary = keras.Input(upper.input_shape[1:], dtype=upper.inputs[0].dtype, name="boundary")
    return keras.Model(boundary, top(upper(boundary)))


def _compile(model: keras.Model, learning_rate: float, num_steps: int, weight_decay: float) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")])


def _pruning(kernels: list[keras.Variable], config: FinetuneConfig, num_steps: int) -> Pruning:
    """Return what makes the zeros; at the latest they are made when the last epoch begins."""
    end_step = min(round(num_steps * config.epochs * config.pruning_end_percent / 100), num_steps * (config.epochs - 1))
    sparsity = config.pruning_percent / 100
    return Pruning(
        kernels if sparsity else [],
        sparsity,
        end_step=max(1, end_step) if sparsity else 0,
        interval_steps=config.pruning_interval_steps,
    )


def _in_order(examples: Examples, batch_size: int) -> tensorflow.data.Dataset:
    """Return the examples once, in order, read from disk batch by batch."""

    def rows() -> Iterator[tuple[npt.NDArray[Any], ...]]:
        for start in range(0, len(examples), batch_size):
            chosen = slice(start, start + batch_size)
            yield np.asarray(examples.features[chosen]), examples.label_indices[chosen]

    signature = (
        tensorflow.TensorSpec((None, *examples.features.shape[1:]), examples.features.dtype),
        tensorflow.TensorSpec((None,), tensorflow.int64),
    )
    dataset = tensorflow.data.Dataset.from_generator(rows, output_signature=signature)
    num_batches = math.ceil(len(examples) / batch_size)
    return dataset.apply(tensorflow.data.experimental.assert_cardinality(num_batches)).prefetch(2)


class _Best(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes the curves, keeps the weights with the lowest validation loss, and stops when there is no hope of better.

    Weights without all their zeros do not count: whoever asks for zeros gets them. Without pruning the start counts.
    """

    def __init__(self, start: dict[str, float], pruning: Pruning, patience: int) -> None:
        super().__init__()
        self._pruning = pruning
        self._patience = patience
        self.epoch = 0
        self._loss = start["loss"] if pruning.is_complete else math.inf
        self._num_without = 0
        self.rows: list[tuple[float | None, ...]] = [(0, None, None, start["loss"], start["accuracy"], 0.0)]
        self.weights: list[npt.NDArray[np.float32]] = []

    def on_train_begin(self, _logs: dict[str, float] | None = None) -> None:
        """Keep the weights of the start."""
        self.weights = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add a row, and judge."""
        values = logs or {}
        figures = [values[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")]
        self.rows.append((epoch + 1, *figures, self._pruning.zero_percent))
        if not self._pruning.is_complete:
            return
        self._num_without += 1
        if values["val_loss"] < self._loss:
            self._loss, self.epoch, self._num_without = values["val_loss"], epoch + 1, 0
            self.weights = self.model.get_weights()
        self.model.stop_training = self._num_without >= self._patience


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """One bar over all steps, with the last validation accuracy behind it."""

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self._progress = Progress("finetune", total=num_steps, unit="step")
        self._accuracy: dict[str, str] = {}

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 - Keras names them
        """Move on by one step."""
        self._progress.update(**self._accuracy)

    def on_epoch_end(self, _epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show how good the model is now."""
        self._accuracy = {"validation_accuracy": f"{(logs or {}).get('val_accuracy', math.nan):.3f}"}

    def on_train_end(self, _logs: dict[str, float] | None = None) -> None:
        """Leave the finished bar standing."""
        self._progress.close()
