"""From videos to a scored int8 model, beside the usual way: `python -m bench.whole [--folds 5] [--per-second 30]`.

Both begin with the project's sample videos, enlarged to 1280 x 720, and take the same frames: with `--per-second 30`
all of them, about 750 a label. Both have EfficientNet-Lite0 with the same weights, and end with an int8 model and its
accuracy on takes that were held out.

* `viewfinder`: `dvc repro` in a new repository without any cache, with the settings of params.yaml but for the schemes
  (float32, the reference, and int8), `deploy: int8` and `frames.per_second`. Its seconds are those of the whole
  command, cross-validation, heat maps and report included; its accuracy is cross-validation's, in which each take is
  held out once.
* `usual`: what tutorials and older answers tell: ffmpeg writes JPEG files (`-q:v 2`) into a folder for each label;
  `image_dataset_from_directory`; a layer each for flipping, turning, zooming and brightness; the frozen backbone, run
  with each of ten epochs, with dropout and a dense layer on it; Adam, batches of 32; `TFLiteConverter` to int8 with 100
  representative pictures; a loop over the interpreter for the accuracy, picture by picture.
  Nothing else: no check, no cross-validation. `--folds` repeats it, each time with other takes held out, so that each
  take is scored once; its seconds are the mean of a repetition, plus or minus their standard error.

The difference in accuracy is paired by take, with its standard error over takes. Seconds hold what a person waits for,
the start of Python and TensorFlow included. Nothing else should run on the machine; `--runs` repeats `dvc repro`, first
and last, so that a machine that changes its speed is noticed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import imageio_ffmpeg
import numpy as np
import pandas as pd

from bench.add_one_take import copy_project, dvc, project_params
from bench.bottlenecks import backbone_config
from pipeline.files import layout
from pipeline.video import sample_frames
from tests.clips import write_clip

PROJECT = Path(__file__).resolve().parents[1]
WIDE_PIXELS = 1280
ALL_FRAMES_PER_SECOND = 30  # no sample video has more
SCHEMES = ("float32", "int8")
EPOCHS, BATCH, NUM_REPRESENTATIVE = 10, 32, 100


@dataclass(frozen=True)
class Outcome:
    """What a way took and gave.

    Attributes:
        seconds: Of each run.
        right: Whether the int8 model is right, by frame, with the frame's take.
    """

    seconds: list[float]
    right: pd.DataFrame


def make_videos(folder: Path, max_takes: int | None) -> None:
    """Write the sample videos in the size that phones film in.

    Args:
        folder: Where data/videos is made.
        max_takes: Of each label; None for all.
    """
    for label in sorted(path for path in (PROJECT / layout.VIDEOS).iterdir() if path.is_dir()):
        for path in islice(sorted(label.iterdir()), max_takes):
            frames = list(sample_frames(path, per_second=ALL_FRAMES_PER_SECOND, width_pixels=WIDE_PIXELS))
            height, width = frames[0].image.shape[:2]
            scale = WIDE_PIXELS / max(height, width)
            size = tuple(round(pixels * scale) // 2 * 2 for pixels in (width, height))
            enlarged = [cv2.resize(frame.image, size, interpolation=cv2.INTER_CUBIC) for frame in frames]
            rate = round((len(frames) - 1) / (frames[-1].pts_seconds - frames[0].pts_seconds))
            write_clip(folder / layout.VIDEOS / label.name / f"{path.stem}.mp4", enlarged, rate=rate)


def viewfinder(videos: Path, per_second: int) -> Outcome:
    """Run `dvc repro` in a new repository."""
    params = project_params()
    params["quantization"], params["deploy"] = list(SCHEMES), SCHEMES[-1]
    params["frames"]["per_second"] = per_second
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder, params)
        shutil.copytree(videos / layout.VIDEOS, folder / layout.VIDEOS, dirs_exist_ok=True)
        started = time.perf_counter()
        dvc("repro", folder=folder)
        seconds = time.perf_counter() - started
        scored = pd.read_csv(folder / layout.crossval_predictions(SCHEMES[-1]))
    return Outcome([seconds], scored[["take", "is_right"]])


def usual(videos: Path, per_second: int, num_folds: int) -> Outcome:
    """Run the usual way once for each fold of takes, each time in a process of its own."""
    seconds, scored = [], []
    for fold in range(num_folds):
        with tempfile.TemporaryDirectory() as folder:
            arguments = [folder, str(videos), str(per_second), str(fold), str(num_folds)]
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "bench.whole", "--usual", *arguments],
                cwd=PROJECT,
                capture_output=True,
                check=False,
                text=True,
            )
            seconds.append(time.perf_counter() - started)
            if done.returncode:
                sys.exit(done.stderr)
        steps = json.loads(done.stdout.splitlines()[-1])
        scored.append(pd.DataFrame(steps.pop("right"), columns=["take", "is_right"]))
        told = ", ".join(f"{name} {value:.0f}" for name, value in steps.items())
        print(f"  usual way, fold {fold + 1} of {num_folds}: {seconds[-1]:.0f} s ({told})", flush=True)
    return Outcome(seconds, pd.concat(scored, ignore_index=True))


def usual_once(folder: Path, videos: Path, per_second: int, fold: int, num_folds: int) -> dict[str, Any]:
    """Do it the usual way.

    Args:
        folder: Empty; where files go.
        videos: Holds data/videos.
        per_second: Frames a second.
        fold: Which takes are held out: of each label, every `num_folds`th.
        num_folds: How many folds there are.

    Returns:
        Seconds of each step, and `right`: take and whether the model is right, for each frame that was held out.
    """
    clock, steps = time.perf_counter(), dict[str, Any]()

    def passed(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        steps[name], clock = now - clock, now

    num_train = extract(folder, videos, per_second, fold, num_folds)
    passed("ffmpeg")
    model, labels = train(folder / "train")
    passed(f"training on {num_train} frames")
    content = to_int8(model, folder / "train")
    passed("conversion")
    right = list(score(content, labels, folder / "test"))
    passed("scoring")
    return steps | {"right": right}


def extract(folder: Path, videos: Path, per_second: int, fold: int, num_folds: int) -> int:
    """Let ffmpeg write JPEG files, those of held-out takes into `test`, and return how many are in `train`."""
    every = ["-fps_mode", "passthrough"] if per_second >= ALL_FRAMES_PER_SECOND else ["-vf", f"fps={per_second}"]
    for label in sorted((videos / layout.VIDEOS).iterdir()):
        for number, path in enumerate(sorted(label.iterdir())):
            target = folder / ("test" if number % num_folds == fold else "train") / label.name
            target.mkdir(parents=True, exist_ok=True)
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path), *every, "-q:v", "2"]
            subprocess.run([*command, str(target / f"{path.stem}_%05d.jpg")], check=True)
    return sum(1 for _ in (folder / "train").rglob("*.jpg"))


def train(folder: Path) -> tuple[Any, list[str]]:
    """Train a dense layer on the frozen backbone, which runs in each epoch, and return the model for inference."""
    from pipeline.backbones.build import build_backbone  # noqa: PLC0415 - its seconds are the usual way's alone
    from pipeline.backbones.quiet_tensorflow import keras  # noqa: PLC0415

    config = backbone_config()
    pixels = config.input_pixels
    pictures = keras.utils.image_dataset_from_directory(
        folder, image_size=(pixels, pixels), batch_size=BATCH, seed=0, verbose=False
    )
    backbone = build_backbone(config, batch_size=None)
    first = backbone.get_layer("normalization")
    features = keras.Model(first.output, backbone.output)
    features.trainable = False
    varied = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(10 / 360),
            keras.layers.RandomZoom(0.1),
            keras.layers.RandomBrightness(0.2),
        ]
    )
    image = keras.Input((pixels, pixels, 3))
    normalized = keras.layers.Rescaling(first.scale, first.offset)
    head = keras.layers.Dense(len(pictures.class_names), activation="softmax")
    dropped = keras.layers.Dropout(0.2)(features(normalized(varied(image)), training=False))
    trained = keras.Model(image, head(dropped))
    trained.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    trained.fit(pictures.prefetch(2), epochs=EPOCHS, verbose=0)
    return keras.Model(image, head(features(normalized(image), training=False))), pictures.class_names


def to_int8(model: Any, folder: Path) -> bytes:
    """Quantize by TensorFlow's converter, with pictures of the train folder as the representative ones."""
    import tensorflow as tf  # noqa: PLC0415

    pixels = model.input_shape[1]
    files = sorted(folder.rglob("*.jpg"))
    chosen = files[:: max(1, len(files) // NUM_REPRESENTATIVE)][:NUM_REPRESENTATIVE]

    def representative() -> Iterator[list[np.ndarray]]:
        for path in chosen:
            yield [resized(path, pixels).astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    content: bytes = converter.convert()
    return content


def score(content: bytes, labels: list[str], folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield take and whether the model is right, picture by picture."""
    import tensorflow as tf  # noqa: PLC0415

    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    given, answered = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for path in sorted(folder.rglob("*.jpg")):
        interpreter.set_tensor(given["index"], resized(path, given["shape"][1]))
        interpreter.invoke()
        said = labels[int(interpreter.get_tensor(answered["index"])[0].argmax())]
        yield f"{path.parent.name}/{path.stem.rpartition('_')[0]}.mp4", said == path.parent.name


def resized(path: Path, pixels: int) -> np.ndarray:
    """Return a picture as the usual way's dataset does, uint8 [1, pixels, pixels, 3]."""
    import tensorflow as tf  # noqa: PLC0415

    decoded = tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(str(path)), channels=3), (pixels, pixels))
    rounded: np.ndarray = np.rint(decoded.numpy()).astype(np.uint8)[np.newaxis]
    return rounded


def report(ours: Outcome, theirs: Outcome) -> None:
    """Print the table."""
    print(f"{'':12}{'seconds':>18}{'accuracy (int8)':>18}{'frames':>8}{'takes':>7}")
    by_take = [one.right.groupby("take")["is_right"].mean() for one in (ours, theirs)]
    for title, one in (("viewfinder", ours), ("usual way", theirs)):
        spread = np.std(one.seconds, ddof=1) / np.sqrt(len(one.seconds)) if len(one.seconds) > 1 else float("nan")
        seconds = f"{np.mean(one.seconds):.0f} ± {spread:.0f}"
        takes = one.right["take"].nunique()
        print(f"{title:12}{seconds:>18}{one.right['is_right'].mean():>18.3f}{len(one.right):>8}{takes:>7}")
    difference = (by_take[0] - by_take[1]).dropna()
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else float("nan")
    factor = np.mean(theirs.seconds) / np.mean(ours.seconds)
    print(
        f"{factor:.1f} times as fast; accuracy {100 * difference.mean():+.1f} ± {100 * error:.1f} points, "
        f"over {len(difference)} takes"
    )
    again = np.sum(theirs.seconds) / np.mean(ours.seconds)
    print(f"{again:.1f} times as fast as the usual way's {len(theirs.seconds)} runs, which a score of all takes needs")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.whole", description=__doc__.splitlines()[0])
    parser.add_argument("--per-second", type=int, default=ALL_FRAMES_PER_SECOND, help="frames (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=5, help="of takes, in the usual way (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=2, help="of `dvc repro` (default: %(default)s)")
    parser.add_argument("--takes", type=int, help="of each label, at most (default: all)")
    parser.add_argument("--usual", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.usual:
        folder, videos, *numbers = arguments.usual
        print(json.dumps(usual_once(Path(folder), Path(videos), *map(int, numbers))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_videos(folder, arguments.takes)
        ours = [viewfinder(folder, arguments.per_second)]
        print(f"  viewfinder: {ours[0].seconds[0]:.0f} s", flush=True)
        theirs = usual(folder, arguments.per_second, arguments.folds)
        for _ in range(arguments.runs - 1):
            ours.append(viewfinder(folder, arguments.per_second))
            print(f"  viewfinder: {ours[-1].seconds[0]:.0f} s", flush=True)
        report(Outcome([seconds for one in ours for seconds in one.seconds], ours[0].right), theirs)


if __name__ == "__main__":
    main()
