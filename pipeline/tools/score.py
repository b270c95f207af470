"""Scores any .tflite picture classifier on any folder of labelled photos or videos, as a phone would run it.

It reads what it is given and writes nothing. Decoding, preprocessing, runtimes and metrics are those of the stages.
"""

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.evaluate import EvaluateConfig
from pipeline.config.measure import MeasureConfig, measure_config
from pipeline.config.plain import CONF_FOLDER, load
from pipeline.errors import ConfigurationError, InputError
from pipeline.files.suffixes import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from pipeline.images.photos import read_photo
from pipeline.litert.foreign import AnsweringHead, heads_of, read_classifier
from pipeline.litert.measure import measure
from pipeline.litert.runtimes import Normalization, classify, open_classifier
from pipeline.metrics.classification import Predictions
from pipeline.metrics.classification import score as metrics_of
from pipeline.metrics.probabilities import to_probabilities
from pipeline.takes.sources import Source, files_in, sources_below
from pipeline.tools.tables import text_table
from pipeline.video import sample_frames

Rgb = npt.NDArray[np.uint8]

_NEEDS_FLOAT32 = ("agreement_with_float32", "accuracy_drop")  # there is no other model to compare with
_MIB = 2**20
_MAX_NAMED = 12  # labels that an error lists


@dataclass(frozen=True)
class Request:
    """What to score, and how.

    Attributes:
        model: A .tflite file.
        data: A folder with a folder for each label.
        head: Which of several heads is asked; None for the first.
        labels: A file with a name a line; None for those in the model's metadata.
        mean: With `std` what float32 pixels 0..255 are normalized by: one number, or one for each of red, green, blue.
        std: See `mean`.
        resize: See `model_input.to_model_input`.
        runtime: One of `RUNTIMES`.
        per_second: Frames taken from a second of video.
        width_pixels: Wider pictures are scaled down to it first; None leaves all as they are stored.
        num_threads: Of the interpreter whose latency is measured; None for what conf/measure.yaml says.
    """

    model: Path
    data: Path
    head: str | None
    labels: Path | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    resize: str
    runtime: str
    per_second: float
    width_pixels: int | None
    num_threads: int | None


def score(request: Request) -> dict[str, Any]:
    """Score and time a model.

    Returns:
        The metrics of the stage `evaluate` but those that compare two models or two runtimes, and how they came about.

    Raises:
        ConfigurationError: If the request contradicts itself.
        InputError: If the data cannot be read, or do not fit to the labels.
        ModelError: If the model cannot be read or run.
    """
    config = _config(request)
    measuring = measure_config(**({"num_threads": request.num_threads} if request.num_threads is not None else {}))
    content, found = read_classifier(request.model)
    head = chosen_head(heads_of(content, found), request.head)
    labels = labels_of_head(head, request.labels, found.num_outputs)
    sources = sources_of(request.data, labels)
    open_one = partial(
        open_classifier,
        content,
        runtime=request.runtime,
        resize=request.resize,
        normalization=normalization(request.mean, request.std),
    )
    batches = [pictures(source.path, request.per_second, request.width_pixels) for source in sources]
    outputs = classify(batches, open_one, title="score", unit="take")
    answers = np.concatenate(outputs)[:, head.columns]
    probabilities, kind = to_probabilities(answers, made_by=head.made_by, step=found.output_step)
    predictions = _predictions(sources, labels, [len(output) for output in outputs], probabilities)
    return (
        _metrics(predictions, config.num_calibration_bins)
        | _costs(request.model, measuring)
        | {
            "model": str(request.model),
            "data": str(request.data),
            "runtime": request.runtime,
            "resize": request.resize,
            "outputs": kind,
        }
    )


def chosen_head(heads: Sequence[AnsweringHead], name: str | None) -> AnsweringHead:
    """Return the head that folders are to be compared with.

    Raises:
        ConfigurationError: If there is none of that name, or it may name several labels, which folders cannot.
    """
    found = [head for head in heads if name in (None, head.name)]
    if not found:
        raise ConfigurationError(
            found=f"--head {name}",
            expected=f"one of the model's heads: {', '.join(head.name for head in heads)}",
            remedy="choose one of these, or leave --head out for the first",
        )
    if found[0].may_name_several:
        raise ConfigurationError(
            found=f"--head {name}, of which several labels may be true together",
            expected="a head of which one is, since a take lies in one folder",
            remedy="see metrics/ for its score on the takes of data/labels.csv",
        )
    return found[0]


