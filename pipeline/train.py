"""Stage `train`: trains the head of one scheme.

Reads data/bottlenecks/<scheme> and data/splits.csv; writes models/heads/<scheme>.safetensors, the head that is
shipped, models/heads/held_out/<scheme>.safetensors, one that has never seen the test takes, and
plots/training/<scheme>.csv.
A scheme's head is trained on the bottlenecks of that scheme's own backbone, so what quantization does to the features
is something that the head has learned to live with. With `unknown.mode: learned` it learns from other things, too, that
they are none of the labels. With `training.final: train` both heads are the same. With
`training.optimizer: adamw` TensorBoard reads .tensorboard/<scheme>.
"""

import shutil
import sys

from pipeline.config.application import run_stage
from pipeline.config.train import TrainStage
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.head_file import to_bytes
from pipeline.heads.inputs import learned_rows
from pipeline.heads.training import train_both


def train(config: TrainStage) -> None:
    """Train one scheme's heads and write them, with how the shipped one came about."""
    title, log_folder = f"train@{config.scheme}", layout.TENSORBOARD / config.scheme
    rows, lookalikes = learned_rows(config.scheme, config.unknown.mode)
    shutil.rmtree(log_folder, ignore_errors=True)
    held_out, final = train_both(
        rows, config.training, keep_percent=config.unknown.keep_percent, title=title, log_folder=log_folder
    )
    write_bytes(layout.held_out_head(config.scheme), to_bytes(held_out.head))
    write_bytes(layout.head(config.scheme), to_bytes(final.head))
    write_text(layout.training_curves(config.scheme), final.curves.to_csv(index=False, lineterminator="\n"))
    for one in lookalikes:
        sys.stderr.write(
            f"train@{config.scheme}: {one.take} looks like '{one.label}' and is not learned as something else\n"
        )
    takes = "all takes" if final is not held_out else "all but the test takes"
    sys.stderr.write(f"train@{config.scheme}: {final.summary}; trained on {takes}\n")


def main() -> None:
    """Run the stage from the command line."""
    run_stage("train", TrainStage, train)


if __name__ == "__main__":
    main()
