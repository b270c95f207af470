"""Stage `deploy`: puts the chosen model where the app takes it from.

Reads models/classifiers/<scheme>/{model.tflite,labels.txt}, the head's threshold in models/heads/<scheme>.safetensors,
metrics/schemes/<scheme>.json, build/gate.json and, for pictures with known answers, the predictions, data/frames and
data/strangers; writes models/deployed/ and metrics/deployed.json, which `dvc metrics diff` compares between two
versions of the project.
models/deployed/ holds model.tflite and labels.txt, which go into the app; golden/, with which the app's tests prove
that the app feeds the model rightly (see pipeline.litert.golden), as PNG and as a camera gives them; and manifest.json,
which describes them all.
"""

import json
import platform
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.application import run_stage
from pipeline.config.deploy import UINT8, DeployStage
from pipeline.errors import ModelError
from pipeline.files import layout, sha256_of_bytes, sha256_of_file, write_bytes, write_text
from pipeline.heads.head_file import read_head
from pipeline.images.codec import decode_jpeg, encode_png
from pipeline.images.model_input import to_model_input
from pipeline.images.yuv import i420_of, rgb_of_i420
from pipeline.litert.golden import FLOOR, MAX_FACTOR, MAX_FACTOR_GPU, MISTAKES, Golden, choose_golden
from pipeline.litert.input_type import with_float_input
from pipeline.litert.interpreter import Model
from pipeline.litert.probes import probes
from pipeline.metrics.predictions import read_predictions
from pipeline.metrics.probabilities import named
from pipeline.processes.workers import num_workers
from pipeline.takes.single_frame import read_frame
from pipeline.takes.sources import files_in
from pipeline.takes.staging import staged

Answer = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]

MANIFEST_FORMAT = 1
_APP_FILES = ("model.tflite", "labels.txt")
_LIBRARIES = ("tensorflow", "keras", "ai-edge-litert", "litert-quantizer", "pillow", "numpy", "av")
_MAX_GOLDEN_PICTURES = 8
_MAX_GOLDEN_STRANGERS = 12
_NUM_CAMERA_PICTURES = 3
_MAX_GOLDEN_CANDIDATES = 48  # each is run five times, so this takes a few seconds at most
_VERSION_DIGITS = 16


def deploy(config: DeployStage) -> None:
    """Write the deployed folder, whole or not at all, and the deployed model's metrics."""
    metrics = json.loads(layout.metrics(config.deploy).read_text(encoding="utf-8"))
    with staged(layout.DEPLOYED) as staging:
        write_bytes(staging / "model.tflite", shipped_model(config))
        shutil.copyfile(layout.labels(config.deploy), staging / "labels.txt")
        threshold = read_head(layout.head(config.deploy)).threshold
        model = Model((staging / "model.tflite").read_bytes(), num_workers())
        answer = _answer_of(model, config.resize)
        write_golden(staging, golden_pictures(config, answer, threshold), answer, threshold)
        write_text(staging / "manifest.json", _json(manifest(config, staging, metrics, threshold)))
    write_text(layout.DEPLOYED_METRICS, _json(metrics))
    sys.stderr.write(f"deploy: {config.deploy} is in {layout.DEPLOYED}/\n")


def shipped_model(config: DeployStage) -> bytes:
    """Return the scheme's model, taking its pixels in the type that is wished.

    Raises:
        ModelError: If it would not answer bit for bit as the one that was scored.
    """
    scored = layout.model(config.deploy).read_bytes()
    if config.inference_input_type == UINT8:
        return scored
    shipped = with_float_input(scored)
    run_scored, run_shipped = Model(scored), Model(shipped)
    for picture in probes(run_scored.input_pixels):
        if not np.array_equal(run_scored(picture), run_shipped(picture)):
            raise ModelError(
                found=f"the {config.deploy} model answers otherwise with float32 pixels than with uint8",
                expected="the same probabilities, bit for bit",
                remedy="set `inference_input_type: uint8` in params.yaml",
            )
    return shipped


def _answer_of(model: Model, resize: str) -> Answer:
    """Return what runs the model on a picture of any size, from pixels, as a phone does."""
    return lambda rgb: model(to_model_input(rgb, model.input_pixels, resize))


