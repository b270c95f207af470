"""Compares the stage `bottlenecks` with other ways to cache features: `python -m bench.bottlenecks [--rounds 5]`.

All start from the same encoded frames on disk, use the same weights, and end with the features on disk:

* `ours float32`, `ours int8`: the stage itself, as `dvc repro` runs it, with an empty take cache: it reads Parquet,
  decodes, scales, runs LiteRT and writes Parquet. (The stage `quantize` has run.)
* `keras`: Keras `predict` fed by tf.data, as a careful user writes it: JPEG files are read, decoded and scaled in
  parallel (`num_parallel_calls=AUTOTUNE`), in batches of 32, prefetched; one .npy file is written.
* `retrain`: the way of retrain.py: one picture at a time, decoded and scaled by one tf.function and run by another; a
  text file for each.
* `openvino`: OpenVINO with the performance hint THROUGHPUT and float32 inference: an asynchronous queue as long as
  OpenVINO finds best, fed by a pool of threads that decode and scale with this project's functions; Parquet is
  written. Left out unless the package `openvino` is installed (pip install ".[bench]").

Each contender lives in a process of its own, which has imported, built, compiled and run a few frames before the first
round. They take turns, so that other work on the machine hits all alike. A ratio compares the two of one round: above 1
ours is faster. The ratio of processor time (all threads) says the same of a machine that is busy elsewhere. Frames are
those of the project, or rendered from the sample videos into the temporary folder; `--width` scales and encodes them
anew, 640 being what a phone's video gives.
"""

# ruff: noqa: PLC0415 - a contender imports its own libraries in its own process, and no other's

import argparse
import contextlib
import io
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from bench.add_one_take import project_params
from bench.schemes import schemes, workspace
from pipeline.bottlenecks import bottlenecks
from pipeline.config.backbone import BackboneConfig, BackboneStage
from pipeline.config.backbone_names import overrides
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.config.composing import composed
from pipeline.config.engine import EngineConfig
from pipeline.files import layout, write_bytes
from pipeline.images.calibration import read_calibration
from pipeline.images.codec import decode_jpeg, encode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.quantized import quantized_backbone
from pipeline.takes.cache import CACHE_VARIABLE
from pipeline.takes.splits import VALIDATION, Block, read_takes, write_splits
from pipeline.takes.tables import FRAMES, bottlenecks_schema, read_parquet, to_parquet

PROJECT = Path(__file__).resolve().parents[1]
JPEGS = Path("jpegs")
RESIZE = "stretch"
BATCH_SIZE = 32
NUM_WARMUP_FRAMES = 64
TARGETS = {
    ("ours float32", "keras"): 1.6,
    ("ours float32", "retrain"): 2.5,
    ("ours float32", "openvino"): 1.0,
    ("ours int8", "keras"): 3.0,
}

Round = Callable[[], None]


def backbone_config() -> BackboneConfig:
    """Return the backbone that params.yaml names."""
    return composed("backbone", BackboneStage, project_params(), choices={"backbone": overrides}).backbone


# Contenders: each returns a function that computes all features once


def ours(scheme: str) -> Round:
    """The stage, in the current folder; the file of the stage `quantize` is made before the clock starts."""
    config = BottlenecksStage(RESIZE, schemes()[scheme], EngineConfig("local", 0))
    calibration = read_calibration(layout.CALIBRATION, backbone_config().input_pixels, RESIZE)
    content = quantized_backbone(layout.CONVERTED_BACKBONE.read_bytes(), config.quantization, calibration)
    write_bytes(layout.backbone(scheme), content)

    def run() -> None:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as cache, contextlib.redirect_stderr(io.StringIO()):
            os.environ[CACHE_VARIABLE] = cache
            bottlenecks(config)

    return run


def keras() -> Round:
    """Keras `predict` behind tf.data."""
    from pipeline.backbones.quiet_tensorflow import tensorflow

    model, input_pixels = keras_model()

    def picture(path: "tensorflow.Tensor") -> "tensorflow.Tensor":
        rgb = tensorflow.io.decode_jpeg(tensorflow.io.read_file(path), channels=3)
        return tensorflow.image.resize(rgb, (input_pixels, input_pixels))

    def run(num_frames: int | None = None) -> None:
        paths = [str(path) for path in sorted(JPEGS.iterdir())[:num_frames]]
        dataset = tensorflow.data.Dataset.from_tensor_slices(paths)
        dataset = dataset.map(picture, num_parallel_calls=tensorflow.data.AUTOTUNE)
        dataset = dataset.batch(BATCH_SIZE).prefetch(tensorflow.data.AUTOTUNE)
        np.save("keras.npy", model.predict(dataset, verbose=0))

    run(NUM_WARMUP_FRAMES)
    return run


