"""What `viewfinder predict` does: asks a classifier what pictures and videos show."""

import json
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigurationError, InputError, PipelineError, combine
from pipeline.files import layout
from pipeline.files.suffixes import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from pipeline.litert.foreign import AnsweringHead, heads_of, read_classifier
from pipeline.litert.runtimes import classify, open_classifier
from pipeline.metrics.probabilities import named, to_probabilities
from pipeline.processes.progress import Progress
from pipeline.tools.score import labels_of_head, normalization, timed_pictures
from pipeline.tools.tables import text_table
from pipeline.video.clip import open_clip, video_stream

NONE_OF_THEM = "none of them"

_EVERY_FRAME = 1000.0  # a second: more than any phone films
_SUFFIXES = PHOTO_SUFFIXES + VIDEO_SUFFIXES

Rgb = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        files: Pictures, videos, and folders of these.
        model: A .tflite classifier.
        labels: Names of its outputs, one a line; None for those in the file.
        mean: That pixels 0..255 of a float32 model are normalized with, of one or three channels; None for its own.
        std: Likewise.
        resize: How pictures become square; None for what the manifest beside the model says, or else `stretch`.
        runtime: One of `RUNTIMES`.
        per_second: Frames taken from a second of video.
        threshold: Probability below which nothing is named; None for the model's own.
        smooth_seconds: Over which probabilities of a video are averaged; 0 for not at all.
        video: Where a video with the answers drawn in goes; None for nowhere.
    """

    files: tuple[Path, ...]
    model: Path
    labels: Path | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    resize: str | None
    runtime: str
    per_second: float
    threshold: float | None
    smooth_seconds: float
    video: Path | None


@dataclass(frozen=True)
class Answer:
    """What a model says about one frame.

    Attributes:
        file: Where the frame is from.
        second: When it is presented, from the video's begin; None of a photo.
        probabilities: float32 [num_labels].
        further: What each further head says, float32 [its num_labels].
    """

    file: Path
    second: float | None
    probabilities: Probabilities
    further: tuple[Probabilities, ...] = ()


@dataclass(frozen=True)
class Answers:
    """What a model says about all files that could be read.

    Attributes:
        labels: In the order of the probabilities.
        threshold: Probability below which nothing is named.
        found: File by file, in the order in which frames are presented.
        error: What is wrong with the other files.
        further: The further heads.
    """

    labels: tuple[str, ...]
    threshold: float
    found: tuple[Answer, ...]
    error: PipelineError | None
    further: tuple[AnsweringHead, ...] = ()

    def named(self, probabilities: Probabilities) -> str | None:
        """Return the most probable label; None if it is less probable than the threshold."""
        return named(self.labels, probabilities, self.threshold)

    def said_by_further(self, one: Answer) -> dict[str, str]:
        """Return what each further head says of a frame, in words, by the head's name."""
        heads = zip(self.further, one.further, strict=True)
        return {head.name: ", ".join(head.named(each)) or NONE_OF_THEM for head, each in heads}


def predict(request: Request) -> Answers:
    """Ask a classifier about files, and draw what it says into a video if that is wished.

    Files that cannot be read do not keep the others from being answered.

    Raises:
        ConfigurationError: If the request contradicts itself.
        InputError: If there is no picture or video.
        ModelError: If the model cannot be read or run.
    """
    files = files_of(request.files)
    _refuse_video(request, files)
    content, signature = read_classifier(request.model)
    heads = heads_of(content, signature)
    labels = labels_of_head(heads[0], request.labels, signature.num_outputs)
    open_one = partial(
        open_classifier,
        content,
        runtime=request.runtime,
        resize=request.resize or resize_beside(request.model),
        normalization=normalization(request.mean, request.std),
    )
    per_second = _EVERY_FRAME if request.video else request.per_second
    with Progress("predict", total=sum(_num_frames(file, per_second) for file in files), unit="frame") as progress:
        readings = [_Reading(file, per_second, progress) for file in files]
        outputs = classify([reading.frames() for reading in readings], open_one, title=None, unit="file")
    read = [(one, output) for one, output in zip(readings, outputs, strict=True) if one.error is None and len(output)]
    errors = [one.error for one in readings if one.error is not None]
    if not read:
        raise combine(errors, "files")
    every = np.concatenate([output for _, output in read])
    probabilities = np.hstack([_probabilities(head, every, signature.output_step) for head in heads])
    ends = np.cumsum([len(output) for _, output in read])[:-1]
    found = [
        Answer(reading.file, second, row[heads[0].columns], tuple(row[head.columns] for head in heads[1:]))
        for (reading, _), rows in zip(read, np.split(probabilities, ends), strict=True)
        for second, row in zip(reading.seconds, smoothed(rows, reading.seconds, request.smooth_seconds), strict=True)
    ]
    threshold = request.threshold if request.threshold is not None else heads[0].threshold or 0.0
    error = combine(errors, "files") if errors else None
    answers = Answers(tuple(labels), threshold, tuple(found), error, tuple(heads[1:]))
    if request.video and answers.error is None:
        _write_video(files[0], request.video, answers)
    return answers


