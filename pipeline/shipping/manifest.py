"""manifest.json: what to feed a model, what comes out, and what the files beside it must look like."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.config.heads import MANY, ONE
from pipeline.errors import InputError
from pipeline.files import sha256_of_bytes, sha256_of_file
from pipeline.litert.foreign import AnsweringHead
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import labels_file_of

MANIFEST_FORMAT = 1
_MODEL, _LABELS = "model.tflite", "labels.txt"
_LIBRARIES = ("tensorflow", "keras", "ai-edge-litert", "litert-quantizer", "pillow", "numpy", "av")
_VERSION_DIGITS = 16


def manifest(
    folder: Path,
    *,
    scheme: str,
    backbone: str,
    resize: str,
    threshold: float | None,
    more: Mapping[str, object],
    further: Sequence[AnsweringHead] = (),
) -> dict[str, Any]:
    """Describe a folder for the app: what to feed, what comes out, and what the files must look like.

    `version` changes if, and only if, the app must change what it ships or how it feeds it: it is a hash of the files
    that go into the app, and of `input` and `output`.

    Args:
        folder: Holds model.tflite, labels.txt, golden/, and labels_<head>.txt for each further head.
        scheme: Of the model.
        backbone: Its name.
        resize: How a picture becomes square.
        threshold: Probability of the most probable label below which the picture shows none of them; None for none.
        more: What else is known.
        further: The heads beside the first, in the order of the model's outputs.
    """
    model = Model((folder / "model.tflite").read_bytes())
    given = {
        "shape": [1, model.input_pixels, model.input_pixels, 3],
        "dtype": model.input_type,
        "range": [0, 255],
        "colour_order": "RGB",
        "layout": "NHWC",
        "resize": resize,
    }
    answer: dict[str, object] = {
        "dtype": "float32",
        "meaning": "probability of each label, in the order of labels.txt",
        "threshold": threshold,
    }
    if threshold is not None:
        answer["rule"] = "if the highest probability is below threshold, the picture shows none of the labels"
    if further:
        answer["heads"] = [_head_entry(number, head) for number, head in enumerate(further, 1)]
    files = entries_of(folder)
    app_files = [_MODEL, _LABELS, *(labels_file_of(head.name) for head in further)]
    identity = {"input": given, "output": answer, "files": {name: files[name] for name in app_files}}
    return {
        "format": MANIFEST_FORMAT,
        "version": version_of(identity),
        "scheme": scheme,
        "backbone": backbone,
        "input": given,
        "output": answer,
        "labels": (folder / "labels.txt").read_text(encoding="utf-8").splitlines(),
        "files": files,
        **more,
        "made_with": made_with(),
    }


def _head_entry(number: int, head: AnsweringHead) -> dict[str, object]:
    """Describe a further head: which output it is, what names its numbers, and when it names what."""
    kind = MANY if head.may_name_several else ONE
    rules = {
        MANY: "every label whose probability is threshold or more is true",
        ONE: "if the highest probability is below threshold, none of the labels is true",
    }
    entry: dict[str, object] = {
        "name": head.name,
        "output": number,
        "kind": kind,
        "labels_file": labels_file_of(head.name),
        "labels": list(head.labels or ()),
        "threshold": head.threshold,
    }
    return entry | ({} if head.threshold is None else {"rule": rules[kind]})


def version_of(identity: Mapping[str, object]) -> str:
    """Return 16 hexadecimal digits that change if, and only if, what is described does."""
    return sha256_of_bytes(json.dumps(identity, sort_keys=True).encode())[:_VERSION_DIGITS]


def entries_of(folder: Path) -> dict[str, dict[str, object]]:
    """Return the size and the SHA-256 of every file of a folder, but for its manifest, by its path in the folder."""
    return {path.relative_to(folder).as_posix(): _file_entry(path) for path in _files_in(folder)}


def made_with() -> dict[str, str]:
    """Return the versions of Python and of the libraries that matter."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}


def read_manifest(folder: Path, expected: str, remedy: str) -> dict[str, Any]:
    """Read the manifest of a folder.

    Args:
        folder: The folder.
        expected: What should be in it.
        remedy: What to do if it is not there.

    Raises:
        InputError: If it is not there, or damaged.
    """
    path = folder / "manifest.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(found=f"{path} cannot be read ({error})", expected=expected, remedy=remedy) from error
    return found


def to_json(content: object) -> str:
    """Return a file's text."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")


def _file_entry(path: Path) -> dict[str, object]:
    return {"size_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
