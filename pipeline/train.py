"""Stage `train`: trains the head of one scheme.

Reads data/bottlenecks/<scheme> and data/splits.csv; writes models/heads/<scheme>.safetensors and
plots/training/<scheme>.csv. A scheme's head is trained on the bottlenecks of that scheme's own backbone, so what
quantization does to the features is something that the head has learned to live with. TensorBoard reads
.tensorboard/<scheme>.
"""

import shutil
import sys

from pipeline.config.application import run_stage
from pipeline.config.train import TrainStage
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.head_file import to_bytes
from pipeline.heads.training import train_head
from pipeline.takes.examples import read_examples
from pipeline.takes.splits import TRAIN, VALIDATION, labels_of, read_takes


def train(config: TrainStage) -> None:
    """Train one scheme's head and write it with its curves."""
    takes = read_takes(layout.SPLITS)
    folder = layout.bottlenecks(config.scheme)
    examples = read_examples(folder, takes, TRAIN)
    validation = read_examples(folder, takes, VALIDATION)
    log_folder = layout.TENSORBOARD / config.scheme
    shutil.rmtree(log_folder, ignore_errors=True)
    trained = train_head(
        examples,
        validation,
        labels_of(takes),
        config.training,
        title=f"train@{config.scheme}",
        log_folder=log_folder,
    )
    write_bytes(layout.head(config.scheme), to_bytes(trained.head))
    write_text(layout.training_curves(config.scheme), trained.curves.to_csv(index=False, lineterminator="\n"))
    best = trained.curves.set_index("step").loc[trained.best_step]
    sys.stderr.write(
        f"train@{config.scheme}: {len(examples)} examples; best at step {trained.best_step}, "
        f"validation accuracy {best['validation_accuracy']:.3f} on {len(validation)} frames\n"
    )


def main() -> None:
    """Run the stage from the command line."""
    run_stage("train", TrainStage, train)


if __name__ == "__main__":
    main()
