"""Stage `deploy`: copies the chosen model to where the app takes it from.

Reads models/<scheme>/{model.tflite,labels.txt} and metrics/<scheme>.json; writes
models/deployed/{model.tflite,labels.txt,manifest.json} and metrics/deployed.json, which `dvc metrics diff` compares
between two versions of the project.
"""

import json
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.config.application import run_stage
from pipeline.config.deploy import DeployStage
from pipeline.files import layout, sha256_of_file, write_text

MANIFEST_FORMAT = 1
_LIBRARIES = ("tensorflow", "keras", "ai-edge-litert", "litert-quantizer", "pillow", "numpy", "av")


def deploy(config: DeployStage) -> None:
    """Write the deployed folder, whole or not at all, and the deployed model's metrics."""
    metrics = json.loads(layout.metrics(config.deploy).read_text())
    layout.DEPLOYED.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=layout.DEPLOYED.parent, prefix=".deployed."))
    try:
        shutil.copyfile(layout.model(config.deploy), staging / "model.tflite")
        shutil.copyfile(layout.labels(config.deploy), staging / "labels.txt")
        text = json.dumps(manifest(config, staging, metrics), indent=2, ensure_ascii=False)
        write_text(staging / "manifest.json", text + "\n")
        shutil.rmtree(layout.DEPLOYED, ignore_errors=True)
        staging.chmod(0o755)
        staging.rename(layout.DEPLOYED)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    write_text(layout.DEPLOYED_METRICS, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    sys.stderr.write(f"deploy: {config.deploy} is in {layout.DEPLOYED}/\n")


def manifest(config: DeployStage, folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Describe a deployed folder for the app: what to feed, what comes out, and what the files must look like.

    Args:
        config: The choices.
        folder: Holds model.tflite and labels.txt.
        metrics: The scheme's metrics.
    """
    pixels = config.backbone.input_pixels
    return {
        "format": MANIFEST_FORMAT,
        "scheme": config.deploy,
        "backbone": config.backbone.name,
        "input": {
            "shape": [1, pixels, pixels, 3],
            "dtype": "uint8",
            "range": [0, 255],
            "colour_order": "RGB",
            "layout": "NHWC",
            "resize": config.resize,
        },
        "output": {"dtype": "float32", "meaning": "probability of each label, in the order of labels.txt"},
        "labels": (folder / "labels.txt").read_text().splitlines(),
        "files": {name: _file_entry(folder / name) for name in ("model.tflite", "labels.txt")},
        "metrics": metrics,
        "made_with": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
    }


def _file_entry(path: Path) -> dict[str, object]:
    return {"size_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def main() -> None:
    """Run the stage from the command line."""
    run_stage("deploy", DeployStage, deploy)


if __name__ == "__main__":
    main()
