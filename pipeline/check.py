"""Stage `check`: reads params.yaml and refuses what no stage would understand, before anything runs.

Reads params.yaml and conf/; writes build/checked, which the first stages wait for, and removes evaluations of schemes
that `quantization` does not list any more (the folder is a dependency of `measure`). Without this stage a scheme
that does not exist would be found out after minutes, and by DVC, which does not know the choices.
"""

import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import yaml

import pipeline.config
from pipeline.backbones.named_weights import check_named
from pipeline.backbones.tflite_file import check_own_file
from pipeline.config.application import print_error
from pipeline.config.backbone_names import overrides as backbone_overrides
from pipeline.config.backbone_names import resolve
from pipeline.config.cache import cache_config
from pipeline.config.choose import exponents_of_project, read_targets
from pipeline.config.composing import composed
from pipeline.config.plain import CONF_FOLDER, PARAMS, leaves, load, read_plain
from pipeline.config.quantization import QuantizationConfig
from pipeline.config.quantize import QuantizeStage
from pipeline.config.ranges import one_of
from pipeline.config.resize import RESIZE_CHOICES
from pipeline.errors import ConfigurationError, InputError, PipelineError
from pipeline.files import layout, write_text
from pipeline.files.os_errors import telling_os_errors
from pipeline.takes.answers import COLUMNS

_OF_A_SCHEME = ("quantization", "scheme")  # what dvc.yaml's matrix gives a stage
_READ_BY_TOOLS = ("choose",)
_NOT_IN_PARAMS = (
    "scheme",
    "inspect",
    "measure",
    "report",
)  # of the matrix, or in conf/ alone
_LOCK = Path("dvc.lock")
_SCHEME_NAME = re.compile(r"[a-z0-9_]+")
_NAMES_OF_BACKBONES = ("converted", "tuned")  # in models/backbone/, beside the schemes'


def schemas() -> dict[str, type[Any]]:
    """Return the dataclass of each stage's configuration: `<Stage>Stage` in pipeline/config/<stage>.py."""
    found = {}
    for name in (module.name for module in pkgutil.iter_modules(pipeline.config.__path__)):
        schema = getattr(importlib.import_module(f"pipeline.config.{name}"), f"{name.capitalize()}Stage", None)
        if schema is not None:
            found[name] = schema
    return found


def check(params: Mapping[str, Any]) -> None:
    """Check everything that params.yaml says against what the stages take.

    Args:
        params: What params.yaml holds.

    Raises:
        ConfigurationError: If a key is unknown or missing, a value has the wrong type or is out of range, a choice has
            no file in conf/, `quantization` lacks float32, or `deploy` names a scheme that it does not list.
        ModelError: If the weights that the backbone's file names are not there, or are a .tflite file of no use.
    """
    check_keys(params)
    check_choices(params)
    check_conf(schemas())
    configs = {name: check_stage(name, schema, params, layout.REFERENCE_SCHEME) for name, schema in schemas().items()}
    check_named(configs["architecture"].backbone)
    # one stage is enough to see what is wrong with a scheme's file
    schemes = [check_stage("quantize", QuantizeStage, params, scheme).quantization for scheme in params["quantization"]]
    check_own_file(configs["architecture"].backbone, schemes, configs["train"].training.mode)


def check_keys(params: Mapping[str, Any]) -> None:
    """Refuse top-level keys that no stage takes, and name those that are missing."""
    taken = {name for schema in schemas().values() for name in get_type_hints(schema)}
    expected = sorted(taken - set(_NOT_IN_PARAMS) | set(_READ_BY_TOOLS))
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
        check_scheme_file(scheme)
    resolve(str(params["backbone"]))
    one_of("resize", params["resize"], RESIZE_CHOICES)
    one_of("engine", str(params["engine"]), choices_of("engine"))
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


def check_scheme_file(scheme: str) -> None:
    """Refuse a scheme whose name or file misleads DVC, which tracks that one file and fills the name into paths."""
    file = f"conf/quantization/{scheme}.yaml"
    if not _SCHEME_NAME.fullmatch(scheme) or scheme in _NAMES_OF_BACKBONES:
        raise ConfigurationError(
            found=f"a scheme called `{scheme}`",
            expected=f"small letters, digits and _, and none of {', '.join(_NAMES_OF_BACKBONES)}",
            remedy=f"rename {file}, and its `scheme:`",
        )
    found = read_plain(f"quantization/{scheme}.yaml", QuantizationConfig).scheme
    if found != scheme:
        raise ConfigurationError(
            found=f"{file}: `scheme: {found}`",
            expected=f"`scheme: {scheme}`, the name of the file: results are kept under it",
            remedy="correct it",
        )