def labels_of_head(head: AnsweringHead, path: Path | None, num_outputs: int) -> list[str]:
    """Read the labels from a file, a name a line, or else from the model's metadata; in Unicode NFC, without numbers.

    Args:
        head: Whose labels they are.
        path: Of the file; None for the metadata.
        num_outputs: Of the model, of all heads together.

    Raises:
        ConfigurationError: If there are none, or not one for each output, or a file is given for several heads.
    """
    if path is not None and head.columns != slice(None):
        raise ConfigurationError(
            found=f"--labels {path} for a model with several heads",
            expected="none: its metadata have the labels of each",
            remedy="leave out --labels",
        )
    num_outputs = len(range(num_outputs)[head.columns])
    if path is None:
        labels, where = None if head.labels is None else list(head.labels), "the model's metadata"
    else:
        labels, where = _read_lines(path), str(path)
    if labels is None:
        raise ConfigurationError(
            found="a model without embedded labels",
            expected=f"names for its {num_outputs} outputs",
            remedy="give them with --labels FILE, one a line, in the order of the outputs",
        )
    labels = [unicodedata.normalize("NFC", label.strip()) for label in _without_numbers(labels)]
    if len(labels) != num_outputs:
        raise ConfigurationError(
            found=f"{len(labels)} labels in {where}: {_named(labels)}",
            expected=f"{num_outputs}, as many as the model has outputs",
            remedy="give the labels that the model was made with (--labels FILE), one a line",
        )
    return labels


def _without_numbers(labels: Sequence[str]) -> list[str]:
    """Take away numbers that count from 0 before all names, as Teachable Machine writes them: `0 cup`, `1 pen`."""
    numbered = [label.strip().split(" ", 1) for label in labels]
    if labels and all(len(parts) == 2 and parts[0] == str(number) for number, parts in enumerate(numbered)):
        return [name for _, name in numbered]
    return list(labels)


def sources_of(data: Path, labels: Sequence[str]) -> list[Source]:
    """List the takes of a folder whose sub-folders are named like labels.

    Raises:
        InputError: If there are none, a folder is not named like a label of the model, or like two.
    """
    sources = sources_below(data, VIDEO_SUFFIXES + PHOTO_SUFFIXES)
    if not sources:
        raise InputError(
            found=f"no photos and no videos in {data}/" if data.is_dir() else f"there is no folder {data}/",
            expected=f"{data}/<label>/ with takes ({' '.join(VIDEO_SUFFIXES + PHOTO_SUFFIXES)})",
            remedy="give the folder that holds the labels' folders",
        )
    counts = Counter(labels)
    strange = sorted({source.label for source in sources if counts[source.label] != 1})
    if strange:
        raise InputError(
            found=f"folders in {data}/ that are not named like exactly one label of the model: {_named(strange)}",
            expected=f"the model's labels: {_named(labels)}",
            remedy="rename the folders, move them out, or correct the labels",
        )
    return sources


def pictures(path: Path, per_second: float, width_pixels: int | None) -> Iterator[Rgb]:
    """Yield the frames of a take, uint8 [height, width, 3], upright.

    Args:
        path: A video, a photo, or a folder of these.
        per_second: Frames taken from a second of video.
        width_pixels: Wider frames are scaled down to it; None leaves all as they are.

    Raises:
        InputError: If a file cannot be read in full.
    """
    for file in [path] if path.is_file() else files_in(path):
        yield from (image for _, image in timed_pictures(file, per_second, width_pixels))


def timed_pictures(file: Path, per_second: float, width_pixels: int | None) -> Iterator[tuple[float | None, Rgb]]:
    """Yield the frames of a file as `pictures` does, each with its second in the video; None of a photo."""
    limit = width_pixels or sys.maxsize
    if file.suffix.lower() in PHOTO_SUFFIXES:
        yield None, read_photo(file, width_pixels=limit)
    else:
        for frame in sample_frames(file, per_second=per_second, width_pixels=limit):
            yield frame.pts_seconds, frame.image


