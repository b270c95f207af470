"""What `viewfinder onnx` does: a file for desktops and servers, proved against LiteRT before it takes its place."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ModelError
from pipeline.files import write_bytes
from pipeline.litert.foreign import AnsweringHead, heads_of
from pipeline.litert.interpreter import Model
from pipeline.litert.runtimes import signature
from pipeline.shipping.onnx_file import OnnxModel, to_onnx
from pipeline.takes.staging import staged
from pipeline.tools.golden_folder import GoldenFolder, float32_model_in, read_golden, without_nan
from pipeline.tools.tables import text_table

FILE = Path("models/onnx/model.onnx")
MAX_FACTOR = 1.001  # of probabilities; both compute in float32, in another order


@dataclass(frozen=True)
class Proof:
    """An ONNX file in onnxruntime against LiteRT, on the golden pictures.

    Attributes:
        file: Where it is.
        source: The .tflite file that it was made from.
        size_megabytes: In millions of bytes.
        num_pictures: How many were compared.
        num_same_answers: On how many every head names the same.
        largest_difference: Between probabilities of the same label.
        largest_factor: Likewise, by golden.json's rule.
    """

    file: str
    source: str
    size_megabytes: float
    num_pictures: int
    num_same_answers: int
    largest_difference: float
    largest_factor: float

    @property
    def holds(self) -> bool:
        """Tell whether the file may be shipped; a factor that is no number is above any limit."""
        return self.num_same_answers == self.num_pictures and self.largest_factor <= MAX_FACTOR


def onnx(folder: Path, show: Callable[[Proof], None]) -> None:
    """Write models/onnx/model.onnx, if it answers as LiteRT does.

    Args:
        folder: Holds a model, manifest.json and golden/.
        show: Is given the proof, also of a file that is refused.

    Raises:
        InputError: If there are no golden pictures.
        MissingPackageError: If tf2onnx or onnxruntime is not installed.
        ModelError: If there is no float32 model, it cannot be translated, or the file answers otherwise.
    """
    golden = read_golden(folder)
    source = float32_model_in(folder, "tf2onnx does not translate quantized numbers")
    content = source.read_bytes()
    heads = heads_of(content, signature(content))
    sys.stderr.write(f"onnx: translating {source}\n")
    made = to_onnx(content, [head.name for head in heads], _about(heads, golden.manifest["input"]["resize"], source))
    proof = proved(made, source, golden, heads)
    show(proof)
    refuse_broken(proof)
    with staged(FILE.parent) as staging:
        write_bytes(staging / FILE.name, made)


def proved(made: bytes, source: Path, golden: GoldenFolder, heads: Sequence[AnsweringHead]) -> Proof:
    """Compare an ONNX file with the .tflite file that it was made from.

    Raises:
        ModelError: If onnxruntime cannot load it, or its outputs have other names.
    """
    file, model = OnnxModel(made), Model(source.read_bytes())
    names = [head.name for head in heads]
    if file.output_names != names:
        raise ModelError(
            found=f"an ONNX file with the outputs {', '.join(file.output_names)}",
            expected=f"{', '.join(names)}, in this order",
            remedy="install the versions of requirements-dev.lock: `make setup-dev`",
        )
    found, expected = (np.array([run(picture) for picture in golden.pictures]) for run in (file, model))
    return Proof(
        file=str(FILE),
        source=str(source),
        size_megabytes=len(made) / 1e6,
        num_pictures=len(found),
        num_same_answers=sum(
            all(head.named(one[head.columns]) == head.named(other[head.columns]) for head in heads)
            for one, other in zip(found, expected, strict=True)
        ),
        largest_difference=float(np.abs(found - expected).max()),
        largest_factor=golden.largest_factor(found, expected),
    )


def table(proof: Proof) -> str:
    """Return a table for a terminal, with what was made of what."""
    columns = ("size in MB", "largest difference", "largest factor", "limit", "same answer")
    row = (
        f"{proof.size_megabytes:.2f}",
        f"{proof.largest_difference:.1e}",
        f"{proof.largest_factor:.6f}",
        f"{MAX_FACTOR:g}",
        f"{proof.num_same_answers} of {proof.num_pictures}",
    )
    return f"{proof.file}, from {proof.source}\n{text_table(columns, [row])}\n"


def to_json(proof: Proof) -> dict[str, Any]:
    """Return what `--json` prints."""
    return without_nan(asdict(proof)) | {"holds": proof.holds}


def refuse_broken(proof: Proof) -> None:
    """Raise ModelError if a file answers otherwise than it may."""
    if not proof.holds:
        raise ModelError(
            found=f"an ONNX file that answers as LiteRT does on {proof.num_same_answers} of {proof.num_pictures} golden"
            f" pictures, by a factor of {proof.largest_factor:.3g}",
            expected=f"the same answers, by a factor of at most {MAX_FACTOR:g}; what was there stays",
            remedy="install the versions of requirements-dev.lock (`make setup-dev`), or choose another backbone:"
            " docs/pages/onnx.md tells which ones were tried",
        )


def _about(heads: Sequence[AnsweringHead], resize: str, source: Path) -> dict[str, str]:
    """Return the entries of the file's metadata; those of the heads are JSON, in the order of the outputs."""
    told = [
        {
            "name": head.name,
            "labels": head.labels,
            "threshold": head.threshold,
            "may_name_several": head.may_name_several,
        }
        for head in heads
    ]
    return {
        "heads": json.dumps(told, ensure_ascii=False),
        "resize": resize,
        "made_from": source.as_posix(),
        "made_with": f"viewfinder {version('viewfinder')}",
    }
