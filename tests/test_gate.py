import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.gate import GateConfig, GateStage
from pipeline.errors import PipelineError
from pipeline.files import layout
from pipeline.gate import gate
from tests import tiny_results
from tests.conftest import PROJECT
from tests.sandbox import Sandbox

NAMES = tuple(name for name in GateConfig.__dataclass_fields__ if name != "judge_by")
SCHEMES = ["float32", "float16", "int8", "int4"]  # int4 is not scored yet


def limits(**given: object) -> GateConfig:
    every: dict[str, Any] = {"judge_by": "figure"} | dict.fromkeys(NAMES) | given
    return GateConfig(**every)


def refusal(config: GateConfig, deploy: str = "int8") -> str:
    with pytest.raises(PipelineError) as caught:
        gate(GateStage(deploy, SCHEMES, config))
    return str(caught.value)


@pytest.fixture
def results(folder: Path) -> Path:
    tiny_results.write_scheme("float32", size_bytes=4000, p50=9)
    tiny_results.write_scheme("float16", size_bytes=2000, p50=9)
    tiny_results.write_scheme("int8", wrong=[0, 7], size_bytes=1000, p50=4)
    return folder


def test_without_limits_every_model_passes(results: Path) -> None:
    gate(GateStage("int8", SCHEMES, limits()))
    assert json.loads(layout.GATE.read_text()) == {"scheme": "int8", "limits": {}}


def test_a_model_exactly_at_its_limits_passes(results: Path) -> None:
    gate(GateStage("int8", SCHEMES, limits(min_accuracy=0.8, max_size_bytes=1000, max_latency_ms_p50=4)))
    expected = {"min_accuracy": 0.8, "max_size_bytes": 1000, "max_latency_ms_p50": 4}
    assert json.loads(layout.GATE.read_text())["limits"] == expected


@pytest.mark.parametrize(
    ("name", "limit", "told"),
    [
        ("min_accuracy", 0.95, "min_accuracy: 0.95; it has 0.8, 0.15 too little"),
        ("min_take_accuracy", 0.9, "min_take_accuracy: 0.9; it has 0.8, 0.1 too little"),
        ("min_recall", 0.85, "min_recall: 0.85; it has 0.8, 0.05 too little"),
        ("max_accuracy_drop", 0.05, "max_accuracy_drop: 0.05; it has 0.2, 0.15 too much"),
        ("min_agreement_with_float32", 1, "min_agreement_with_float32: 1; it has 0.8, 0.2 (20%) too little"),
        ("min_agreement_with_litert", 0.99, "min_agreement_with_litert: 0.99; it has 0.9, 0.09 too little"),
        ("max_size_bytes", 800, "max_size_bytes: 800; it has 1,000, 200 (25%) too much"),
        ("max_latency_ms_p50", 2.5, "max_latency_ms_p50: 2.5; it has 4, 1.5 (60%) too much"),
    ],
)
def test_a_refusal_names_the_limit_and_by_how_much_it_is_broken(
    results: Path, name: str, limit: float, told: str
) -> None:
    assert told in refusal(limits(**{name: limit}))
    assert not layout.GATE.exists()


@pytest.mark.parametrize(
    ("name", "limit", "told"),
    [
        ("min_accuracy", 0.75, "min_accuracy: 0.75; it has 0.7, 0.05 too little"),
        ("min_take_accuracy", 0.75, "min_take_accuracy: 0.75; it has 0.7, 0.05 too little"),
        ("min_recall", 0.75, "min_recall: 0.75; it has 0.7, 0.05 too little"),
        ("max_accuracy_drop", 0.25, "max_accuracy_drop: 0.25; it has 0.3, 0.05 too much"),
    ],
)
def test_a_limit_can_be_held_against_the_worse_end_of_the_interval(
    results: Path, name: str, limit: float, told: str
) -> None:
    gate(GateStage("int8", SCHEMES, limits(**{name: limit})))
    assert told in refusal(limits(judge_by="interval", **{name: limit}))


