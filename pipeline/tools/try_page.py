"""What `viewfinder try` does: writes one page in which the shipped file looks through a camera.

All is in the page: the model's bytes, the phone's own runtime compiled for browsers, pictures with known answers. It
asks nobody for anything, and its content security policy keeps it from it.
"""

import base64
import gzip
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pipeline.config.try_page import try_config
from pipeline.errors import ConfigurationError
from pipeline.files import layout, write_text
from pipeline.images.model_input import to_model_input
from pipeline.images.photos import read_photo
from pipeline.litert.foreign import heads_of
from pipeline.litert.interpreter import Model
from pipeline.litert.runtimes import signature
from pipeline.shipping.manifest import read_manifest
from pipeline.tools.npm_package import archive_of, files_of

PAGE = Path("models/try.html")
PACKAGES_FOLDER = Path(".cache/web")

_MAX_LABELS_IN_TITLE = 30
_WEB = Path(__file__).parent / "web"
_SCRIPTS, _START = ("pixels.js", "runtime.js", "try.js"), "start.js"

_PRIVACY = (
    "Everything runs in this page, and nothing leaves it: no picture, no answer, no statistics. "
    "The browser enforces it."
)
_PRIVACY_FILMING = (
    "What you film goes to the computer that shows this page, and nowhere else. The model runs in this page. "
    "The browser enforces both."
)

# LiteRT for browsers comes in several builds. This one needs nothing beyond what all browsers of 2023 have, threads and
# relaxed SIMD included, and is as fast on one thread.
_RUNTIME = {
    "litert": ("@litertjs/core", "dist/index.js"),
    "loader": ("@litertjs/core", "wasm/litert_wasm_compat_internal.js"),
    "wasm": ("@litertjs/core", "wasm/litert_wasm_compat_internal.wasm"),
    "helpers": ("@litertjs/wasm-utils", "dist/bundle.js"),
}

_POLICY = (
    "default-src 'none'; script-src {script} blob: 'wasm-unsafe-eval'; style-src {style}; img-src blob: data:; "
    "media-src blob: mediastream:; connect-src {connect}; base-uri 'none'; form-action 'none'"
)


def write_page(beside: Sequence[str], folder: Path | None = None) -> Path:
    """Write the page.

    Args:
        beside: Schemes that are shown beside the deployed model, of those in `quantization`.
        folder: Holds a model, manifest.json and golden/; None for models/deployed.

    Returns:
        Where it is.

    Raises:
        ConfigurationError: If a scheme was not made, or is to stand beside another model than the deployed one.
        InputError: If there is no model.
        PipelineError: If the runtime cannot be downloaded.
    """
    shown = folder or layout.DEPLOYED
    manifest = _manifest(shown)
    models = {manifest["scheme"]: shown / "model.tflite"}
    if beside and shown != layout.DEPLOYED:
        raise ConfigurationError(
            found=f"--beside {beside[0]} and {shown}",
            expected=f"--beside with {layout.DEPLOYED} alone, whose schemes have the same labels",
            remedy="leave out one of them",
        )
    for scheme in beside:
        models.setdefault(scheme, layout.model(scheme))
        if not models[scheme].is_file():
            raise ConfigurationError(
                found=f"--beside {scheme}, and no {models[scheme]}",
                expected="a scheme that was made",
                remedy="list it under `quantization` in params.yaml, and run `dvc repro`",
            )
    contents = {scheme: path.read_bytes() for scheme, path in models.items()}
    write_text(PAGE, page(contents, manifest, folder=shown))
    return PAGE


def page(
    models: Mapping[str, bytes],
    manifest: Mapping[str, Any] | None,
    *,
    films: bool = False,
    folder: Path = layout.DEPLOYED,
) -> str:
    """Return the page.

    Args:
        models: .tflite files by scheme, the deployed one first.
        manifest: Of the deployed one; None if there is none yet.
        folder: Holds the first one.
        films: Whether it films takes for the server that it comes from. If not, it can reach nobody.

    Raises:
        PipelineError: If the runtime cannot be downloaded.
    """
    about: dict[str, Any] = {"models": [], "film": films}
    assets = dict[str, bytes]()
    title, told = "Viewfinder", "No model is in this page."
    if manifest is not None:
        resize = manifest["input"]["resize"]
        loaded = {scheme: Model(content) for scheme, content in models.items()}
        about["golden"], pictures = golden_of(folder / "golden", loaded, manifest["scheme"], resize)
        about["models"] = [_about(scheme, content, loaded[scheme], resize) for scheme, content in models.items()]
        assets = runtime() | pictures | {f"model-{scheme}": content for scheme, content in models.items()}
        title, told = f"Viewfinder: {_listed(manifest['labels'])}", made_of(manifest)
    if films:
        return filled_page(about, assets, title, told, more=("film.js",), privacy=_PRIVACY_FILMING, connect="'self'")
    return filled_page(about, assets, title, told)


