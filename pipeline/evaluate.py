"""Stage `evaluate`: scores a model as a phone would run it.

Reads models/backbone/{<scheme>,float32}.tflite and the heads that have never seen the test takes
(models/heads/held_out/, models/multihead/), data/frames, data/splits.csv, what cross-validation found, and models/
classifiers/<scheme>; writes build/evaluation/<scheme>.json and plots/evaluation/<scheme>/{predictions,confusion}.csv.
Cross-validation leads: it rests on every take, the test part on few. The test takes add what it cannot see, from pixels
to label: the very backbone that is shipped runs on the test frames behind the one preprocessing function, by default in
LiteRT; the float32 model runs beside it on the same frames. Whether the runtimes agree is measured, too: the metrics
have the same keys whichever runtime was chosen, whatever is installed.
"""

import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.application import run_stage
from pipeline.config.evaluate import LITERT, REFERENCE, EvaluateStage
from pipeline.errors import InputError
from pipeline.files import layout, sha256_of_bytes, write_text
from pipeline.heads.classifier import classifier
from pipeline.heads.head_file import read_further_heads, read_head
from pipeline.images.codec import decode_jpeg
from pipeline.litert.metadata import Output, read_outputs
from pipeline.litert.runtimes import classify, open_classifier
from pipeline.metrics.classification import CROSSVAL, Predictions, agreement, largest_difference, score
from pipeline.metrics.figures import with_intervals
from pipeline.metrics.further import agreement_of_heads, figures_from_pixels
from pipeline.metrics.intervals import accuracy_difference_interval
from pipeline.metrics.predictions import read_scored
from pipeline.takes.splits import TEST, Take, read_takes
from pipeline.takes.tables import ROWS_PER_GROUP, read_parquet, read_rows_at

_COMPRESSION_LEVEL = 9  # zlib's best; zip and gzip, in which apps travel, hold the same


@dataclass(frozen=True)
class HeldOutFrame:
    """One frame of the test part. Its picture stays on the disk: all of them may be gigabytes.

    Attributes:
        frame_id: Its name.
        take: "<label>/<take>".
        label: What it shows.
        images: Gives some pictures of the take, as JPEG.
        place: Of this frame's picture among them.
    """

    frame_id: str
    take: str
    label: str
    images: Callable[[], list[bytes]]
    place: int

    @property
    def image(self) -> bytes:
        """Read the frame as JPEG."""
        return self.images()[self.place]


