"""What `viewfinder mcu` does: the int8 model as a firmware's files, measured in TFLM and scored by its arithmetic.

Reads models/backbone/int8.tflite, the heads in models/heads/, the bottlenecks, the golden pictures of models/deployed/
and the test frames; writes models/mcu/.
"""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.evaluate import LITERT, REFERENCE
from pipeline.config.gate import MICRO_COSTS, MicroLimits
from pipeline.config.unknown import LEARNED, OFF
from pipeline.errors import ConfigurationError, InputError, LimitError, ModelError
from pipeline.evaluate import spread
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.head_file import Head, read_head
from pipeline.heads.held_out import HeldOutFrame, held_out_classifier, held_out_frames, predict
from pipeline.heads.inputs import learned_rows
from pipeline.images.model_input import to_model_input
from pipeline.images.photos import read_photo
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import embed_labels
from pipeline.litert.micro import PIXEL_OFFSET, micro_classifier, micro_operators
from pipeline.litert.micro_costs import MICRO_SCHEME
from pipeline.litert.micro_measure import Footprint, by_reference_kernels, proven_answers
from pipeline.litert.probes import probes
from pipeline.metrics.classification import Predictions, agreement
from pipeline.metrics.intervals import intervals_of
from pipeline.metrics.probabilities import named
from pipeline.shipping.firmware import Firmware, threshold_as_output
from pipeline.shipping.self_test import candidates_of, choose_self_test
from pipeline.takes.rows import Rows
from pipeline.takes.splits import read_takes
from pipeline.takes.staging import staged
from pipeline.tools.results import (
    further_heads_of,
    gate_of,
    listed_schemes,
    params_of_project,
    tell_of_heads_left_out,
)
from pipeline.tools.tables import text_table

FOLDER = Path("models/mcu")
_MAX_PHOTO_PIXELS = 1 << 14
_LIBRARIES = ("tflite-micro", "ai-edge-litert")

Pixels = npt.NDArray[np.uint8]


def mcu(options: MicroLimits, max_frames: int | None) -> dict[str, Any]:
    """Write models/mcu/, whole or not at all.

    Args:
        options: Limits beyond which nothing is written; where one is None, that of `gate` in params.yaml holds.
        max_frames: Test frames that are scored at most, evenly chosen; None for all.

    Returns:
        What measured.json holds.

    Raises:
        ConfigurationError: If int8 is not among the schemes, or params.yaml was edited since the last run.
        InputError: If a run's files are missing.
        LimitError: If the model needs more than a limit.
        MissingPackageError: If tflite-micro is not installed.
        ModelError: If the backbone is of another form, or TFLM does not answer as the reference kernels do.
    """
    manifest, backbone = _manifest(), _backbone()
    tell_of_heads_left_out("mcu", further_heads_of(manifest))
    shipped, held_out = (read_head(path) for path in (layout.head(MICRO_SCHEME), layout.held_out_head(MICRO_SCHEME)))
    rows, _ = learned_rows(MICRO_SCHEME, OFF if shipped.threshold is None else LEARNED)
    content = quantized_classifier(backbone, shipped, rows)
    found = Footprint.of(content)
    refuse(found, options, gate_of(params_of_project()).micro)
    firmware, proof = _firmware(content, found, shipped, manifest, Model(backbone).input_pixels)
    files = firmware.files()
    test = _scored(quantized_classifier(backbone, held_out, rows), held_out, manifest, max_frames)
    measured = asdict(found) | {
        "backbone": firmware.backbone,
        "input_pixels": firmware.input_pixels,
        "labels": list(firmware.labels),
        "threshold": None if shipped.threshold is None else threshold_as_output(shipped.threshold),
        "operators": list(firmware.operators),
        **proof,
        "test": test | {"is_shipped_head": _are_equal(held_out, shipped)},
        "made_with": {name: version(name) for name in _LIBRARIES},
    }
    _write(content, files | {"measured.json": json.dumps(measured, indent=2, ensure_ascii=False) + "\n"})
    return measured


