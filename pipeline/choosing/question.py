"""A further head that models are compared by: what it asks, and how well heads without a take answer it."""

from dataclasses import dataclass

from pipeline.config.heads import ONE
from pipeline.config.train import TrainingConfig
from pipeline.heads.crossvalidation import cross_validate
from pipeline.heads.questions import relabelled, yes_or_no
from pipeline.metrics.classification import Predictions
from pipeline.metrics.many import ManyPredictions
from pipeline.takes.answers import Answers
from pipeline.takes.folds import NUM_FOLDS
from pipeline.takes.lookalikes import without_lookalikes
from pipeline.takes.rows import Rows


@dataclass(frozen=True)
class Question:
    """What a head asks of each take.

    Attributes:
        name: Of the head.
        kind: `one` or `many`, see `config.heads`.
        answers: The labels of each take that is asked.
    """

    name: str
    kind: str
    answers: Answers

    def cross_validated(self, rows: Rows, training: TrainingConfig, *, title: str) -> Predictions | ManyPredictions:
        """Return what heads say of takes that they have not seen.

        Args:
            rows: Under the labels of the first head, with the pictures of other things.
            training: How heads are trained.
            title: For the progress bar.

        Raises:
            InputError: If a label has no frame to train on.
        """
        if self.kind == ONE:
            return _held_out(without_lookalikes(relabelled(rows, self.answers))[0], training, title)
        labels = sorted({label for told in self.answers.values() for label in told})
        of_label = {
            label: _held_out(yes_or_no(rows, self.answers, label), training, f"{title} {label}", says_yes_or_no=True)
            for label in labels
        }
        return ManyPredictions.of(of_label, set(self.answers))


def _held_out(rows: Rows, training: TrainingConfig, title: str, *, says_yes_or_no: bool = False) -> Predictions:
    return cross_validate(
        rows, training, num_folds=NUM_FOLDS, percents=[], title=title, says_yes_or_no=says_yes_or_no
    ).predictions
