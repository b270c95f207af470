"""Stage `evaluate`: scores a model as a phone would run it.

Reads models/<scheme>/model.tflite, models/float32/model.tflite, data/frames and data/splits.csv; writes
metrics/<scheme>.json and plots/evaluation/<scheme>/{predictions,confusion}.csv.
The file that would be shipped is run by LiteRT on the test frames, from pixels, through the one preprocessing function;
the float32 model runs beside it, so that agreement and drop compare the two on the same frames.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.config.application import run_stage
from pipeline.config.evaluate import EvaluateStage
from pipeline.files import layout, write_text
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.litert.measure import measure
from pipeline.litert.metadata import read_labels
from pipeline.metrics.classification import Predictions, score
from pipeline.takes.splits import TEST, Take, read_takes
from pipeline.takes.tables import read_parquet
from pipeline.takes.workers import num_workers


@dataclass(frozen=True)
class HeldOutFrame:
    """One frame of the test part."""

    frame_id: str
    take: str
    label: str
    image: bytes


def evaluate(config: EvaluateStage) -> None:
    """Score and time one scheme's model."""
    frames = list(held_out_frames(read_takes(layout.SPLITS)))
    predictions = predict(layout.model(config.scheme), frames, config.resize, title=f"evaluate@{config.scheme}")
    is_reference = config.scheme == layout.REFERENCE_SCHEME
    reference = (
        predictions
        if is_reference
        else predict(layout.model(layout.REFERENCE_SCHEME), frames, config.resize, title="  float32 beside it")
    )
    metrics = score(predictions, reference, num_bins=config.evaluate.num_calibration_bins) | _costs(config)
    write_text(layout.predictions(config.scheme), predictions.table().to_csv(index=False, lineterminator="\n"))
    write_text(layout.confusion(config.scheme), predictions.confusion().to_csv(index=False, lineterminator="\n"))
    write_text(layout.metrics(config.scheme), json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    sys.stderr.write(
        f"evaluate@{config.scheme}: accuracy {metrics['accuracy']:.3f} on {metrics['num_test_frames']} frames of "
        f"{metrics['num_test_takes']} takes\n"
    )


def held_out_frames(takes: list[Take]) -> Iterator[HeldOutFrame]:
    """Yield the frames of the test part, in the order of the split file."""
    for take in (take for take in takes if take.has_part(TEST)):
        table = read_parquet(layout.FRAMES / take.table)
        for row in table.take(take.indices_of_part(TEST, table.num_rows)).to_pylist():
            yield HeldOutFrame(row["frame_id"], f"{take.label}/{take.name}", take.label, row["image"])


def predict(path: Path, frames: list[HeldOutFrame], resize: str, *, title: str) -> Predictions:
    """Run a model on frames, each decoded and scaled as the phone does it.

    Args:
        path: A classifier with embedded labels.
        frames: At least one.
        resize: See `model_input.to_model_input`.
        title: For the progress bar.
    """
    content = path.read_bytes()
    labels = tuple(read_labels(content))
    workers = num_workers()
    run = partial(_run_share, content, frames, resize)
    probabilities = np.zeros((len(frames), len(labels)), np.float32)
    with (
        ThreadPoolExecutor(workers) as executor,
        tqdm(total=len(frames), desc=title, unit="frame", disable=None) as progress,
    ):
        for indices, share in executor.map(run, np.array_split(np.arange(len(frames)), workers)):
            probabilities[indices] = share
            progress.update(len(indices))
    return Predictions(
        labels=labels,
        takes=tuple(frame.take for frame in frames),
        frame_ids=tuple(frame.frame_id for frame in frames),
        actual=np.array([labels.index(frame.label) for frame in frames]),
        probabilities=probabilities,
    )


def _run_share(
    content: bytes, frames: list[HeldOutFrame], resize: str, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Run one thread's share of the frames in an interpreter of its own."""
    model = Model(content, num_threads=1)
    inputs = (to_model_input(decode_jpeg(frames[i].image), model.input_pixels, resize) for i in indices)
    return indices, np.array([model(picture) for picture in inputs]).reshape(len(indices), model.output_length)


def _costs(config: EvaluateStage) -> dict[str, object]:
    """Measure size, latency and memory, in a process of its own."""
    path = layout.model(config.scheme)
    measured = measure(
        path,
        num_threads=config.evaluate.num_threads,
        num_warmup=config.evaluate.num_warmup_runs,
        num_runs=config.evaluate.num_latency_runs,
    )
    return {
        "size_bytes": path.stat().st_size,
        "latency_ms": measured.latency_ms,
        "num_threads": measured.num_threads,
        "peak_memory_bytes": measured.peak_memory_bytes,
        "scheme": config.scheme,
        "backbone": config.backbone.name,
    }


def main() -> None:
    """Run the stage from the command line."""
    run_stage("evaluate", EvaluateStage, evaluate)


if __name__ == "__main__":
    main()