def keras_model() -> tuple[Any, int]:
    """Return the backbone for float32 batches of any length, and the side of its input."""
    from pipeline.backbones.build import build_backbone
    from pipeline.backbones.quiet_tensorflow import keras as library

    config = backbone_config()
    built = build_backbone(config)
    batches = library.Input((config.input_pixels, config.input_pixels, 3))
    model = library.models.clone_model(built, input_tensors=batches)
    model.set_weights(built.get_weights())
    return model, config.input_pixels


def retrain() -> Round:
    """One picture at a time, a text file for each."""
    from pipeline.backbones.quiet_tensorflow import tensorflow

    model, input_pixels = keras_model()

    @tensorflow.function(  # type: ignore[untyped-decorator]
        input_signature=[tensorflow.TensorSpec((), tensorflow.string)]
    )
    def decode(content: "tensorflow.Tensor") -> "tensorflow.Tensor":
        rgb = tensorflow.io.decode_jpeg(content, channels=3)
        return tensorflow.image.resize(rgb, (input_pixels, input_pixels))[tensorflow.newaxis]

    features = tensorflow.function(partial(model, training=False))

    def run(num_frames: int | None = None) -> None:
        folder = Path("retrain")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in sorted(JPEGS.iterdir())[:num_frames]:
            vector = features(decode(tensorflow.constant(path.read_bytes()))).numpy()[0]
            (folder / f"{path.name}.txt").write_text(",".join(str(value) for value in vector))

    run(NUM_WARMUP_FRAMES)
    return run


def openvino() -> Round:
    """OpenVINO's asynchronous queue."""
    import openvino as library

    core = library.Core()
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(str(layout.CONVERTED_BACKBONE)), "CPU", hints)
    input_pixels, feature_length = compiled.input(0).shape[1], compiled.output(0).shape[1]

    def read(image: bytes) -> np.ndarray:
        return to_model_input(decode_jpeg(image), input_pixels, RESIZE)[np.newaxis]

    def run(num_takes: int | None = None) -> None:
        queue = library.AsyncInferQueue(compiled)
        with ThreadPoolExecutor(os.cpu_count()) as executor:
            for take in read_takes(layout.SPLITS)[:num_takes]:
                frames = read_parquet(layout.FRAMES / take.table)
                vectors = np.empty((frames.num_rows, feature_length), np.float32)

                def keep(request: "library.InferRequest", index: int, vectors: np.ndarray = vectors) -> None:
                    vectors[index] = request.get_output_tensor(0).data[0]

                queue.set_callback(keep)
                for index, picture in enumerate(executor.map(read, frames["image"].to_pylist())):
                    queue.start_async({0: picture}, index)
                queue.wait_all()
                write_bytes(Path("openvino") / take.table, feature_table(frames, vectors))

    run(num_takes=2)
    return run


def feature_table(frames: pa.Table, vectors: np.ndarray) -> bytes:
    """Encode features as the stage does."""
    copies = pa.array([0] * frames.num_rows, pa.int16())
    features = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    columns = [frames["frame_id"], copies, frames["pts_seconds"], features]
    return to_parquet(pa.table(columns, schema=bottlenecks_schema(vectors.shape[1])))


CONTENDERS: dict[str, Callable[[], Round]] = {
    "ours float32": partial(ours, "float32"),
    "ours int8": partial(ours, "int8"),
    "keras": keras,
    "retrain": retrain,
    "openvino": openvino,
}


# Measuring


def prepare(folder: Path, num_takes: int | None, width_pixels: int | None) -> int:
    """Fill a folder with what all contenders read; return the number of frames."""
    source = workspace()
    (folder / "data").mkdir(parents=True)
    (folder / JPEGS).mkdir()
    (folder / layout.CALIBRATION).symlink_to(PROJECT / layout.CALIBRATION)
    stranger = min((PROJECT / layout.STRANGERS).iterdir())  # one alone: the others compute none
    write_bytes(folder / layout.STRANGERS / stranger.name, stranger.read_bytes())
    write_bytes(folder / layout.CONVERTED_BACKBONE, (source / layout.CONVERTED_BACKBONE).read_bytes())
    blocks, num_frames = [], 0
    for take in read_takes(source / layout.SPLITS)[:num_takes]:
        frames = read_parquet(source / layout.FRAMES / take.table)
        images = [scaled(image, width_pixels) for image in frames["image"].to_pylist()]
        table = pa.table([frames["frame_id"], frames["pts_seconds"], images], schema=FRAMES)
        write_bytes(folder / layout.FRAMES / take.table, to_parquet(table))
        blocks.append(Block(take.label, take.name, str(take.path), take.sha256, VALIDATION, 0.0, 1.0))
        for image in images:
            (folder / JPEGS / f"{num_frames:06d}.jpg").write_bytes(image)
            num_frames += 1
    write_splits(folder / layout.SPLITS, blocks)
    return num_frames