def evaluate(config: EvaluateStage) -> None:
    """Score one scheme's model."""
    frames = list(held_out_frames(read_takes(layout.SPLITS)))
    if not frames:
        raise InputError(
            found=f"no test frame in {layout.FRAMES}/",
            expected="test frames of each label",
            remedy="add takes, and run `dvc repro`: the stage `frames` tells which label lacks which part",
        )
    runtime, resize, model = config.evaluate.runtime, config.resize, held_out_classifier(config.scheme, config.backbone)
    answers = ask(model, frames, resize, runtime, title=f"evaluate@{config.scheme}")
    beside = answers
    if config.scheme != layout.REFERENCE_SCHEME:
        reference_model = held_out_classifier(layout.REFERENCE_SCHEME, config.backbone)
        beside = ask(reference_model, frames, resize, runtime, title="  float32 beside it")
    predictions, reference = (predictions_of(frames, *each.first) for each in (answers, beside))
    metrics = (
        figures(predictions, reference, config)
        | _agreement_of_runtimes(model, predictions, frames, config)
        | _file(config)
        | further_figures(answers, beside, frames, config)
    )
    write_text(layout.predictions(config.scheme), predictions.table().to_csv(index=False, lineterminator="\n"))
    write_text(layout.confusion(config.scheme), predictions.confusion().to_csv(index=False, lineterminator="\n"))
    write_text(layout.evaluation(config.scheme), json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    test = metrics["test"]
    sys.stderr.write(
        f"evaluate@{config.scheme}: accuracy {test['accuracy']:.3f} on {test['num_test_frames']} frames of "
        f"{test['num_test_takes']} test takes, from pixels to label\n"
    )


def held_out_classifier(scheme: str, backbone: str) -> bytes:
    """Return the shipped backbone with the heads that have never seen the test takes, as a .tflite file.

    With `training.final: train` it is the shipped file itself, byte for byte.
    """
    head = read_head(layout.held_out_head(scheme))
    further = read_further_heads(layout.further_heads(scheme), held_out=True)
    return classifier(layout.backbone(scheme).read_bytes(), head, name=f"{backbone} {scheme}", further=further)


def figures(predictions: Predictions, reference: Predictions, config: EvaluateStage) -> dict[str, Any]:
    """Return the figures that lead, those of the test takes under `test`, and which of them the leading ones are.

    Args:
        predictions: For the test frames.
        reference: float32's for the same frames.
        config: Of the stage.
    """
    test = score(predictions, reference, num_bins=config.evaluate.num_calibration_bins)
    test = with_intervals(test, predictions)
    leading = json.loads(layout.crossval_figures(config.scheme).read_text(encoding="utf-8"))
    scored_by = CROSSVAL if leading else TEST
    if not leading:
        leading = {key: value for key, value in test.items() if key not in ("agreement_with_float32", "accuracy_drop")}
    if scored_by == CROSSVAL:
        tables = [read_scored(scheme) for scheme in (config.scheme, layout.REFERENCE_SCHEME)]
    else:
        tables = [one.table() for one in (predictions, reference)]
    leading["accuracy_drop"] = float(tables[1]["is_right"].mean() - tables[0]["is_right"].mean())
    if drop := accuracy_difference_interval(*tables):
        leading["intervals"]["accuracy_drop"] = dict(zip(("low", "high"), drop, strict=True))
    return {
        "scored_by": scored_by,
        **leading,
        "agreement_with_float32": test["agreement_with_float32"],
        "test": test,
    }


def held_out_frames(takes: list[Take]) -> Iterator[HeldOutFrame]:
    """Yield the frames of the test part, in the order of the split file."""
    read = lru_cache(maxsize=4)(_images)  # threads work on neighbouring frames, of two groups where one ends
    for take in (take for take in takes if take.has_part(TEST)):
        path = layout.FRAMES / take.table
        frame_ids = read_parquet(path, columns=["frame_id"])["frame_id"].to_pylist()
        for row in take.indices_of_part(TEST, len(frame_ids)):
            start = int(row) - int(row) % ROWS_PER_GROUP
            images = partial(read, path, start, min(start + ROWS_PER_GROUP, len(frame_ids)))
            yield HeldOutFrame(frame_ids[row], f"{take.label}/{take.name}", take.label, images, int(row) - start)


def _images(path: Path, start: int, stop: int) -> list[bytes]:
    """Read some frames of a take as JPEG."""
    return list(read_rows_at(path, range(start, stop), ["image"])["image"].to_pylist())


@dataclass(frozen=True)
class Answers:
    """What a model says about frames.

    Attributes:
        outputs: What its outputs are about.
        probabilities: float32 [num_frames, sum of the outputs' lengths].
    """

    outputs: Sequence[Output]
    probabilities: npt.NDArray[np.float32]

    def of(self, number: int) -> npt.NDArray[np.float32]:
        """Return what one output says, float32 [num_frames, num_labels]."""
        lengths = [len(output.labels) for output in self.outputs]
        start = sum(lengths[:number])
        return self.probabilities[:, start : start + lengths[number]]

    @property
    def first(self) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        """Return the labels of the first head and what it says."""
        return self.outputs[0].labels, self.of(0)


def ask(content: bytes, frames: list[HeldOutFrame], resize: str, runtime: str, *, title: str) -> Answers:
    """Run a model on frames, each decoded and scaled as the phone does it.

    Args:
        content: A classifier with embedded labels that gives probabilities.
        frames: At least one.
        resize: See `model_input.to_model_input`.
        runtime: One of `RUNTIMES`.
        title: For the progress bar.

    Raises:
        PipelineError: If the runtime is not installed, or does not know that `resize`.
    """
    pictures = [map(_decoded, [frame]) for frame in frames]  # each is read and decoded when its turn comes
    open_one = partial(open_classifier, content, runtime=runtime, resize=resize)
    return Answers(read_outputs(content), np.concatenate(classify(pictures, open_one, title=title, unit="frame")))


def predictions_of(
    frames: list[HeldOutFrame], labels: tuple[str, ...], probabilities: npt.NDArray[np.float32]
) -> Predictions:
    """Return what the first head says, beside what the frames show.

    Args:
        frames: At least one.
        labels: In the order of the head's output.
        probabilities: float32 [num_frames, num_labels].
    """
    return Predictions(
        labels=labels,
        takes=tuple(frame.take for frame in frames),
        frame_ids=tuple(frame.frame_id for frame in frames),
        actual=np.array([labels.index(frame.label) for frame in frames]),
        probabilities=probabilities,
    )


def further_figures(
    answers: Answers, beside: Answers, frames: list[HeldOutFrame], config: EvaluateStage
) -> dict[str, Any]:
    """Return the figures of the further heads under `heads`; nothing if there are none.

    Args:
        answers: Of the model that is scored, for the test frames.
        beside: float32's for the same frames.
        frames: The test frames.
        config: Of the stage.
    """
    known, reference = (
        json.loads(layout.further_figures(scheme).read_text(encoding="utf-8"))
        for scheme in (config.scheme, layout.REFERENCE_SCHEME)
    )
    names, found = [(frame.take, frame.frame_id) for frame in frames], dict[str, Any]()
    for number, output in enumerate(answers.outputs[1:], 1):
        told, kind = known[output.name]["answers"], known[output.name]["kind"]
        here, there = answers.of(number), beside.of(number)
        test, beside_it = (
            figures_from_pixels(
                one, names, output.labels, told, kind=kind, num_bins=config.evaluate.num_calibration_bins
            )
            for one in (here, there)
        )
        leading = known[output.name]["figures"] or test
        leading_beside = reference[output.name]["figures"] or beside_it
        drop = leading_beside["accuracy"] - leading["accuracy"] if leading else None
        found[output.name] = {
            "kind": kind,
            "scored_by": CROSSVAL if known[output.name]["figures"] else TEST,
            **leading,
            "accuracy_drop": drop,
            "agreement_with_float32": agreement_of_heads(here, there, kind=kind),
            "test": test,
        }
    return {"heads": found} if found else {}


def _decoded(frame: HeldOutFrame) -> npt.NDArray[np.uint8]:
    return decode_jpeg(frame.image)


def _agreement_of_runtimes(
    model: bytes, predictions: Predictions, frames: list[HeldOutFrame], config: EvaluateStage
) -> dict[str, object]:
    """Compare the chosen runtime with LiteRT on all frames, and LiteRT with its reference kernels on a few.

    With the runtime `litert` the first comparison is of something with itself.
    """
    resize, runtime = config.resize, config.evaluate.runtime
    labels = predictions.labels

    def beside(some: list[HeldOutFrame], other: str, title: str) -> Predictions:
        return predictions_of(some, labels, ask(model, some, resize, other, title=title).of(0))

    litert = predictions if runtime == LITERT else beside(frames, LITERT, "  litert beside it")
    few = spread(len(frames), config.evaluate.num_reference_frames)
    chosen = [frames[i] for i in few]
    plain = (
        predictions.only(few) if runtime == REFERENCE else beside(chosen, REFERENCE, "  reference kernels beside it")
    )
    return {
        "agreement_with_litert": agreement(predictions, litert),
        "largest_probability_difference_litert": largest_difference(predictions, litert),
        "agreement_with_reference_kernels": agreement(litert.only(few), plain),
        "largest_probability_difference_reference_kernels": largest_difference(litert.only(few), plain),
        "num_reference_frames": len(few),
        "runtime": runtime,
    }


def spread(num_frames: int, num_wanted: int) -> np.ndarray:
    """Return indices of frames, int64 [at most num_wanted], at equal distances from the first to the last frame."""
    return np.linspace(0, num_frames - 1, min(num_frames, num_wanted)).round().astype(np.int64)


def _file(config: EvaluateStage) -> dict[str, object]:
    """Tell what there is to tell of the file itself."""
    content = layout.model(config.scheme).read_bytes()
    return {
        "size_bytes": len(content),
        "compressed_size_bytes": len(zlib.compress(content, _COMPRESSION_LEVEL)),
        "scheme": config.scheme,
        "backbone": config.backbone,
        "model_sha256": sha256_of_bytes(content),
    }


def main() -> None:
    """Run the stage from the command line."""
    run_stage("evaluate", EvaluateStage, evaluate)


if __name__ == "__main__":
    main()
