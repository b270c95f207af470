"""Trains a linear head for a number of steps, as retrain.py does, in Keras."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.backbones.quiet_tensorflow import keras, tensorflow
from pipeline.config.train import TrainingConfig
from pipeline.heads.choosing import DEFAULT_THRESHOLD, threshold_of
from pipeline.heads.head_file import Head
from pipeline.heads.trained import TrainedHead
from pipeline.heads.weighing import output_weights
from pipeline.processes.progress import Progress
from pipeline.takes.examples import Examples
from pipeline.takes.rows import Rows

LOGITS_LAYER = "logits"


def train_in_steps(
    rows: Rows,
    config: TrainingConfig,
    held_out: Sequence[Sequence[int]],
    *,
    keep_percent: float,
    title: str,
    log_folder: Path | None,
) -> TrainedHead:
    """Train dropout and one dense layer by AdamW with cosine decay; the head is that of the last step.

    The rate has fallen to 0 by then, so no take has to be set aside to choose a checkpoint. Only a threshold needs
    takes that were not trained on: for it another head is trained before, without them. The result is the same for the
    same rows, settings and seed, on the same machine.

    Args:
        rows: Frames and their augmented copies.
        config: Settings.
        held_out: Indices of the units that the threshold is found by, in one group or none; read if some rows are none
            of the labels.
        keep_percent: Of the frames of these units, at the threshold.
        title: For the progress bar.
        log_folder: Where TensorBoard's event files go; None for none.
    """
    threshold = None
    if rows.have_others:
        threshold = _threshold(rows, config, held_out, keep_percent, title)
    return _trained(rows, config, threshold, title, log_folder)


def _threshold(
    rows: Rows, config: TrainingConfig, held_out: Sequence[Sequence[int]], keep_percent: float, title: str
) -> float:
    """Train a head without some units, and return the threshold that their frames reach."""
    is_held_out = np.logical_or.reduce([np.zeros(len(rows), bool), *(rows.of_units(group) for group in held_out)])
    asked = rows.only(is_held_out & rows.are_frames & rows.are_of_labels)
    if not len(asked):
        return DEFAULT_THRESHOLD
    head = _trained(rows.only(~is_held_out), config, DEFAULT_THRESHOLD, f"{title}, for the threshold", None).head
    return threshold_of(head.probabilities(asked.features), keep_percent)


def _trained(
    rows: Rows, config: TrainingConfig, threshold: float | None, title: str, log_folder: Path | None
) -> TrainedHead:
    keras.utils.set_random_seed(config.seed)
    tensorflow.config.experimental.enable_op_determinism()
    examples = Examples(rows.features, rows.label_indices)
    model = build_head(rows.features.shape[1], rows.num_outputs, config.dropout)
    _compile(model, config)
    weights = output_weights(rows.label_indices, len(rows.labels), class_balance=config.class_balance)
    num_looks = math.ceil(config.steps / config.eval_step_interval)
    callbacks: list[keras.callbacks.Callback] = [_Progress(num_looks, title)]
    if log_folder is not None:
        callbacks.append(keras.callbacks.TensorBoard(log_folder, write_graph=False))
    history = model.fit(
        batches(examples, config, weights),
        steps_per_epoch=min(config.eval_step_interval, config.steps),
        epochs=num_looks,
        callbacks=callbacks,
        shuffle=False,  # the batches are shuffled already
        verbose=0,
    ).history
    kernel, bias = model.get_layer(LOGITS_LAYER).get_weights()
    curves = _curves(history, config)
    last = curves.iloc[-1]
    summary = f"{int(last['step'])} steps, loss {last['train_loss']:.3f} on what it was trained on"
    head = Head(kernel, bias, rows.labels, threshold)
    return TrainedHead(head, curves, summary + head.threshold_in_words)


def build_head(feature_length: int, num_outputs: int, dropout: float) -> keras.Model:
    """Return the head: features float32 [batch, feature_length] in, logits float32 [batch, num_outputs] out."""
    return keras.Sequential(
        [
            keras.Input((feature_length,), name="features"),
            keras.layers.Dropout(dropout, name="dropout"),
            keras.layers.Dense(num_outputs, name=LOGITS_LAYER),
        ],
        name="head",
    )


def _compile(model: keras.Model, config: TrainingConfig) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")])


def batches(examples: Examples, config: TrainingConfig, weights: npt.NDArray[np.float32]) -> tensorflow.data.Dataset:
    """Return endless batches, each pass over the examples in another order.

    The examples are shuffled by index and copied batch by batch: a shuffle buffer of TensorFlow's would hold them all
    a second time.
    """
    signature = (
        tensorflow.TensorSpec((None, *examples.features.shape[1:]), examples.features.dtype),
        tensorflow.TensorSpec((None,), tensorflow.int64),
        tensorflow.TensorSpec((None,), tensorflow.float32),
    )

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


def _curves(history: dict[str, list[float]], config: TrainingConfig) -> pd.DataFrame:
    """Rename Keras's history and count in steps."""
    names = {"loss": "train_loss", "accuracy": "train_accuracy"}
    curves = pd.DataFrame(history)[list(names)].rename(columns=names)
    interval = min(config.eval_step_interval, config.steps)
    curves.insert(0, "step", (curves.index + 1) * interval)
    return curves


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """One bar over all steps, with the loss behind it."""

    def __init__(self, num_looks: int, title: str) -> None:
        super().__init__()
        self._progress = Progress(title, total=num_looks, unit="look")

    def on_epoch_end(self, _epoch: int, logs: dict[str, float] | None = None) -> None:
        """Move on by one look."""
        self._progress.update(loss=f"{(logs or {}).get('loss', math.nan):.3f}")

    def on_train_end(self, _logs: dict[str, float] | None = None) -> None:
        """Leave the finished bar standing."""
        self._progress.close()
