"""The page of `viewfinder trainable --page`: a browser teaches the model that learns, and keeps what it has learned.

All is in the page, as in that of `viewfinder try`, and it can reach nobody.
"""

import json
from pathlib import Path
from typing import Any

from pipeline.files import layout, write_text
from pipeline.shipping.learning_folder import GOLDEN, MODEL
from pipeline.shipping.manifest import read_manifest
from pipeline.tools.try_page import filled_page, golden_of, made_of, runtime

PAGE = layout.TRAINABLE / "teach.html"
_SCRIPTS = ("learning.js", "teach.js")


def write_teach_page() -> Path:
    """Write the page, of what models/trainable and models/deployed hold.

    Returns:
        Where it is.

    Raises:
        InputError: If models/trainable is not there.
        PipelineError: If the runtime cannot be downloaded.
    """
    manifest = read_manifest(layout.TRAINABLE, "a model that learns", "make it: viewfinder trainable")
    model = (layout.TRAINABLE / MODEL).read_bytes()
    golden, pictures = golden_of(layout.DEPLOYED / "golden", {}, manifest["scheme"], manifest["input"]["resize"])
    for picture in golden["pictures"]:  # the first head learns, and is all that the model has
        picture["expected"] = {scheme: told[: len(manifest["labels"])] for scheme, told in picture["expected"].items()}
    features = {name: (layout.TRAINABLE / manifest[name]["file"]).read_bytes() for name in ("replay", "check")}
    about = {"film": False, "golden": golden, "models": [_about(manifest, model)], "teach": _lessons(manifest)}
    assets = runtime() | pictures | features | {f"model-{manifest['scheme']}": model}
    write_text(PAGE, filled_page(about, assets, "Viewfinder: teach it a new label", made_of(manifest), more=_SCRIPTS))
    return PAGE


def _about(manifest: dict[str, Any], model: bytes) -> dict[str, Any]:
    return {
        "scheme": manifest["scheme"],
        "size_bytes": len(model),
        "labels": manifest["labels"],
        "threshold": manifest["output"]["threshold"],
        "heads": [],
        "input_pixels": manifest["input"]["shape"][1],
        "input_type": manifest["input"]["dtype"],
        "resize": manifest["input"]["resize"],
    }


def _lessons(manifest: dict[str, Any]) -> dict[str, Any]:
    golden = json.loads((layout.TRAINABLE / GOLDEN).read_text(encoding="utf-8"))
    kept = ("version", "head", "training", "replay", "check")
    return {"golden": golden} | {name: manifest[name] for name in kept}
