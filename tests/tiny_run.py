"""What a whole run would have left of the tiny project: as much of it as tools read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.files import layout, write_bytes, write_text
from pipeline.pictures.canvas import message
from tests import tiny_project, tiny_results
from tests.conftest import PROJECT

PARAMS: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))


def write_scheme(scheme: str, *, wrong: Sequence[int] = (), size_bytes: int = 4000, p50: float = 9.0) -> None:
    """Write model, predictions and metrics of a scheme; `wrong` are the numbers of frames that it gets wrong."""
    tiny_results.write_scheme(scheme, wrong=wrong, size_bytes=size_bytes, p50=p50)
    change_metrics(scheme, latency_ms={"p50": p50, "p90": p50, "high": p50 + 1}, backbone="tiny")


def change_metrics(scheme: str, **changes: Any) -> None:
    """Change some of a scheme's metrics."""
    metrics = json.loads(layout.metrics(scheme).read_text(encoding="utf-8"))
    write_text(layout.metrics(scheme), json.dumps(metrics | changes))


def write_params(schemes: Sequence[str], **changes: Mapping[str, object] | str) -> None:
    """Write params.yaml."""
    write_text(Path("params.yaml"), yaml.safe_dump(PARAMS | {"quantization": list(schemes)} | changes))


def make() -> None:
    """Leave the results of float32 (deployed) and int8, in a folder that is taken for a project."""
    tiny_project.make()
    write_text(Path("dvc.yaml"), "stages: {}\n")
    write_params(["float32", "int8"])
    write_scheme("float32")
    write_scheme("int8", wrong=[0, 7], size_bytes=1000, p50=3.0)
    write_text(layout.DEPLOYED_METRICS, layout.metrics("float32").read_text(encoding="utf-8"))
    write_bytes(layout.PICTURES / "worst_errors.png", message("All is right", "nothing to see"))