def test_a_refusal_names_every_broken_limit_and_the_schemes_that_would_pass(results: Path) -> None:
    message = refusal(limits(min_accuracy=0.9, max_accuracy_drop=0.1, max_size_bytes=3000))
    assert "int8 breaks 2 of the limits in `gate`" in message
    assert "of float32, float16, int8 this holds for float16\n" in message
    assert "set `deploy: float16`" in message
    assert "models/deployed/ stays as it was" in message


def test_a_refusal_tells_when_no_scheme_would_pass(results: Path) -> None:
    message = refusal(limits(max_size_bytes=10))
    assert "this holds for none" in message
    assert "make the model better" in message


def test_a_metric_that_is_no_number_breaks_its_limit(results: Path) -> None:
    metrics = json.loads(layout.metrics("int8").read_text()) | {"accuracy": float("nan")}
    layout.metrics("int8").write_text(json.dumps(metrics))
    assert "min_accuracy: 0.5; it has nan" in refusal(limits(min_accuracy=0.5))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("min_accuracy", 90, "a number from 0 to 1"),
        ("max_accuracy_drop", -2, "a number from -1 to 1"),
        ("max_size_bytes", 0, "a number of at least 1"),
    ],
)
def test_a_limit_that_makes_no_sense(name: str, value: object, expected: str) -> None:
    with pytest.raises(PipelineError) as caught:
        limits(**{name: value})
    assert f"gate.{name}: {value}\n  expected: {expected}" in str(caught.value)


def stubbed(folder: Path) -> Sandbox:
    """Put the gate of this project under real DVC, between stages that only write files."""
    sandbox = Sandbox(folder)
    sandbox.copy("pipeline", "conf", "params.yaml")
    sandbox.set(quantization=["big", "small"], deploy="big")
    stage = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]["gate"]
    stage["deps"].remove(str(layout.code("gate")))
    copy = "mkdir -p models/deployed && cp metrics/schemes/${deploy}.json models/deployed/model.tflite"
    deploy = {
        "cmd": copy,
        "deps": ["build/gate.json", "metrics/schemes/${deploy}.json"],
        "outs": ["models/deployed"],
    }
    evaluate = {
        "matrix": {"scheme": "${quantization}"},
        "cmd": "python stub.py ${item.scheme}",
        "deps": ["stub.py"],
        "metrics": [{"metrics/schemes/${item.scheme}.json": {"cache": False}}],
        "outs": ["plots/evaluation/${item.scheme}/predictions.csv"],
    }
    stages = {"gate": stage, "deploy": deploy, "evaluate": evaluate}  # last, so that only the folder orders them
    sandbox.write_yaml("dvc.yaml", {"stages": stages})
    sandbox.write("stub.py", STUB)
    sandbox.begin()
    return sandbox


def deployed(sandbox: Sandbox) -> object:
    return sandbox.read_yaml("models/deployed/model.tflite")["scheme"]


STUB = """
import json, pathlib, sys
scheme = sys.argv[1]
metrics = {"scheme": scheme, "accuracy": {"big": 0.9, "small": 0.7}[scheme]}
contents = {f"metrics/schemes/{scheme}.json": json.dumps(metrics), f"plots/evaluation/{scheme}/predictions.csv": "a"}
for path, text in contents.items():
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(text)
"""


@pytest.mark.slow
def test_under_dvc_a_refused_model_leaves_the_deployed_one(tmp_path: Path) -> None:
    project = stubbed(tmp_path / "project")
    project.repro()
    assert deployed(project) == "big"
    project.edit("deploy: big", "deploy: small")
    project.edit("min_accuracy: null", "min_accuracy: 0.8")
    ran, printed = project.repro(ok=False)
    assert "small breaks 1 of the limits in `gate`" in printed
    assert "of big, small this holds for big\n" in printed
    assert ran == ["gate"]
    assert deployed(project) == "big"
    project.edit("min_accuracy: 0.8", "min_accuracy: 0.6")
    project.repro()
    assert deployed(project) == "small"