def refuse(found: Footprint, options: MicroLimits, in_params: MicroLimits) -> None:
    """Raise LimitError if a model needs more than an option says, or else params.yaml."""
    needed = {"flash_bytes": found.flash_bytes, "arena_bytes": found.arena_bytes}
    limits = {cost: (limit, f"gate.max_{cost} in params.yaml") for cost, limit in in_params.by_cost().items()}
    limits |= {cost: (limit, f"--max-{cost.replace('_', '-')}") for cost, limit in options.by_cost().items()}
    broken = {cost: limits[cost] for cost in MICRO_COSTS if cost in limits and needed[cost] > limits[cost][0]}
    if broken:
        told = [f"{needed[cost]:,} bytes of {cost.removesuffix('_bytes')}" for cost in broken]
        raise LimitError(
            found=f"the model needs {' and '.join(told)}",
            expected=" and ".join(f"at most {limit:,.0f} ({where})" for limit, where in broken.values()),
            remedy="choose a smaller picture or a narrower backbone in params.yaml (docs/pages/mcu.md has a table),"
            f" and run `dvc repro`; {FOLDER} is as it was",
        )


def _write(content: bytes, texts: dict[str, str]) -> None:
    with staged(FOLDER) as staging:
        write_bytes(staging / "model.tflite", content)
        for name, text in texts.items():
            write_text(staging / name, text)


def _firmware(
    content: bytes, found: Footprint, head: Head, manifest: dict[str, Any], side: int
) -> tuple[Firmware, dict[str, Any]]:
    """Prove what TFLM answers, choose the golden picture, and return with the firmware what measured.json tells."""
    resize = manifest["input"]["resize"]
    candidates = candidates_of([to_model_input(image, side, resize) for image in _golden_images()])
    answers = proven_answers(content, found.arena_bytes, [*candidates, *probes(side)])
    self_test = choose_self_test(candidates, answers[: len(candidates)], by_reference_kernels(content))
    firmware = Firmware(
        model=content,
        backbone=manifest["backbone"],
        resize=resize,
        input_pixels=side,
        labels=head.labels,
        threshold=head.threshold,
        arena_bytes=found.arena_bytes,
        operators=micro_operators(content),
        golden_pixels=self_test.pixels,
        golden_output=self_test.output,
    )
    return firmware, {"num_pictures_proven": len(answers), "self_test_changes": self_test.changes}


def quantized_classifier(backbone: bytes, head: Head, rows: Rows) -> bytes:
    """Put a head on the backbone, in int8. The range of its logits is that of all frames but the test frames.

    Raises:
        ModelError: If the backbone is of another form, or of another run than the head and the bottlenecks.
    """
    lengths = {Model(backbone).output_length, len(head.weights), rows.features.shape[1]}
    if len(lengths) > 1:
        raise ModelError(
            found=f"backbone, head and bottlenecks of {MICRO_SCHEME} have "
            f"{', '.join(map(str, sorted(lengths)))} features",
            expected="files of one run",
            remedy="run `dvc repro`",
        )
    logits = rows.features[rows.are_for_training] @ head.weights + head.bias
    return micro_classifier(
        backbone,
        head.weights,
        head.bias,
        num_labels=len(head.labels),
        logit_range=(float(logits.min()), float(logits.max())),
    )


def table(measured: dict[str, Any]) -> str:
    """Return a table for a terminal."""
    test = measured["test"]
    whose = "the shipped head" if test["is_shipped_head"] else "a head that has not seen the test takes"
    interval = test["interval"]
    between = f", 95% interval {interval['low']:.3f} to {interval['high']:.3f}" if interval else ""
    rows = [
        ("flash", f"{measured['flash_bytes']:,} bytes (the model; TFLM's code comes on top)"),
        ("arena", f"{measured['arena_bytes']:,} bytes"),
        ("multiply-adds", f"{measured['multiply_adds']:,} a picture"),
        ("operators", ", ".join(measured["operators"])),
        ("TFLM", f"bit-identical to LiteRT's reference kernels on {measured['num_pictures_proven']} pictures"),
        ("self-test", "by how many of its 256 steps an output changes, where the golden picture is"),
        *(("", f"{steps:>3}  {name}") for name, steps in measured["self_test_changes"].items()),
        ("accuracy", f"{test['accuracy']:.3f}{between}"),
        ("", f"of {whose}, on {test['num_frames']} frames of {test['num_takes']} test takes"),
        ("beside it", f"{test['accuracy_of_phones']:.3f} by the int8 model for phones, on the same frames"),
        ("agreement", f"{test['agreement_with_phones']:.3f} of the frames get the same label"),
        ("", f"{test['same_answers_as_phones']:.3f} the same answer, `none of them` included"),
        ("written", f"{FOLDER}/"),
    ]
    return text_table(("what", "measured"), rows) + "\n"


