"""Frames that were held out, and what a model says about them from their pixels on."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.config.evaluate import ARM64
from pipeline.files import layout, sha256_of_bytes
from pipeline.heads.classifier import classifier
from pipeline.heads.head_file import read_further_heads, read_head
from pipeline.images.codec import decode_jpeg
from pipeline.keys.key import key_of
from pipeline.keys.processor import PROCESSOR, processor_features
from pipeline.litert.metadata import Output, read_outputs
from pipeline.litert.runtimes import classify, open_classifier
from pipeline.metrics.classification import Predictions
from pipeline.takes.cache import TakeCache
from pipeline.takes.splits import TEST, Take
from pipeline.takes.tables import ROWS_PER_GROUP, read_parquet, read_rows_at


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


def held_out_classifier(scheme: str, backbone: str) -> bytes:
    """Return the shipped backbone with the heads that have never seen the test takes, as a .tflite file.

    With `training.final: train` it is the shipped file itself, byte for byte.
    """
    head = read_head(layout.held_out_head(scheme))
    further = read_further_heads(layout.further_heads(scheme), held_out=True)
    return classifier(layout.backbone(scheme).read_bytes(), head, name=f"{backbone} {scheme}", further=further)


def held_out_frames(takes: list[Take]) -> Iterator[HeldOutFrame]:
    """Yield the frames of the test part, in the order of the split file."""
    read = lru_cache(maxsize=4)(_images)  # threads work on neighbouring frames, of two groups where one ends
    for take in (take for take in takes if take.has_part(TEST)):
        path = layout.FRAMES / take.table
        frame_ids = read_parquet(path, columns=["frame_id"])["frame_id"].to_pylist()
        for row in take.indices_of_part(TEST, len(frame_ids)):
            start = int(row) - int(row) % ROWS_PER_GROUP
            images = partial(read, path, start, min(start + ROWS_PER_GROUP, len(frame_ids)))
            yield HeldOutFrame(frame_ids[row], take.full_name, take.label, images, int(row) - start)


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


def ask_once(
    content: bytes, frames: list[HeldOutFrame], resize: str, runtime: str, *, title: str, cache: TakeCache
) -> Answers:
    """Run a model on frames as `ask` does, unless the take cache holds what it says about these very frames.

    Every scheme is compared with float32 on the same frames: so float32 runs once, not once for each.

    Args:
        content: See `ask`, as for all that follows.
        frames: At least one.
        resize: How a frame is scaled.
        runtime: `arm64` is asked each time: a key does not hold which Debian packages it runs on.
        title: For the progress bar.
        cache: Where answers are looked up, and kept.

    Raises:
        PipelineError: See `ask`; or if the take cache cannot be written.
    """
    if runtime == ARM64:
        return ask(content, frames, resize, runtime, title=title)
    depends_on = {
        "model": sha256_of_bytes(content),
        "frames": _hash_of(frames),
        "resize": resize,
        "runtime": runtime,
        PROCESSOR: processor_features(),
    }
    key = key_of(ask, depends_on)
    if (kept := cache.get(key)) is not None:
        return Answers(read_outputs(content), np.frombuffer(kept, np.float32).reshape(len(frames), -1))
    answers = ask(content, frames, resize, runtime, title=title)
    cache.put(key, answers.probabilities.astype(np.float32).tobytes())
    return answers


def _hash_of(frames: Sequence[HeldOutFrame]) -> str:
    """Return the hash of what the frames show, in their order."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(hashlib.sha256(frame.image).digest())
    return digest.hexdigest()


def predict(content: bytes, frames: list[HeldOutFrame], resize: str, runtime: str, *, title: str) -> Predictions:
    """Ask a model, as `ask` does, and return what its first head says, beside what the frames show."""
    return predictions_of(frames, *ask(content, frames, resize, runtime, title=title).first)


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


def _decoded(frame: HeldOutFrame) -> npt.NDArray[np.uint8]:
    return decode_jpeg(frame.image)
