"""Stage `finetune`: lets the last blocks of the backbone learn, too, if `training.mode` says so.

Reads models/backbone/converted.tflite, data/frames, data/augmented, data/splits.csv, and what the backbone is built
from; writes models/backbone/tuned.tflite, from which all schemes are then made, and plots/finetune/curves.csv.
The head that is trained here with the backbone is thrown away: the one that is shipped is trained afterwards, on what
the tuned and then quantized backbone computes on the phone. In the mode `head` the backbone is passed on as it is.
TensorBoard reads .tensorboard/finetune.
"""

import sys
import tempfile
from pathlib import Path

from pipeline.config.application import run_stage
from pipeline.config.backbone_names import overrides
from pipeline.config.finetune import FinetuneStage
from pipeline.config.train import HEAD
from pipeline.files import layout, write_bytes, write_text
from pipeline.files.os_errors import telling_full_disk
from pipeline.takes.splits import read_takes
from pipeline.tuning import CURVES


def finetune(config: FinetuneStage) -> None:
    """Write the tuned backbone and its curves; the backbone as it is, and no curve, if only the head is to learn."""
    content, curves = layout.CONVERTED_BACKBONE.read_bytes(), ",".join(CURVES) + "\n"
    if config.training.mode != HEAD:
        with telling_full_disk(layout.TUNED_BACKBONE):
            content, curves = _tuned(content, config)
    write_text(layout.FINETUNE_CURVES, curves)
    write_bytes(layout.TUNED_BACKBONE, content)


def _tuned(start: bytes, config: FinetuneStage) -> tuple[bytes, str]:
    """Tune a backbone, tell how it went, and return it with the curves as CSV."""
    # TensorFlow's seconds are for those who asked for them.
    from pipeline.tuning.tuned_backbone import tuned_backbone  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=layout.TUNED_BACKBONE.parent, prefix=".tuned.") as scratch:
        takes = [take for take in read_takes(layout.SPLITS) if take.shows_a_label]
        tuned = tuned_backbone(start, takes, config, Path(scratch))
    losses, accuracies = tuned.curves["validation_loss"], tuned.curves["validation_accuracy"]
    best = tuned.best_epoch
    verdict = (
        f"best after epoch {best}, validation loss {losses[0]:.3f} -> {losses[best]:.3f}, "
        f"accuracy {accuracies[0]:.3f} -> {accuracies[best]:.3f}"
        if best
        else f"no epoch was better than the start (validation loss {losses[0]:.3f}): the backbone stays as it is"
    )
    sys.stderr.write(f"finetune: {verdict}\n")
    return tuned.file, str(tuned.curves.to_csv(index=False, lineterminator="\n"))


def main() -> None:
    """Run the stage from the command line."""
    run_stage("finetune", FinetuneStage, finetune, {"backbone": overrides})


if __name__ == "__main__":
    main()
