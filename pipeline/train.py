"""Stage `train`: trains the head of one scheme.

Reads data/bottlenecks/<scheme> and data/splits.csv; writes models/heads/<scheme>.keras and plots/training/<scheme>.csv.
A scheme's head is trained on the bottlenecks of that scheme's own backbone, so what quantization does to the features
is something that the head has learned to live with. TensorBoard reads .tensorboard/<scheme>.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.config.application import run_stage
from pipeline.config.train import TrainStage
from pipeline.files import layout, write_bytes, write_text
from pipeline.files.full_disk import telling_full_disk
from pipeline.heads.examples import Examples, FeatureFile
from pipeline.heads.training import train_head
from pipeline.takes.splits import TRAIN, VALIDATION, Take, labels_of, read_takes
from pipeline.takes.tables import read_parquet


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
    write_bytes(layout.head(config.scheme), trained.file)
    write_text(layout.training_curves(config.scheme), trained.curves.to_csv(index=False, lineterminator="\n"))
    best = trained.curves.set_index("step").loc[trained.best_step]
    sys.stderr.write(
        f"train@{config.scheme}: {len(examples)} examples; best at step {trained.best_step}, "
        f"validation accuracy {best['validation_accuracy']:.3f} on {len(validation)} frames\n"
    )


def read_examples(folder: Path, takes: list[Take], part: str) -> Examples:
    """Gather the bottlenecks of one part, in the order of the split file.

    Args:
        folder: A scheme's bottlenecks.
        takes: All takes.
        part: `train` gives frames and their augmented copies, `validation` gives frames.

    Returns:
        The examples, in a file beside the bottlenecks; label indices follow `labels_of(takes)`.

    Raises:
        PipelineError: If the disk is full.
    """
    features, labels = FeatureFile(folder.parent), labels_of(takes)
    label_indices = [np.zeros(0, np.int64)]
    with telling_full_disk(folder):
        for label, vectors in _tables_of_part(folder, takes, part):
            features.append(vectors)
            label_indices.append(np.full(len(vectors), labels.index(label)))
    return Examples(features, np.concatenate(label_indices))


def _tables_of_part(folder: Path, takes: list[Take], part: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the label and the feature vectors, float32 [num_rows, feature_length], of each table of a part."""
    for take in (take for take in takes if take.has_part(part)):
        vectors = _vectors(folder / "frames" / take.table)
        yield take.label, vectors[take.indices_of_part(part, len(vectors))]
        if part == TRAIN:
            yield take.label, _vectors(folder / "augmented" / take.table)


def _vectors(path: Path) -> np.ndarray:
    """Read the feature vectors of a take, float32 [num_rows, feature_length]."""
    column = read_parquet(path, columns=["feature"])["feature"].combine_chunks()
    flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), column.type.list_size)


def main() -> None:
    """Run the stage from the command line."""
    run_stage("train", TrainStage, train)


if __name__ == "__main__":
    main()
