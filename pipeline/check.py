"""Stage `check`: reads params.yaml and refuses what no stage would understand, before anything runs.

Reads params.yaml and conf/; writes nothing. DVC runs it first whenever a parameter has changed. Without it, a scheme
that does not exist would be found out after minutes, and by DVC, which does not know the choices.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from pipeline.config.application import CONF_FOLDER, expanded, print_error, register, typed
from pipeline.config.architecture import ArchitectureStage
from pipeline.config.augment import AugmentStage
from pipeline.config.backbone import BackboneStage
from pipeline.config.backbone_names import overrides as backbone_overrides
from pipeline.config.backbone_names import resolve
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.config.choose import read_targets
from pipeline.config.deploy import DeployStage
from pipeline.config.engine import engine_config
from pipeline.config.evaluate import EvaluateStage
from pipeline.config.finetune import FinetuneStage
from pipeline.config.frames import FramesStage
from pipeline.config.gate import GateStage
from pipeline.config.quantize import QuantizeStage
from pipeline.config.ranges import one_of
from pipeline.config.report import ReportStage
from pipeline.config.split import SplitStage
from pipeline.config.train import TrainStage
from pipeline.errors import PipelineError
from pipeline.files import layout
from pipeline.images.resize_choices import RESIZE_CHOICES

PARAMS = Path("params.yaml")

STAGES: Mapping[str, type[Any]] = {
    "split": SplitStage,
    "frames": FramesStage,
    "augment": AugmentStage,
    "architecture": ArchitectureStage,
    "backbone": BackboneStage,
    "finetune": FinetuneStage,
    "bottlenecks": BottlenecksStage,
    "train": TrainStage,
    "quantize": QuantizeStage,
    "evaluate": EvaluateStage,
    "report": ReportStage,
    "gate": GateStage,
    "deploy": DeployStage,
}

_GROUPS = ("backbone", "quantization")


def check(params: object) -> None:
    """Check everything that params.yaml says against what the stages take.

    Args:
        params: What params.yaml holds.

    Raises:
        PipelineError: If a key is unknown or missing, a value has the wrong type or is out of range, a choice has no
            file in conf/, `quantization` lacks float32, or `deploy` names a scheme that `quantization` does not list.
    """
    if not isinstance(params, dict):
        raise _wrong(
            f"{PARAMS} holds {type(params).__name__}", "keys and values", "restore it: git checkout params.yaml"
        )
    check_keys(params)
    check_choices(params)
    for name, schema in STAGES.items():
        differs = {"quantization", "scheme"} & {field.name for field in fields(schema)}
        for scheme in params["quantization"] if differs else [layout.REFERENCE_SCHEME]:
            check_stage(name, schema, params, scheme)


def check_keys(params: Mapping[str, Any]) -> None:
    """Refuse top-level keys that no stage takes, and name those that are missing."""
    taken = {field.name for schema in STAGES.values() for field in fields(schema)}
    expected = sorted(taken - {"scheme", "report", "mode"} | {"choose", "engine"})
    for key in params:
        if key not in expected:
            raise _wrong(f"unknown key `{key}`", f"one of {', '.join(expected)}", "correct or remove it")
    for key in expected:
        if key not in params:
            raise _wrong(
                f"no `{key}`", f"all of {', '.join(expected)}", f"add `{key}:` (git diff {PARAMS} shows the old one)"
            )


def check_choices(params: Mapping[str, Any]) -> None:
    """Refuse choices that do not exist, each with the list of those that do."""
    schemes = params["quantization"]
    if not isinstance(schemes, list) or not all(isinstance(scheme, str) for scheme in schemes):
        example = "quantization: [float32, int8]"
        raise _wrong(f"`quantization: {schemes}`", f"a list of schemes, such as `{example}`", "put it in brackets")
    if len(set(schemes)) < len(schemes):
        raise _wrong(f"`quantization: {schemes}`", "each scheme once", "remove the repetition")
    for scheme in schemes:
        one_of("quantization", scheme, choices_of("quantization"))
    resolve(str(params["backbone"]))
    one_of("resize", params["resize"], RESIZE_CHOICES)
    engine_config(str(params["engine"]))
    read_targets(params)
    if layout.REFERENCE_SCHEME not in schemes:
        raise _wrong(
            f"`quantization: {schemes}` without {layout.REFERENCE_SCHEME}",
            f"{layout.REFERENCE_SCHEME} among them: agreement and accuracy drop are taken against it",
            f"add {layout.REFERENCE_SCHEME} to the list",
        )
    if params["deploy"] not in schemes:
        raise _wrong(
            f"`deploy: {params['deploy']}`",
            f"one of the schemes in `quantization`: {', '.join(schemes)}",
            "choose one of these, or add it to `quantization`",
        )


def choices_of(group: str) -> list[str]:
    """Return the names of the files in a folder of conf/."""
    return sorted(path.stem for path in (CONF_FOLDER / group).glob("*.yaml"))


def check_stage(name: str, schema: type[Any], params: Mapping[str, Any], scheme: str) -> None:
    """Compose a stage's configuration as its command would, and check types and ranges."""
    names = [field.name for field in fields(schema)]
    choices = {"backbone": params["backbone"], "quantization": scheme}
    overrides = expanded(
        [f"{group}={choices[group]}" for group in _GROUPS if group in names], {"backbone": backbone_overrides}
    )
    values = {key: params[key] for key in names if key in params and key not in _GROUPS}
    values |= {key: value for key, value in _given_by_name(params, scheme).items() if key in names}
    try:
        typed(_merged(compose(name, overrides), values))
    except (ConfigKeyError, ConfigAttributeError) as error:
        section, _, key = (error.full_key or "").rpartition(".")
        known = ", ".join(_keys_of(compose(name, overrides), section))
        raise _wrong(f"unknown key `{error.full_key}`", f"one of {known}", f"correct or remove `{key}`") from error
    except ValidationError as error:
        key = error.full_key or ""
        expected = f"a value of type {_type_of(schema, key)}"
        raise _wrong(f"`{key}: {_value_at(values, key)}`", expected, "correct the value") from error
    except OmegaConfBaseException as error:
        raise _wrong(
            f"conf/{name}.yaml does not compose ({error})", "a valid configuration", "correct conf/"
        ) from error


