"""Pictures with known answers as an app's tests take them: golden/golden.json, PNG files, and a camera's bytes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.files import write_bytes, write_text
from pipeline.images.codec import encode_png
from pipeline.images.model_input import to_model_input
from pipeline.images.yuv import i420_of, rgb_of_i420
from pipeline.litert.foreign import AnsweringHead
from pipeline.litert.golden import FLOOR, MAX_FACTOR, MAX_FACTOR_GPU, MISTAKES, Golden
from pipeline.litert.interpreter import Model
from pipeline.metrics.probabilities import named
from pipeline.shipping.manifest import to_json

Answer = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]

_NUM_CAMERA_PICTURES = 3


def answer_of(model: Model, resize: str) -> Answer:
    """Return what runs the model on a picture of any size, from pixels, as a phone does."""
    return lambda rgb: model(to_model_input(rgb, model.input_pixels, resize))


def write_golden(
    folder: Path,
    pictures: Sequence[Golden],
    answer: Answer,
    threshold: float | None,
    *,
    further: Sequence[AnsweringHead] = (),
    floor: float = FLOOR,
) -> None:
    """Write golden/golden.json and the pictures beside it, some of them as a camera gives them, too.

    `label` is what a picture shows, `answer` what the model names; null is none of the labels. `mistakes` tells for
    each mistake by which factor a probability is off at most; one above `max_factor` is noticed. Under `heads` stands
    what each further head says: the labels that it names, and its probabilities.

    Args:
        folder: Holds labels.txt.
        pictures: With their answers. Without `label` in the file is one of which nobody knows what it shows.
        answer: Runs the model on a picture of any size.
        threshold: See `manifest.manifest`.
        further: The heads beside the first.
        floor: Smaller probabilities are taken for this one.
    """
    labels = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()

    def expected(probabilities: npt.NDArray[np.float32]) -> dict[str, object]:
        first = probabilities[: len(labels)]
        said: dict[str, object] = {"answer": named(labels, first, threshold), "probabilities": _by_label(labels, first)}
        of_heads = {
            head.name: {
                "answer": head.named(probabilities[head.columns]),
                "probabilities": _by_label(head.labels or (), probabilities[head.columns]),
            }
            for head in further
        }
        return said | ({"heads": of_heads} if of_heads else {})

    entries, cameras = list[dict[str, object]](), list[dict[str, object]]()
    for number, picture in enumerate(pictures):
        name = f"{number}.png"
        write_bytes(folder / "golden" / name, encode_png(picture.image))
        shows = {} if picture.label is None else {"label": picture.label or None}
        entries.append({"file": name} | shows | expected(picture.probabilities))
        if number < _NUM_CAMERA_PICTURES:
            height, width = (pixels // 2 * 2 for pixels in picture.image.shape[:2])
            frame, name = i420_of(picture.image[:height, :width]), f"yuv/{number}.i420"
            write_bytes(folder / "golden" / name, frame)
            said = expected(answer(rgb_of_i420(frame, height, width)))
            cameras.append({"file": name, "width": width, "height": height} | shows | said)
    content = {
        "rule": "max(p, floor) / max(expected, floor) is between 1 / max_factor and max_factor, for every label",
        "max_factor": MAX_FACTOR,
        "max_factor_gpu": MAX_FACTOR_GPU,
        "floor": floor,
        "threshold": threshold,
        "pictures": entries,
        "camera": {"layout": "I420", "matrix": "BT.601", "range": "full", "pictures": cameras},
        "mistakes": {name: _digits(max(picture.factors[name] for picture in pictures)) for name in MISTAKES},
    }
    write_text(folder / "golden" / "golden.json", to_json(content))


def _by_label(labels: Sequence[str], probabilities: npt.NDArray[np.float32]) -> dict[str, float]:
    return {label: _digits(p) for label, p in zip(labels, probabilities, strict=True)}


def _digits(value: float) -> float:
    """Round to six digits, which is more than float32 answers of different machines have in common."""
    return float(f"{value:.6g}")