def table(metrics: dict[str, Any]) -> str:
    """Return the metrics as text: headline figures, then a row a label."""
    latency = metrics["latency_ms"]
    threads = f"{metrics['num_threads']} thread" + ("s" if metrics["num_threads"] > 1 else "")
    figures = {
        "accuracy": f"{metrics['accuracy']:.3f}",
        "accuracy by take": f"{metrics['take_accuracy']:.3f}",
        "macro F1": f"{metrics['macro_f1']:.3f}",
        "log loss": f"{metrics['log_loss']:.3f}",
        "calibration error": f"{metrics['expected_calibration_error']:.3f}",
        "latency": f"{latency['p50']:.1f} ms (p90 {latency['p90']:.1f}, p99 {latency['p99']:.1f}; {threads})",
        "peak memory": f"{metrics['peak_memory_bytes'] / _MIB:.1f} MiB",
        "size": f"{metrics['size_bytes'] / _MIB:.2f} MiB",
    }
    rows = [
        (label, *(f"{values[key]:.3f}" for key in ("precision", "recall", "f1")))
        for label, values in metrics["per_class"].items()
    ]
    head = (
        f"{metrics['model']} on {metrics['num_test_frames']} frames of {metrics['num_test_takes']} takes in "
        f"{metrics['data']}\nruntime {metrics['runtime']}, resize {metrics['resize']}, outputs are {metrics['outputs']}"
    )
    listed = "\n".join(f"  {name:<17}  {value}" for name, value in figures.items())
    return "\n\n".join(["", head, listed, text_table(("label", "precision", "recall", "F1"), rows), ""])


def _config(request: Request) -> EvaluateConfig:
    """Take from conf/evaluate.yaml what the command line does not say."""
    section = load(CONF_FOLDER / "evaluate.yaml")["evaluate"]
    given = {"runtime": request.runtime}
    return EvaluateConfig(**(section | given if isinstance(section, dict) else given))


def normalization(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Normalization | None:
    """Check --mean and --std, of pixels 0..255, each for all channels or for red, green and blue.

    Raises:
        ConfigurationError: If only one is given, or one that cannot be meant.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None or {len(mean), len(std)} - {1, 3} or 0 in std:
        raise ConfigurationError(
            found=f"--mean {_spoken(mean)} and --std {_spoken(std)}",
            expected="both, each one number for all channels or three for red, green and blue, --std without a 0",
            remedy="give what pixels 0..255 were normalized with in training, such as --mean 127.5 --std 127.5",
        )
    return Normalization(tuple(mean), tuple(std))


def _predictions(
    sources: Sequence[Source], labels: Sequence[str], num_frames: Sequence[int], probabilities: npt.NDArray[np.float32]
) -> Predictions:
    return Predictions(
        labels=tuple(labels),
        takes=tuple(np.repeat([f"{source.label}/{source.name}" for source in sources], num_frames)),
        frame_ids=tuple(str(index) for count in num_frames for index in range(count)),
        actual=np.repeat([labels.index(source.label) for source in sources], num_frames),
        probabilities=probabilities,
    )


def _metrics(predictions: Predictions, num_bins: int) -> dict[str, Any]:
    """Compute the metrics; those of single labels are for the labels that have frames."""
    metrics: dict[str, Any] = metrics_of(predictions, predictions, num_bins=num_bins)
    present = {predictions.labels[index] for index in predictions.actual}
    per_class = {label: values for label, values in metrics["per_class"].items() if label in present}
    kept = {key: value for key, value in metrics.items() if key not in _NEEDS_FLOAT32}
    return kept | {
        "macro_f1": float(np.mean([values["f1"] for values in per_class.values()])),
        "per_class": per_class,
    }


def _costs(path: Path, config: MeasureConfig) -> dict[str, Any]:
    measured = measure(
        path,
        num_threads=config.num_threads,
        num_warmup=config.num_warmup_runs,
        num_runs=config.num_turns * config.num_runs_a_turn,
    )
    return {
        "size_bytes": path.stat().st_size,
        "latency_ms": measured.latency_ms,
        "num_threads": measured.num_threads,
        "peak_memory_bytes": measured.peak_memory_bytes,
    }


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            found=f"{path} cannot be read ({error})",
            expected="a UTF-8 text file with label names, one a line",
            remedy="check the path that --labels gives",
        ) from error


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _spoken(values: Sequence[float] | None) -> str:
    return "(not given)" if values is None else ",".join(f"{value:g}" for value in values)