def golden_pictures(config: DeployStage, answer: Answer, threshold: float | None) -> list[Golden]:
    """Choose test frames, and run the model on them.

    If the model has a threshold, one of the pictures shows none of the labels.
    """
    rows = read_predictions(layout.predictions(config.deploy))
    per_label = max(1, _MAX_GOLDEN_CANDIDATES // rows["actual"].nunique())
    candidates = []
    for label, group in rows.groupby("actual", sort=True):
        spread = np.unique(np.linspace(0, len(group) - 1, per_label).round().astype(int))
        for row in group.iloc[spread].itertuples():
            candidates.append((str(label), decode_jpeg(read_frame(str(row.take), str(row.frame_id))[0])))
    if threshold is None:
        return choose_golden(candidates, answer, _MAX_GOLDEN_PICTURES)
    strangers = [decode_jpeg(path.read_bytes()) for path in files_in(layout.STRANGERS)[:_MAX_GOLDEN_STRANGERS]]
    refused = [("", picture) for picture in strangers if answer(picture).max() < threshold]
    known = choose_golden(candidates, answer, _MAX_GOLDEN_PICTURES - bool(refused))
    return [*known, *choose_golden(refused, answer, 1)]


def write_golden(folder: Path, pictures: list[Golden], answer: Answer, threshold: float | None) -> None:
    """Write golden/golden.json and the pictures beside it, some of them as a camera gives them, too.

    `label` is what a picture shows, `answer` what the model names; null is none of the labels. `mistakes` tells for
    each mistake by which factor a probability is off at most; one above `max_factor` is noticed.
    """
    labels = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()

    def expected(probabilities: npt.NDArray[np.float32]) -> dict[str, object]:
        of_labels = {label: _digits(p) for label, p in zip(labels, probabilities, strict=True)}
        return {"answer": named(labels, probabilities, threshold), "probabilities": of_labels}

    entries, cameras = list[dict[str, object]](), list[dict[str, object]]()
    for number, picture in enumerate(pictures):
        name = f"{number}.png"
        write_bytes(folder / "golden" / name, encode_png(picture.image))
        entries.append({"file": name, "label": picture.label or None} | expected(picture.probabilities))
        if number < _NUM_CAMERA_PICTURES:
            height, width = (pixels // 2 * 2 for pixels in picture.image.shape[:2])
            frame, name = i420_of(picture.image[:height, :width]), f"yuv/{number}.i420"
            write_bytes(folder / "golden" / name, frame)
            said = expected(answer(rgb_of_i420(frame, height, width)))
            cameras.append({"file": name, "width": width, "height": height, "label": picture.label or None} | said)
    content = {
        "rule": "max(p, floor) / max(expected, floor) is between 1 / max_factor and max_factor, for every label",
        "max_factor": MAX_FACTOR,
        "max_factor_gpu": MAX_FACTOR_GPU,
        "floor": FLOOR,
        "threshold": threshold,
        "pictures": entries,
        "camera": {"layout": "I420", "matrix": "BT.601", "range": "full", "pictures": cameras},
        "mistakes": {name: _digits(max(picture.factors[name] for picture in pictures)) for name in MISTAKES},
    }
    write_text(folder / "golden" / "golden.json", _json(content))


def manifest(config: DeployStage, folder: Path, metrics: dict[str, Any], threshold: float | None) -> dict[str, Any]:
    """Describe a deployed folder for the app: what to feed, what comes out, and what the files must look like.

    `version` changes if, and only if, the app must change what it ships or how it feeds it: it is a hash of the files
    that go into the app, and of `input` and `output`.

    Args:
        config: The choices.
        folder: Holds model.tflite, labels.txt and golden/.
        metrics: The scheme's metrics.
        threshold: Probability of the most probable label below which the picture shows none of them; None for none.
    """
    pixels = Model((folder / "model.tflite").read_bytes()).input_pixels
    given = {
        "shape": [1, pixels, pixels, 3],
        "dtype": config.inference_input_type,
        "range": [0, 255],
        "colour_order": "RGB",
        "layout": "NHWC",
        "resize": config.resize,
    }
    answer: dict[str, object] = {
        "dtype": "float32",
        "meaning": "probability of each label, in the order of labels.txt",
        "threshold": threshold,
    }
    if threshold is not None:
        answer["rule"] = "if the highest probability is below threshold, the picture shows none of the labels"
    files = {path.relative_to(folder).as_posix(): _file_entry(path) for path in _files_in(folder)}
    identity = {"input": given, "output": answer, "files": {name: files[name] for name in _APP_FILES}}
    return {
        "format": MANIFEST_FORMAT,
        "version": sha256_of_bytes(json.dumps(identity, sort_keys=True).encode())[:_VERSION_DIGITS],
        "scheme": config.deploy,
        "backbone": config.backbone,
        "input": given,
        "output": answer,
        "labels": (folder / "labels.txt").read_text(encoding="utf-8").splitlines(),
        "files": files,
        "limits": json.loads(layout.GATE.read_text(encoding="utf-8"))["limits"],
        "metrics": metrics,
        "made_with": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
    }


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")


def _file_entry(path: Path) -> dict[str, object]:
    return {"size_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def _digits(value: float) -> float:
    """Round to six digits, which is more than float32 answers of different machines have in common."""
    return float(f"{value:.6g}")


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Run the stage from the command line."""
    run_stage("deploy", DeployStage, deploy)


if __name__ == "__main__":
    main()
