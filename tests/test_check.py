import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir

from pipeline.check import STAGES, check, choices_of, read_params
from pipeline.config.application import CONF_FOLDER, register
from pipeline.errors import PipelineError
from tests.conftest import PROJECT


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    for name, schema in STAGES.items():
        register(name, schema)
    with initialize_config_dir(str(CONF_FOLDER), version_base="1.3"):
        yield


@pytest.fixture
def params() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
    return found


def refusal(params: object) -> str:
    with pytest.raises(PipelineError) as caught:
        check(params)
    return str(caught.value)


def test_the_projects_own_params_pass(params: dict[str, Any]) -> None:
    check(params)


@pytest.mark.parametrize("scheme", choices_of("quantization"))  # test_architecture.py composes the backbones
def test_every_scheme_composes(params: dict[str, Any], scheme: str) -> None:
    check(params | {"quantization": list({"float32": 0, scheme: 0}), "deploy": scheme})


def test_unknown_backbone_names_key_value_and_choices(params: dict[str, Any]) -> None:
    message = refusal(params | {"backbone": "resnet"})
    assert "backbone: resnet" in message
    for base in choices_of("backbone"):
        assert f"\n    {base}[" in message
    assert "efficientnet_lite1[_<pixels>], pixels 240 or any from 32" in message


@pytest.mark.parametrize("value", [None, 224, ["efficientnet_lite0"], {"efficientnet_lite0": 224}])
def test_a_backbone_that_is_no_name(params: dict[str, Any], value: object) -> None:
    assert f"backbone: {value}\n  expected: one of these" in refusal(params | {"backbone": value})


def test_a_resolution_of_a_backbone_passes_and_a_width_that_it_has_not_does_not(params: dict[str, Any]) -> None:
    check(params | {"backbone": "efficientnet_lite0_192"})
    message = refusal(params | {"backbone": "efficientnet_lite0_050_192"})
    assert "backbone: efficientnet_lite0_050_192\n  expected: efficientnet_lite0[_<pixels>], pixels 224" in message


def test_unknown_scheme(params: dict[str, Any]) -> None:
    message = refusal(params | {"quantization": ["float32", "int3"]})
    assert "quantization: int3" in message
    assert "float16, float32, int" in message


@pytest.mark.parametrize("value", ["int8", 8, None, [8], {"int8": 1}])
def test_schemes_that_are_no_list(params: dict[str, Any], value: object) -> None:
    assert f"`quantization: {value}`\n  expected: a list of schemes" in refusal(params | {"quantization": value})


def test_a_scheme_twice(params: dict[str, Any]) -> None:
    assert "expected: each scheme once" in refusal(params | {"quantization": ["float32", "int8", "int8"]})


def test_the_reference_scheme_is_missing(params: dict[str, Any]) -> None:
    assert "without float32" in refusal(params | {"quantization": ["int8"], "deploy": "int8"})


def test_deploy_names_a_scheme_that_is_not_made(params: dict[str, Any]) -> None:
    message = refusal(params | {"quantization": ["float32", "int8"], "deploy": "float16"})
    assert "`deploy: float16`" in message
    assert "one of the schemes in `quantization`: float32, int8" in message


def test_unknown_resize(params: dict[str, Any]) -> None:
    assert "resize: squash\n  expected: one of stretch, crop, pad" in refusal(params | {"resize": "squash"})


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("frames.per_second", "fast", "float"),
        ("frames.width", 6.5, "int"),
        ("training.class_balance", "perhaps", "bool"),
        ("augment.copies", [1], "int"),
    ],
)
def test_a_wrong_type_names_key_value_and_type(params: dict[str, Any], key: str, value: object, kind: str) -> None:
    section, name = key.split(".")
    params[section][name] = value
    message = refusal(params)
    assert f"`{key}: {value}`" in message
    assert f"a value of type {kind}" in message


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("frames.per_second", 0, "a number above 0"),
        ("frames.width", 8, "a number of at least 16"),
        ("training.dropout", 1, "a number from 0 to 0.95"),
        ("training.validation_batch_size", 0, "-1 (all validation frames at once) or a number of at least 1"),
        ("split.test_percent", 99, "a number from 1 to 90"),
    ],
)
def test_a_value_out_of_range_names_key_value_and_range(
    params: dict[str, Any], key: str, value: float, expected: str
) -> None:
    section, name = key.split(".")
    params[section][name] = value
    message = refusal(params)
    assert key in message
    assert f"expected: {expected}" in message


def test_a_section_that_is_a_number(params: dict[str, Any]) -> None:
    assert "`frames: 3`\n  expected: a value of type mapping" in refusal(params | {"frames": 3})


def test_an_unknown_key_lists_the_known_ones(params: dict[str, Any]) -> None:
    params["frames"]["fps"] = 3
    message = refusal(params)
    assert "unknown key `frames.fps`" in message
    assert "per_second, width" in message


def test_an_unknown_section(params: dict[str, Any]) -> None:
    assert "unknown key `framez`" in refusal(params | {"framez": {}})


def test_a_missing_section(params: dict[str, Any]) -> None:
    del params["deploy"]
    assert "no `deploy`" in refusal(params)


def test_a_missing_value(params: dict[str, Any]) -> None:
    del params["frames"]["width"]
    assert "no value for `frames.width`" in refusal(params)


def test_params_that_are_no_mapping() -> None:
    assert "params.yaml holds list" in refusal([1])


def test_params_that_are_missing_or_no_yaml(folder: Path) -> None:
    with pytest.raises(PipelineError, match=r"no params\.yaml here"):
        read_params(Path("params.yaml"))
    Path("params.yaml").write_text("a: b: c")
    with pytest.raises(PipelineError, match=r"params\.yaml is no valid YAML"):
        read_params(Path("params.yaml"))


def test_the_command_prints_no_traceback_and_fails(folder: Path) -> None:
    Path("params.yaml").write_text((PROJECT / "params.yaml").read_text().replace("stretch ", "squash "))
    run = subprocess.run(
        [sys.executable, "-m", "pipeline.check"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "check: resize: squash" in run.stderr
    assert "Traceback" not in run.stderr
