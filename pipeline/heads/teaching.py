"""Teaches a head that learns: what is new and what is old, mixed in every step."""

from dataclasses import dataclass

import numpy as np

from pipeline.heads.replay import LabelledFeatures
from pipeline.litert.learner import Learner


@dataclass(frozen=True)
class Recipe:
    """How a head is taught; `python -m bench.trainable` compares.

    Attributes:
        learning_rate: Of each step.
        momentum: 0 to below 1.
        steps: How many.
        replay_share: Of a step's rows: those that are old, 0 to 1.
    """

    learning_rate: float
    momentum: float = 0.9
    steps: int = 200
    replay_share: float = 0.5


def recipe_for(mean_squared_length: float) -> Recipe:
    """Return how to teach on features of some length, so that steps never overshoot, whatever the backbone.

    The curvature of the cross-entropy is at most half of the mean of |features|^2 + 1 (the 1 is the bias'; D. Boehning,
    Multinomial logistic regression algorithm, Annals of the Institute of Statistical Mathematics 44, 1992), and descent
    goes down as long as the learning rate is below 2 / curvature. This is a quarter of that.

    Args:
        mean_squared_length: Of a frame's features.
    """
    return Recipe(learning_rate=1 / (mean_squared_length + 1))


def teach(learner: Learner, taught: LabelledFeatures, replay: LabelledFeatures, recipe: Recipe, seed: int) -> float:
    """Teach a head; the same arguments leave it with the same weights.

    Args:
        learner: Knows something already.
        taught: All that it is to learn.
        replay: What it is to keep; may be empty.
        recipe: How.
        seed: Of which rows are drawn for each step, with replacement.

    Returns:
        The loss before the last step, in nats.
    """
    generator, loss = np.random.default_rng(seed), 0.0
    num_old = round(recipe.replay_share * learner.batch_size) if len(replay) else 0
    for _ in range(recipe.steps):
        new, old = (
            generator.integers(0, len(rows), num) if num else np.zeros(0, np.int64)
            for rows, num in ((taught, learner.batch_size - num_old), (replay, num_old))
        )
        batch = LabelledFeatures(
            np.concatenate([taught.features[new], replay.features[old]]),
            np.concatenate([taught.rows[new], replay.rows[old]]),
        )
        labels = batch.one_hot(learner.num_outputs)
        loss = learner.train(batch.features, labels, recipe.learning_rate, recipe.momentum)
    return loss
