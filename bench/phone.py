"""Does the pipeline answer as a phone does? `python -m bench.phone [--schemes int8] [--takes 2]`, after `dvc repro`.

MediaPipe Tasks, the C++ graph of Android and iOS apps, is given the test frames as the camera made them: decoded from
the videos at full size, never stored. Beside it stands what the stage `evaluate` does with the stored frames, once with
the project's preprocessing and once with Pillow's bilinear resize, which smooths where phones do not. `same` is the
percentage of frames with the same top label; `mean` and `max` are over all differences of a probability.

Needs mediapipe (`make setup-dev`) and, on Linux, libegl1 and libgles2.
"""

import argparse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from tqdm import tqdm

from pipeline.files import layout
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.litert.runtimes import open_classifier
from pipeline.takes.sources import is_photo
from pipeline.takes.splits import TEST, Take, read_takes
from pipeline.takes.tables import read_parquet
from pipeline.video import sample_frames

FULL_SIZE_PIXELS = 10_000  # wider than any camera's picture


def test_frames(take: Take, per_second: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each test frame twice, uint8 [height, width, 3]: as the camera made it, and as the pipeline stored it."""
    stored = read_parquet(layout.FRAMES / take.table, ["image"])["image"].to_pylist()
    camera = [frame.image for frame in sample_frames(take.path, per_second=per_second, width_pixels=FULL_SIZE_PIXELS)]
    return [(camera[i], decode_jpeg(stored[i])) for i in take.indices_of_part(TEST, len(stored))]


def _is_video(path: Path) -> bool:
    return path.is_file() and not is_photo(path)


def answers(frames: list[np.ndarray], answer: Callable[[np.ndarray], np.ndarray], title: str) -> np.ndarray:
    return np.stack([answer(frame) for frame in tqdm(frames, title, disable=None)])


def with_pillow(model: Model) -> Callable[[np.ndarray], np.ndarray]:
    side = (model.input_pixels, model.input_pixels)
    return lambda rgb: model(np.asarray(Image.fromarray(rgb).resize(side, Image.Resampling.BILINEAR)))


def with_phones_resize(model: Model) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rgb: model(to_model_input(rgb, model.input_pixels, "stretch"))


def row(phone: np.ndarray, ours: np.ndarray) -> dict[str, str]:
    difference = np.abs(phone - ours)
    same = (phone.argmax(1) == ours.argmax(1)).mean()
    return {"same": f"{100 * same:.1f}", "mean": f"{difference.mean():.4f}", "max": f"{difference.max():.3f}"}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.phone", description=__doc__.splitlines()[0])
    parser.add_argument("--schemes", nargs="+", help="these alone (default: those in params.yaml)")
    parser.add_argument("--takes", type=int, help="test takes, at most (default: all)")
    arguments = parser.parse_args()
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    videos = [take for take in read_takes(layout.SPLITS) if take.has_part(TEST) and _is_video(take.path)]
    takes = videos[: arguments.takes]
    pairs = [pair for take in takes for pair in test_frames(take, params["frames"]["per_second"])]
    camera, stored = [frame for frame, _ in pairs], [frame for _, frame in pairs]
    rows = {}
    for scheme in arguments.schemes or params["quantization"]:
        content = layout.model(scheme).read_bytes()
        model = Model(content)
        with closing(open_classifier(content, runtime="mediapipe", resize="stretch")) as classifier:
            phone = answers(camera, classifier, f"{scheme}: phone")
        rows[scheme, "camera's frame, phone's resize"] = row(phone, answers(camera, with_phones_resize(model), "same"))
        rows[scheme, "stored frame, phone's resize"] = row(
            phone, answers(stored, with_phones_resize(model), "evaluate")
        )
        rows[scheme, "stored frame, Pillow's bilinear"] = row(phone, answers(stored, with_pillow(model), "Pillow"))
    print(f"{len(pairs)} test frames of {len(takes)} takes, against MediaPipe Tasks on the camera's frames:")
    print(pd.DataFrame.from_dict(rows, orient="index"))


if __name__ == "__main__":
    main()
