"""What `viewfinder arm64` does: holds models on emulated ARM64 chips against the same files on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigurationError, ModelError
from pipeline.files import layout
from pipeline.litert.arm64 import Arm64Interpreter
from pipeline.litert.head import features_of
from pipeline.litert.interpreter import load_interpreter
from pipeline.processes.progress import counted
from pipeline.tools.golden_folder import GoldenFolder, read_golden
from pipeline.tools.tables import text_table


@dataclass(frozen=True)
class Comparison:
    """A scheme on a chip, against LiteRT on this machine.

    Attributes:
        chip: One of `CHIPS`.
        scheme: Of the model.
        are_features_equal: Whether every feature is the same, bit for bit; None for a model without a head of ours.
        largest_feature_difference: 0 if they are; None likewise.
        largest_factor: Between probabilities, by golden.json's rule.
        keeps_rule: Whether that is within golden.json's `max_factor`.
    """

    chip: str
    scheme: str
    are_features_equal: bool | None
    largest_feature_difference: float | None
    largest_factor: float
    keeps_rule: bool


def compared(
    folder: Path, chips: Sequence[str], max_pictures: int | None, schemes: Sequence[str] = ()
) -> list[Comparison]:
    """Run the golden pictures of a folder on emulated chips and on this machine.

    Args:
        folder: What `deploy` wrote, or a folder like it.
        chips: Of `CHIPS`.
        max_pictures: None for all.
        schemes: Empty for every one that was made.

    Raises:
        ConfigurationError: If there is no model of a scheme.
        InputError: If there are no golden pictures.
        PipelineError: If the emulation cannot be set up.
    """
    golden = read_golden(folder, max_pictures)
    models = {golden.manifest["scheme"]: folder / "model.tflite"}
    if folder == layout.DEPLOYED:
        models |= {path.parent.name: path for path in sorted(layout.model("*").parents[1].glob("*/model.tflite"))}
    missing = [scheme for scheme in schemes if scheme not in models]
    if missing:
        raise ConfigurationError(
            found=f"--scheme {missing[0]}, and no model of it beside {folder}",
            expected=f"one of {', '.join(models)}",
            remedy="list it under `quantization` in params.yaml and run `dvc repro`",
        )
    pairs = [(chip, scheme) for chip in chips for scheme in schemes or models]
    return [
        _compare(chip, scheme, models[scheme].read_bytes(), golden)
        for chip, scheme in counted(pairs, "arm64", total=len(pairs), unit="model")
    ]


def table(comparisons: Sequence[Comparison]) -> str:
    """Return a table for a terminal."""
    rows = []
    for found in comparisons:
        differs = f"differ by {found.largest_feature_difference:.1e}" if found.largest_feature_difference else "-"
        features = "bit-equal" if found.are_features_equal else differs
        kept = "kept" if found.keeps_rule else "BROKEN"
        rows.append((found.chip, found.scheme, features, f"{found.largest_factor:.6f}", kept))
    return text_table(("chip", "scheme", "features", "largest factor", "rule"), rows) + "\n"


def refuse_broken(comparisons: Sequence[Comparison]) -> None:
    """Raise ModelError if an emulated chip answers otherwise than golden.json allows."""
    broken = [
        f"{one.scheme} on {one.chip} by a factor of {one.largest_factor:.3g}"
        for one in comparisons
        if not one.keeps_rule
    ]
    if broken:
        raise ModelError(
            found=f"answers of ARM64 differ from this machine's: {', '.join(broken)}",
            expected="factors within golden.json's max_factor",
            remedy="choose another scheme for phones with such chips",
        )


def _compare(chip: str, scheme: str, model: bytes, golden: GoldenFolder) -> Comparison:
    factor = golden.largest_factor(*_on_both(chip, model, golden.pictures))
    keeps_rule = factor <= golden.rule["max_factor"]
    try:
        backbone = features_of(model)
    except ModelError:  # a network's own classifier has no head of ours
        return Comparison(chip, scheme, None, None, factor, keeps_rule)
    features = _on_both(chip, backbone, golden.pictures)
    difference = float(np.abs(features[0] - features[1]).max())
    equal = features[0].tobytes() == features[1].tobytes()
    return Comparison(chip, scheme, equal, difference, factor, keeps_rule)


def _on_both(
    chip: str, model: bytes, pixels: Sequence[npt.NDArray[np.uint8]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the outputs on the emulated chip and on this machine, float32 [num_pictures, num_outputs] each."""
    with Arm64Interpreter(model, chip=chip) as emulated:
        return _outputs(emulated, pixels), _outputs(load_interpreter(model, 1), pixels)


def _outputs(interpreter: Any, pixels: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    given, answers = interpreter.get_input_details()[0], interpreter.get_output_details()
    found = []
    for picture in pixels:
        interpreter.set_tensor(given["index"], picture[np.newaxis].astype(given["dtype"]))
        interpreter.invoke()
        found.append(np.concatenate([interpreter.get_tensor(answer["index"])[0] for answer in answers]))
    return np.array(found, np.float32)
