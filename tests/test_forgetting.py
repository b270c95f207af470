"""The samples: a label that a head has never seen is taught by one take, and what it knew before is asked again."""

import pytest

from bench.trainable import BEFORE, WITH, WITHOUT, answers, lesson
from pipeline.heads.replay import mean_squared_length
from pipeline.heads.teaching import recipe_for
from tests import tiny_models
from tests.test_inspect_samples import Seen, rows_of, samples

pytestmark = pytest.mark.slow

NUM_LABELS = 6
MAX_FORGOTTEN = 0.06  # of the frames of the old labels, over all that are left out in turn
__all__ = ["samples"]  # a fixture, which pytest looks for here


def test_with_replay_old_labels_are_kept_and_without_they_are_forgotten(samples: Seen) -> None:
    rows = rows_of([take.partition("/")[0] for take in samples.takes], samples.takes, samples.features)
    assert len(rows.labels) == NUM_LABELS
    backbone = tiny_models.backbone(num_features=rows.features.shape[1])  # of which no picture is asked
    recipe = recipe_for(mean_squared_length(rows))
    found = [answers(backbone, lesson(rows, label, 1, 0), label, recipe) for label in range(NUM_LABELS)]

    def right(way: str, kind: str) -> float:
        of_labels = [table.loc[(table["way"] == way) & (table["kind"] == kind), "is_right"].mean() for table in found]
        return float(sum(of_labels)) / NUM_LABELS

    assert right(BEFORE, "old") > 0.85
    assert right(BEFORE, "new") == 0
    assert right(WITH, "old") > right(BEFORE, "old") - MAX_FORGOTTEN
    assert right(WITH, "new") > 0.5
    assert right(WITHOUT, "old") < 0.2