def filled_page(
    about: Mapping[str, Any],
    assets: Mapping[str, bytes],
    title: str,
    told: str,
    *,
    more: Sequence[str] = (),
    privacy: str = _PRIVACY,
    connect: str = "'none'",
) -> str:
    """Return a page that shows what models say.

    Args:
        about: What its scripts read: models, golden pictures, and what else they do.
        assets: Files that the page holds, by name.
        title: Any text.
        told: What it is made of, any text.
        more: Scripts in web/ that it needs besides.
        privacy: What it tells of what leaves it.
        connect: Whom its policy lets it reach.
    """
    script = "\n".join((_WEB / name).read_text(encoding="utf-8") for name in (*_SCRIPTS, *more, _START))
    style = (_WEB / "try.css").read_text(encoding="utf-8")
    filled = {
        "policy": _POLICY.format(script=_source(script), style=_source(style), connect=connect),
        "title": escape(title),
        "style": style,
        "privacy": privacy,
        "made_of": escape(told),
        "assets": "\n".join([_data("about", about), *(_packed(name, content) for name, content in assets.items())]),
        "script": script,
    }
    html = (_WEB / "try.html").read_text(encoding="utf-8")
    return re.sub(r"\{(\w+)\}", lambda place: filled[place[1]], html)


def deployed() -> tuple[dict[str, bytes], dict[str, Any] | None]:
    """Return the deployed model by its scheme, and its manifest; nothing and None if there is none."""
    if not (layout.DEPLOYED / "manifest.json").is_file():
        return {}, None
    manifest = _manifest(layout.DEPLOYED)
    return {manifest["scheme"]: (layout.DEPLOYED / "model.tflite").read_bytes()}, manifest


def runtime() -> dict[str, bytes]:
    """Return LiteRT for browsers: `litert` and `helpers` (modules), `loader` (a script) and `wasm`.

    Raises:
        PipelineError: If it is not there and cannot be downloaded.
    """
    config = try_config()
    files = {
        package.name: files_of(archive_of(package, config.registry, PACKAGES_FOLDER)) for package in config.packages
    }
    try:
        return {asset: files[package][path] for asset, (package, path) in _RUNTIME.items()}
    except KeyError as error:
        raise ConfigurationError(
            found=f"conf/try.yaml names packages without {error}",
            expected=", ".join(f"{package}: {path}" for package, path in _RUNTIME.values()),
            remedy="name the versions that this was made for (git diff conf/try.yaml shows the old ones)",
        ) from error


def made_of(manifest: Mapping[str, Any]) -> str:
    """Return which model and which runtime are in a page."""
    versions = ", ".join(f"{package.name} {package.version}" for package in try_config().packages)
    return f"Model {manifest['version']} ({manifest['backbone']}). Runs by {versions} (Apache-2.0)."


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) <= _MAX_LABELS_IN_TITLE else f"{len(labels):,} labels"


def _manifest(folder: Path) -> dict[str, Any]:
    remedy = f"run `make repro`, or `viewfinder pretrained` for {layout.PRETRAINED}"
    return read_manifest(folder, "a deployed model", remedy)


def _about(scheme: str, content: bytes, model: Model, resize: str) -> dict[str, Any]:
    first, *further = heads_of(content, signature(content))
    return {
        "scheme": scheme,
        "size_bytes": len(content),
        "labels": first.labels,
        "threshold": first.threshold,
        "heads": [
            {
                "name": head.name,
                "labels": head.labels,
                "threshold": head.threshold,
                "may_name_several": head.may_name_several,
            }
            for head in further
        ],
        "input_pixels": model.input_pixels,
        "input_type": model.input_type,
        "resize": resize,
    }


def golden_of(
    folder: Path, models: Mapping[str, Model], deployed: str, resize: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return pictures with known answers: the deployed model's are those that it was shipped with.

    Of other schemes LiteRT's own answers on this machine are taken, from the same pixels.
    """
    told = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    pictures, entries = dict[str, bytes](), list[dict[str, Any]]()
    for number, entry in enumerate(told["pictures"]):
        content = (folder / entry["file"]).read_bytes()
        pictures[f"golden-{number}"] = content
        rgb = read_photo(folder / entry["file"], width_pixels=sys.maxsize)
        heads = [entry, *entry.get("heads", {}).values()]
        known = [probability for head in heads for probability in head["probabilities"].values()]
        expected = {deployed: known} | {
            scheme: model(to_model_input(rgb, model.input_pixels, resize)).tolist()
            for scheme, model in models.items()
            if scheme != deployed
        }
        entries.append({"asset": f"golden-{number}", "expected": expected})
    return {"max_factor": told["max_factor"], "floor": told["floor"], "pictures": entries}, pictures


def _data(name: str, content: object) -> str:
    """Return JSON inside a page; a `<` in it could end the element."""
    text = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _packed(name: str, content: bytes) -> str:
    packed = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return f'<script type="application/gzip" id="asset-{escape(name)}">{packed}</script>'


def _source(text: str) -> str:
    """Return how a policy names the one script or style that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
