"""Stage `finetune`: lets the last blocks of the backbone learn, too, if `training.mode` says so.

Reads models/head/converted.tflite, data/frames, data/augmented, data/splits.csv, and what the backbone is built from;
writes models/finetune/converted.tflite, from which all schemes are then made, and plots/finetune/curves.csv.
The head that is trained here with the backbone is thrown away: the one that is shipped is trained afterwards, on what
the tuned and then quantized backbone computes on the phone. In the mode `head` nothing reads what this stage writes,
and it does nothing. TensorBoard reads .tensorboard/finetune.
"""

import sys
import tempfile
from pathlib import Path

from pipeline.config.application import run_stage
from pipeline.config.backbone_names import overrides
from pipeline.config.finetune import FinetuneStage
from pipeline.config.train import HEAD
from pipeline.files import layout, write_text
from pipeline.files.full_disk import telling_full_disk
from pipeline.takes.splits import read_takes
from pipeline.takes.staging import staged
from pipeline.tuning.curves import CURVES

_NOT_TUNED = "`training.mode` in params.yaml is `head`: the backbone stays as it is.\n"


def finetune(config: FinetuneStage) -> None:
    """Tune the backbone and write it with its curves; leave a note instead if only the head is to be trained."""
    if config.training.mode == HEAD:
        with staged(layout.FINETUNED) as folder:
            write_text(folder / "not_tuned.txt", _NOT_TUNED)
        write_text(layout.FINETUNE_CURVES, ",".join(CURVES) + "\n")
        return
    with telling_full_disk(layout.FINETUNED), staged(layout.FINETUNED) as folder:
        curves = _tune_into(folder, config)
    write_text(layout.FINETUNE_CURVES, curves)


def _tune_into(folder: Path, config: FinetuneStage) -> str:
    """Write the tuned backbone into a folder, tell how it went, and return the curves as CSV."""
    # TensorFlow's seconds are for those who asked for them.
    from pipeline.tuning.tuned_backbone import tuned_backbone  # noqa: PLC0415

    start = layout.CONVERTED_BACKBONE.read_bytes()
    # Beside the output folder: if this process is killed, the next `staged` removes it.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{layout.FINETUNED.name}.") as scratch:
        tuned = tuned_backbone(start, read_takes(layout.SPLITS), config, Path(scratch))
    (folder / layout.CONVERTED_BACKBONE.name).write_bytes(tuned.file)
    losses, accuracies = tuned.curves["validation_loss"], tuned.curves["validation_accuracy"]
    best = tuned.best_epoch
    verdict = (
        f"best after epoch {best}, validation loss {losses[0]:.3f} -> {losses[best]:.3f}, "
        f"accuracy {accuracies[0]:.3f} -> {accuracies[best]:.3f}"
        if best
        else f"no epoch was better than the start (validation loss {losses[0]:.3f}): the backbone stays as it is"
    )
    sys.stderr.write(f"finetune: {verdict}\n")
    return str(tuned.curves.to_csv(index=False, lineterminator="\n"))


def main() -> None:
    """Run the stage from the command line."""
    run_stage("finetune", FinetuneStage, finetune, {"backbone": overrides})


if __name__ == "__main__":
    main()
