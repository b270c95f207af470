"""What `viewfinder coreml` does: a package for Core ML, proved against LiteRT before it takes its place."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.coreml.package import About, save_package
from pipeline.coreml.saved import SavedPackage
from pipeline.coreml.weights import Weights, weights_of
from pipeline.errors import ModelError
from pipeline.files import sha256_of_bytes
from pipeline.litert.foreign import heads_of
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import read_labels, read_threshold
from pipeline.litert.none_row import with_none
from pipeline.litert.runtimes import signature
from pipeline.metrics.probabilities import named
from pipeline.takes.splits import NONE
from pipeline.takes.staging import staged
from pipeline.tools.golden_folder import GoldenFolder, float32_model_in, read_golden, without_nan
from pipeline.tools.tables import text_table

PACKAGE = Path("models/coreml/Viewfinder.mlpackage")  # Xcode names the class after it

# What an app tells Vision for each choice of `resize`: cases of VNImageCropAndScaleOption.
VISION_OPTIONS = {"stretch": "scaleFill", "crop": "centerCrop", "pad": "scaleFit"}
_VERSION_DIGITS = 16
_REMEDIES = {
    "float16": "choose --weights float32: activations may leave float16's range, which ends at 65504",
    "float32": "another version of coremltools than that in requirements-dev.lock may be installed: `make setup-dev`",
}


@dataclass(frozen=True)
class Proof:
    """A package against LiteRT in float32, on the golden pictures.

    Attributes:
        package: Where it is.
        source: The .tflite file that it was made from.
        weights: A name in `WEIGHTS`.
        ios: The first version of iOS that reads it.
        size_megabytes: Of all its files, in millions of bytes.
        num_pictures: How many were compared.
        num_same_answers: On how many both name the same label, or both none.
        largest_difference: Between probabilities of the same class.
        largest_factor: Likewise, by golden.json's rule.
        max_factor: The largest that is let pass.
    """

    package: str
    source: str
    weights: str
    ios: int
    size_megabytes: float
    num_pictures: int
    num_same_answers: int
    largest_difference: float
    largest_factor: float
    max_factor: float

    @property
    def holds(self) -> bool:
        """Tell whether the package may be shipped; a factor that is no number is above any limit."""
        return self.num_same_answers == self.num_pictures and self.largest_factor <= self.max_factor


def coreml(folder: Path, weights_name: str, *, author: str, license_name: str, show: Callable[[Proof], None]) -> None:
    """Write models/coreml/Viewfinder.mlpackage, if it answers as LiteRT does.

    Args:
        folder: Holds a model, manifest.json and golden/.
        weights_name: See `weights_of`.
        author: For the package's metadata.
        license_name: Likewise.
        show: Is given the proof, also of a package that is refused.

    Raises:
        ConfigurationError: If there is no such kind of weights.
        InputError: If there are no golden pictures.
        MissingPackageError: If coremltools is not installed.
        ModelError: If there is no float32 model, it cannot be translated, or the package answers otherwise.
    """
    weights = weights_of(weights_name)
    golden = read_golden(folder)
    source = float32_model_in(folder, "Core ML has its own weights of 8 bits (--weights)")
    content = source.read_bytes()
    labels, threshold = read_labels(content), read_threshold(content)
    with_none_row = with_none(content)
    whole = with_none_row or content
    classes = [*labels, NONE] if with_none_row else labels
    about = _about(labels, threshold, golden.manifest["input"]["resize"], source, weights)
    about["more"] |= _heads(content)
    about |= {"author": author, "license": license_name, "version": sha256_of_bytes(content)[:_VERSION_DIGITS]}
    sys.stderr.write(f"coreml: translating {source}\n")
    with staged(PACKAGE.parent) as staging:
        path = staging / PACKAGE.name
        save_package(path, whole, classes, weights, About(**about))
        proof = proved(path, source, whole, golden, weights, threshold)
        show(proof)
        refuse_broken(proof)


def proved(
    path: Path, source: Path, content: bytes, golden: GoldenFolder, weights: Weights, threshold: float | None
) -> Proof:
    """Compare a saved package with LiteRT.

    Args:
        path: Of the package.
        source: What it was made from.
        content: The .tflite file that it stands for, which gives all of its classes.
        golden: The pictures.
        weights: How the package keeps its weights.
        threshold: Of the labels' probabilities.
    """
    package, model = SavedPackage(path), Model(content)
    found, expected = (np.array([run(picture) for picture in golden.pictures]) for run in (package, model))
    return Proof(
        package=str(PACKAGE),
        source=str(source),
        weights=weights.name,
        ios=weights.ios,
        size_megabytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6,
        num_pictures=len(found),
        num_same_answers=sum(
            _answer(package.classes, one, threshold) == _answer(package.classes, other, threshold)
            for one, other in zip(found, expected, strict=True)
        ),
        largest_difference=float(np.abs(found - expected).max()),
        largest_factor=golden.largest_factor(found, expected),
        max_factor=weights.max_factor,
    )


def table(proof: Proof) -> str:
    """Return a table for a terminal, with what was made of what."""
    columns = ("weights", "needs", "size in MB", "largest difference", "largest factor", "limit", "same answer")
    row = (
        proof.weights,
        f"iOS {proof.ios}",
        f"{proof.size_megabytes:.2f}",
        f"{proof.largest_difference:.1e}",
        f"{proof.largest_factor:.6f}",
        f"{proof.max_factor:g}",
        f"{proof.num_same_answers} of {proof.num_pictures}",
    )
    return f"{proof.package}, from {proof.source}\n{text_table(columns, [row])}\n"


def to_json(proof: Proof) -> dict[str, Any]:
    """Return what `--json` prints."""
    return without_nan(asdict(proof)) | {"holds": proof.holds}


def refuse_broken(proof: Proof) -> None:
    """Raise ModelError if a package answers otherwise than it may."""
    if not proof.holds:
        raise ModelError(
            found=f"a package with {proof.weights} weights that answers as LiteRT does on {proof.num_same_answers} of"
            f" {proof.num_pictures} golden pictures, by a factor of {proof.largest_factor:.3g}",
            expected=f"the same answers, by a factor of at most {proof.max_factor:g}; what was there stays",
            remedy=_REMEDIES.get(proof.weights, "choose --weights float16"),
        )


def _answer(classes: list[str], probabilities: npt.NDArray[np.float32], threshold: float | None) -> str | None:
    labels = [name for name in classes if name != NONE]
    return named(labels, probabilities[: len(labels)], threshold)


def _heads(content: bytes) -> dict[str, str]:
    """Return what the package tells of the heads beside the first: labels, threshold, and whether many may be true."""
    told = {
        head.name: {"labels": head.labels, "threshold": head.threshold, "may_name_several": head.may_name_several}
        for head in heads_of(content, signature(content))[1:]
    }
    return {"heads": json.dumps(told, ensure_ascii=False)} if told else {}


def _about(labels: list[str], threshold: float | None, resize: str, source: Path, weights: Weights) -> dict[str, Any]:
    more = {
        "labels": json.dumps(labels, ensure_ascii=False),
        "resize": resize,
        "imageCropAndScaleOption": VISION_OPTIONS[resize],
        "weights": weights.name,
        "made_from": source.as_posix(),
        "made_with": f"viewfinder {version('viewfinder')}",
    }
    if threshold is not None:
        more |= {
            "threshold": repr(threshold),
            "none": NONE,
            "rule": "if the highest probability of a label is below threshold, the picture shows none of the labels",
        }
    return {"description": "Image classifier made by Viewfinder. Input: the whole picture, RGB.", "more": more}