def _manifest() -> dict[str, Any]:
    """Return the last run's manifest.json, if it is of what params.yaml says."""
    params = params_of_project()
    if MICRO_SCHEME not in listed_schemes(params):
        raise ConfigurationError(
            found=f"`quantization: {params['quantization']}` in params.yaml",
            expected=f"{MICRO_SCHEME} among them: microcontrollers take no other scheme",
            remedy=f"add {MICRO_SCHEME} to the list, and run `dvc repro`",
        )
    path = layout.DEPLOYED / "manifest.json"
    if not path.is_file():
        raise InputError(
            found=f"no {path}, beside which the golden pictures lie",
            expected="what a finished run leaves",
            remedy="run `dvc repro`",
        )
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    made_with = {"backbone": manifest["backbone"], "resize": manifest["input"]["resize"]}
    for key, value in made_with.items():
        if params.get(key) != value:
            raise ConfigurationError(
                found=f"`{key}: {params.get(key)}` in params.yaml, and models/deployed/ was made with {value}",
                expected="the same in both",
                remedy="run `dvc repro`",
            )
    return manifest


def _backbone() -> bytes:
    path = layout.backbone(MICRO_SCHEME)
    if not path.is_file():
        raise InputError(
            found=f"no {path}: the scheme {MICRO_SCHEME} was not made",
            expected="the quantized backbone",
            remedy="run `dvc repro`",
        )
    return path.read_bytes()


def _golden_images() -> list[Pixels]:
    folder = layout.DEPLOYED / "golden"
    entries = json.loads((folder / "golden.json").read_text(encoding="utf-8"))["pictures"]
    return [read_photo(folder / entry["file"], width_pixels=_MAX_PHOTO_PIXELS) for entry in entries]


def _scored(content: bytes, head: Head, manifest: dict[str, Any], max_frames: int | None) -> dict[str, Any]:
    """Score a model by the reference kernels, beside the int8 model for phones, on test frames."""
    frames = _test_frames(max_frames)
    resize = manifest["input"]["resize"]
    labelled = embed_labels(content, head.labels, name=manifest["backbone"], description="scored")
    found = predict(labelled, frames, resize, REFERENCE, title="mcu")
    of_phones = held_out_classifier(MICRO_SCHEME, manifest["backbone"])
    phone = predict(of_phones, frames, resize, LITERT, title="  int8 for phones beside it")
    intervals = intervals_of(found)
    return {
        "accuracy": float(np.mean(found.predicted == found.actual)),
        "interval": intervals.accuracy if intervals else None,
        "num_frames": len(frames),
        "num_takes": len(set(found.takes)),
        "accuracy_of_phones": float(np.mean(phone.predicted == phone.actual)),
        "agreement_with_phones": agreement(found, phone),
        "same_answers_as_phones": _share_of_same_answers(found, phone, head.threshold),
    }


def _share_of_same_answers(found: Predictions, phone: Predictions, threshold: float | None) -> float:
    """Compare what a firmware and an app would tell, each by its own form of the threshold."""
    as_output = (threshold_as_output(threshold) + PIXEL_OFFSET) / 256
    pairs = zip(found.probabilities, phone.probabilities, strict=True)
    return float(
        np.mean([named(found.labels, one, as_output) == named(found.labels, two, threshold) for one, two in pairs])
    )


def _test_frames(max_frames: int | None) -> list[HeldOutFrame]:
    frames = list(held_out_frames(read_takes(layout.SPLITS)))
    if not frames:
        raise InputError(
            found=f"nothing to score the microcontroller's model on: no test frame in {layout.FRAMES}/",
            expected="test frames of each label",
            remedy="add takes, and run `dvc repro`",
        )
    return frames if max_frames is None else [frames[index] for index in spread(len(frames), max_frames)]


def _are_equal(one: Head, other: Head) -> bool:
    return np.array_equal(one.weights, other.weights) and np.array_equal(one.bias, other.bias)