def scaled(image: bytes, width_pixels: int | None) -> bytes:
    """Encode a picture anew in another width, if one is wanted."""
    if width_pixels is None:
        return image
    picture = Image.fromarray(decode_jpeg(image))
    size = (width_pixels, round(picture.height * width_pixels / picture.width))
    return encode_jpeg(np.asarray(picture.resize(size, Image.Resampling.LANCZOS)), quality=95)


def work(name: str) -> None:
    """Get ready, say so, and run a round for each line that comes in; print its seconds, and all processors'."""
    run = CONTENDERS[name]()
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


@contextlib.contextmanager
def worker(name: str, folder: Path) -> Iterator[Callable[[], tuple[float, float]]]:
    """Start a contender's process; give a function that runs a round there and returns what `work` prints."""
    command = [sys.executable, "-m", "bench.bottlenecks", "--worker", name]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def said() -> str:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                sys.exit(f"{name} ended with status {process.wait()}")
            return line

        def run() -> tuple[float, float]:
            print("go", file=process.stdin, flush=True)
            wall, cpu = map(float, said().split())
            return wall, cpu

        said()
        try:
            yield run
        finally:
            if process.stdin:
                process.stdin.close()


def spread(values: list[float]) -> str:
    """Return the median and, in brackets, the smallest and the largest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compare(folder: Path, names: list[str], num_rounds: int, num_frames: int) -> None:
    """Let the contenders take turns and print the table."""
    with contextlib.ExitStack() as workers:
        runs = {name: workers.enter_context(worker(name, folder)) for name in names}
        rounds: list[dict[str, tuple[float, float]]] = []
        for _ in range(num_rounds):
            rounds.append({name: run() for name, run in runs.items()})
    for name in names:
        rates = spread([num_frames / found[name][0] for found in rounds])
        cpu_ms = statistics.median(1000 * found[name][1] / num_frames for found in rounds)
        print(f"  {name:14}{rates:>28} frames/s {cpu_ms:8.1f} ms of processor time a frame")
    for (mine, other), target in TARGETS.items():
        if mine in names and other in names:
            ratios, cpu_ratios = ([found[other][i] / found[mine][i] for found in rounds] for i in (0, 1))
            print(f"  {mine} over {other:10}{spread(ratios):>24}   target {target}   CPU {spread(cpu_ratios)}")


def same_features(folder: Path, names: list[str]) -> None:
    """Print how far the contenders' features lie from ours: the backbone is the same, TensorFlow scales otherwise."""
    tables = [take.table for take in read_takes(folder / layout.SPLITS)]
    read: dict[str, Callable[[], np.ndarray]] = {
        "keras": lambda: np.load(folder / "keras.npy"),
        "retrain": lambda: np.stack(
            [np.fromstring(p.read_text(encoding="utf-8"), sep=",") for p in sorted((folder / "retrain").iterdir())]
        ),
        "openvino": lambda: stacked([folder / "openvino" / table for table in tables]),
    }
    mine = stacked([folder / layout.bottlenecks("float32") / "frames" / table for table in tables])
    for name in [name for name in names if name in read]:
        error = np.linalg.norm(read[name]() - mine) / np.linalg.norm(mine)
        print(f"  {name}: relative difference of the features {error:.1g}")


def stacked(paths: list[Path]) -> np.ndarray:
    """Read the features of some takes, float32 [num_frames, feature_length]."""
    return np.concatenate([np.stack(read_parquet(path)["feature"].to_numpy()) for path in paths])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.bottlenecks", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs (default: %(default)s)")
    parser.add_argument("--takes", type=int, help="frames of so many takes (default: all)")
    parser.add_argument("--width", type=int, help="scale the frames to so many pixels first (default: as they are)")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--worker", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker)
        return
    names = [name for name in arguments.only if name != "openvino" or find_spec("openvino")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project"
        num_frames = prepare(folder, arguments.takes, arguments.width)
        packages = ["ai-edge-litert", "tensorflow", "keras", *(["openvino"] if "openvino" in names else [])]
        print(
            f"{', '.join(f'{name} {version(name)}' for name in packages)}, {os.cpu_count()} CPUs, {platform.machine()}"
        )
        height, width = decode_jpeg((folder / JPEGS / "000000.jpg").read_bytes()).shape[:2]
        print(f"{num_frames} frames of {width} x {height}, {backbone_config().name}, {arguments.rounds} rounds")
        compare(folder, names, arguments.rounds, num_frames)
        if "ours float32" in names:
            same_features(folder, names)


if __name__ == "__main__":
    main()