def _probabilities(head: AnsweringHead, every: Probabilities, step: float) -> Probabilities:
    """Return what a head says, float32 [num_frames, num_labels]; labels that may be true together stay as they are."""
    outputs = every[:, head.columns]
    return outputs if head.may_name_several else to_probabilities(outputs, made_by=head.made_by, step=step)[0]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the pictures and videos that are asked for: files as they come, and what folders hold, by name.

    Raises:
        InputError: If a path does not exist, is neither picture nor video by its name, or a folder without either.
    """
    files, errors = list[Path](), list[PipelineError]()
    for path in paths:
        inside = sorted(one for one in path.rglob("*") if _is_shown(one, path)) if path.is_dir() else [path]
        expected = f"pictures and videos ({' '.join(_SUFFIXES)}), or folders of them"
        if not path.exists():
            errors.append(InputError(found=f"there is no {path}", expected=expected, remedy="check the path"))
        elif not inside:
            found = f"{path}/ holds neither pictures nor videos"
            errors.append(InputError(found=found, expected=expected, remedy="give another folder"))
        elif path.is_file() and path.suffix.lower() not in _SUFFIXES:
            found = f"{path} is neither picture nor video by its name"
            errors.append(InputError(found=found, expected=expected, remedy="convert it, or leave it out"))
        else:
            files += inside
    if errors:
        raise combine(errors, "files or folders")
    return list(dict.fromkeys(files))


def resize_beside(model: Path) -> str:
    """Return how pictures become square for a deployed model, by the manifest beside it; `stretch` if there is none."""
    try:
        manifest = json.loads((model.parent / "manifest.json").read_text(encoding="utf-8"))
        return str(manifest["input"]["resize"]) if model.name in manifest["files"] else "stretch"
    except (OSError, ValueError, KeyError, TypeError):
        return "stretch"


def smoothed(probabilities: Probabilities, seconds: Sequence[float | None], smooth_seconds: float) -> Probabilities:
    """Average each frame's probabilities with those before, which count less the longer ago they are.

    Args:
        probabilities: float32 [num_frames, num_labels].
        seconds: When each is presented.
        smooth_seconds: After which a frame counts 1/e of what it did; 0 for no average.

    Returns:
        float32 [num_frames, num_labels].
    """
    if not smooth_seconds:
        return probabilities
    averages = probabilities.copy()
    for index in range(1, len(averages)):
        elapsed = (seconds[index] or 0.0) - (seconds[index - 1] or 0.0)
        kept = math.exp(-elapsed / smooth_seconds)
        averages[index] = kept * averages[index - 1] + (1 - kept) * probabilities[index]
    return averages


def json_lines(answers: Answers) -> str:
    """Return a line a frame: file, second (null for a photo), answer (null for none), and all probabilities.

    With several heads there are, under `heads`, the labels that each further one names, and its probabilities.
    """
    lines = [
        {
            "file": str(one.file),
            "second": None if one.second is None else round(one.second, 3),
            "answer": answers.named(one.probabilities),
            "probabilities": _by_label(answers.labels, one.probabilities),
        }
        | _by_head(answers, one)
        for one in answers.found
    ]
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)


def _by_label(labels: Sequence[str], probabilities: Probabilities) -> dict[str, float]:
    return {label: float(f"{p:.6g}") for label, p in zip(labels, probabilities.tolist(), strict=True)}


def _by_head(answers: Answers, one: Answer) -> dict[str, object]:
    if not answers.further:
        return {}
    told = {
        head.name: {
            "answer": head.named(probabilities),
            "probabilities": _by_label(head.labels or (), probabilities),
        }
        for head, probabilities in zip(answers.further, one.further, strict=True)
    }
    return {"heads": told}


def table(answers: Answers) -> str:
    """Return a row for each photo, and for each stretch of a video on which all answers are the same."""

    def said(one: Answer) -> tuple[Path, str | None, tuple[str, ...]]:
        return one.file, answers.named(one.probabilities), tuple(answers.said_by_further(one).values())

    rows = []
    for (file, name, others), group in groupby(answers.found, said):
        frames = list(group)
        mean = np.mean([one.probabilities for one in frames], axis=0)
        first, last = frames[0].second, frames[-1].second
        when = "" if first is None or last is None else f"{first:.1f} to {last:.1f} s"
        likely = np.argsort(-mean, kind="stable")[:2]
        second = f"{answers.labels[likely[1]]} {mean[likely[1]]:.2f}" if len(likely) > 1 else ""
        best = f"{mean[likely[0]]:.2f}" if name else f"{answers.labels[likely[0]]} {mean[likely[0]]:.2f}"
        rows.append((str(file), when, str(len(frames)), name or NONE_OF_THEM, best, second, *others))
    heads = [head.name for head in answers.further]
    return "\n" + text_table(("file", "when", "frames", "answer", "probability", "next", *heads), rows) + "\n"


class _Reading:
    """A file that is being read, frame by frame, by whichever thread classifies it."""

    _lock = threading.Lock()

    def __init__(self, file: Path, per_second: float, progress: Progress) -> None:
        self.file = file
        self.seconds = list[float | None]()
        self.error: PipelineError | None = None
        self._per_second, self._progress = per_second, progress

    def frames(self) -> Iterator[Rgb]:
        """Yield the frames, uint8 [height, width, 3]; an error ends them and is kept."""
        try:
            for second, image in timed_pictures(self.file, self._per_second, None):
                self.seconds.append(second)
                yield image
                with self._lock:
                    self._progress.update()
        except PipelineError as error:
            self.error = error


def _is_shown(path: Path, folder: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in _SUFFIXES and path.is_file() and not is_hidden


def _num_frames(file: Path, per_second: float) -> int:
    """Guess how many frames a file gives, for the progress bar alone."""
    if file.suffix.lower() in PHOTO_SUFFIXES:
        return 1
    try:
        with open_clip(file) as container:
            stream = video_stream(file, container)
            rate = min(per_second, float(stream.average_rate or per_second))
            return max(1, round((container.duration or 0) / 1_000_000 * rate))
    except PipelineError:
        return 1  # what is wrong with it is told when it is read


def _refuse_video(request: Request, files: Sequence[Path]) -> None:
    """Raise ConfigurationError if a video with the answers drawn in cannot be made as it is asked for."""
    if request.video is None:
        return
    if len(files) != 1 or files[0].suffix.lower() not in VIDEO_SUFFIXES:
        raise ConfigurationError(
            found=f"--video with {len(files)} files, beginning with {files[0]}",
            expected="one video, which the answers are drawn into",
            remedy="give one video at a time",
        )
    if request.video.suffix.lower() != ".mp4" or request.video.exists():
        what = "exists already" if request.video.exists() else "does not end in .mp4"
        raise ConfigurationError(
            found=f"--video {request.video}, which {what}",
            expected="the name of a new file that ends in .mp4",
            remedy="choose another name",
        )


def _write_video(source: Path, target: Path, answers: Answers) -> None:
    """Draw each answer into its frame."""
    from pipeline.tools.labelled_video import Caption, write_labelled  # noqa: PLC0415 - matplotlib is for who wants it

    captions = {}
    for one in answers.found:
        name, probability = answers.named(one.probabilities), float(one.probabilities.max())
        further = tuple(f"{head}: {said}" for head, said in answers.said_by_further(one).items())
        captions[one.second or 0.0] = Caption(name or NONE_OF_THEM, probability if name else None, further)
    write_labelled(source, target, captions)


def deployed_model() -> Path:
    """Return where the deployed model is."""
    return layout.DEPLOYED / "model.tflite"
