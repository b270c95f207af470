"""The figures of one model's predictions with their intervals, without what needs another model beside it."""

from dataclasses import asdict
from typing import Any

from pipeline.metrics.classification import Predictions, score
from pipeline.metrics.intervals import intervals_of, standard_error

_OF_TWO_MODELS = ("agreement_with_float32", "accuracy_drop")


def figures_alone(predictions: Predictions, *, num_bins: int) -> dict[str, Any]:
    """Return what `classification.score` tells of one model, and `with_intervals` adds."""
    figures = with_intervals(score(predictions, predictions, num_bins=num_bins), predictions)
    return {key: value for key, value in figures.items() if key not in _OF_TWO_MODELS}


def with_intervals(figures: dict[str, Any], predictions: Predictions) -> dict[str, Any]:
    """Return figures with the standard error of the accuracy and the intervals; one take only has none."""
    intervals = intervals_of(predictions)
    error = standard_error(predictions.predicted == predictions.actual, predictions.takes)
    return figures | {"standard_error": error, "intervals": asdict(intervals) if intervals else {}}