def check_conf(stages: Iterable[str]) -> None:
    """Refuse files of conf/ that DVC would track without seeing what comes of them, and those that are none.

    Of the files that no stage composes, each is read as what reads it does.
    """
    for stage in stages:
        defaults = load(CONF_FOLDER / f"{stage}.yaml").get("defaults", [])
        if not isinstance(defaults, list):
            raise ConfigurationError(
                found=f"conf/{stage}.yaml: `defaults: {defaults}`",
                expected="the list of what the stage's settings are composed of",
                remedy=f"bring it back: git checkout conf/{stage}.yaml",
            )
    cache_config()
    exponents_of_project()


def choices_of(group: str) -> list[str]:
    """Return the names of the files in a folder of conf/."""
    return sorted(path.stem for path in (CONF_FOLDER / group).glob("*.yaml"))


def check_stage(name: str, schema: type[Any], params: Mapping[str, Any], scheme: str) -> Any:
    """Compose a stage's configuration as its command would, check types and ranges, and return it."""
    types = get_type_hints(schema)
    matrix = [f"{field}={scheme}" for field in _OF_A_SCHEME if types.get(field) in (str, QuantizationConfig)]
    return composed(name, schema, params, matrix, {"backbone": backbone_overrides})


def changes(params: Mapping[str, Any], lock: Path) -> list[str]:
    """Return what differs from the parameters of the last check, which DVC keeps: "training.steps: 1000 -> 500".

    `dvc status` names the section alone. Values that are written alike are the same: this reader, the only one that is
    quick enough for a long lock, takes 1e-05 for text. Of a lock that cannot be read, nothing is known.
    """
    try:
        stages = yaml.load(lock.read_text(encoding="utf-8"), yaml.CSafeLoader)["stages"]
        before = leaves(stages["check"]["params"][str(PARAMS)])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return []
    now = leaves(params)
    names = [*now, *(name for name in before if name not in now)]
    told = {name: (str(before.get(name, "nothing")), str(now.get(name, "nothing"))) for name in names}
    return [f"{name}: {old} -> {new}" for name, (old, new) in told.items() if old != new]


def remove_evaluations_of_others(schemes: Collection[str]) -> None:
    """Remove what is known of schemes that are not listed: `measure` must not depend on what was made once.

    The scheme's results come back from DVC's cache when it is listed again.
    """
    for path in sorted(layout.EVALUATIONS.glob("*.json")):
        if path.stem not in schemes:
            path.unlink()
            sys.stderr.write(f"check: {path.stem} is off the list `quantization`, and leaves metrics/\n")


def refuse_no_git(folder: Path) -> None:
    """Raise InputError if no Git repository is around a folder, as in one that was unpacked from a ZIP file.

    Without one DVC does not start, and there is nothing that `dvc metrics diff` could compare with.
    """
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        raise InputError(
            found=f"{folder} is not under Git (a project that was downloaded as a ZIP file is not)",
            expected="a Git repository, in which DVC keeps what a run gave",
            remedy='clone the project instead, or: git init && git add --all && git commit -m "as it came"',
        )


def make_data_folders() -> None:
    """Make data/videos and data/photos, which DVC wants to be there: a project needs one of them only."""
    for folder in (layout.VIDEOS, layout.PHOTOS):
        if not os.path.lexists(folder):
            folder.mkdir(parents=True)


def make_labels_table() -> None:
    """Make data/labels.csv, which DVC wants to be there and only a project with further heads needs."""
    if not os.path.lexists(layout.LABELS):
        write_text(layout.LABELS, ",".join(COLUMNS) + "\n")


def _wrong(found: str, expected: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(
        found=f"{PARAMS}: {found}" if str(PARAMS) not in found else found, expected=expected, remedy=remedy
    )


def main() -> None:
    """Check params.yaml of this folder."""
    try:
        with telling_os_errors(Path.cwd()):
            params = load(PARAMS)
            check(params)
            refuse_no_git(Path.cwd())
            for change in changes(params, _LOCK):
                sys.stderr.write(f"check: {change}\n")
            make_data_folders()
            make_labels_table()
            remove_evaluations_of_others(params["quantization"])  # type: ignore[arg-type]
            write_text(layout.CHECKED, "What params.yaml says can be run.\n")  # always the same: it re-runs nothing
    except PipelineError as error:
        print_error("check", error)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