def _given_by_name(params: Mapping[str, Any], scheme: str) -> dict[str, Any]:
    """Return what dvc.yaml gives a stage under another name than that of params.yaml."""
    training = params["training"]
    return {"scheme": scheme, "mode": training.get("mode") if isinstance(training, Mapping) else None}


def _merged(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Merge values one by one, so that an error carries the full name of its key."""
    for key, value in values.items():
        if isinstance(value, dict):
            for inner, leaf in value.items():
                OmegaConf.update(config, f"{key}.{inner}", leaf)
        else:
            OmegaConf.update(config, key, value)
    return config


def _keys_of(config: DictConfig, section: str) -> Sequence[str]:
    return sorted(str(key) for key in OmegaConf.select(config, section))


def _type_of(schema: type[Any], key: str) -> str:
    """Return the name of the type that a dataclass, or a dataclass in it, declares for a key such as `frames.width`."""
    found: Any = schema
    for name in key.split("."):
        found = get_type_hints(found)[name]
    return "mapping (indented lines)" if is_dataclass(found) else str(found.__name__)


def _value_at(values: Mapping[str, Any], key: str) -> object:
    found: object = values
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _wrong(found: str, expected: str, remedy: str) -> PipelineError:
    return PipelineError(
        found=f"{PARAMS}: {found}" if str(PARAMS) not in found else found, expected=expected, remedy=remedy
    )


def main() -> None:
    """Check params.yaml of this folder."""
    for name, schema in STAGES.items():
        register(name, schema)
    try:
        with initialize_config_dir(str(CONF_FOLDER), version_base="1.3"):
            check(read_params(PARAMS))
    except PipelineError as error:
        print_error("check", error)
        sys.exit(1)


def read_params(path: Path) -> object:
    """Read params.yaml.

    Raises:
        PipelineError: If it is missing or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise PipelineError(
            found=f"no {path} here",
            expected="the project's folder",
            remedy="change into the folder that holds params.yaml",
        ) from error
    except yaml.YAMLError as error:
        raise PipelineError(
            found=f"{path} is no valid YAML: {error}", expected="`key: value` lines", remedy="correct that line"
        ) from error


if __name__ == "__main__":
    main()
