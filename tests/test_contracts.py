"""The conventions that hold the project together, each checked against the files themselves."""

import ast
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.check import STAGES
from pipeline.config.train import MODES
from pipeline.files import layout
from tests.conftest import PROJECT

DVC: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
NAMES = list(DVC)


def module_files(module: str) -> set[Path]:
    """Return a local module's file and the `__init__` of each package above it, or nothing if it is not ours."""
    path = PROJECT.joinpath(*module.split("."))
    found = [candidate for candidate in (path.with_suffix(".py"), path / "__init__.py") if candidate.is_file()]
    parents = [PROJECT.joinpath(*module.split(".")[:i], "__init__.py") for i in range(2, module.count(".") + 1)]
    return {*found, *(parent for parent in parents if parent.is_file())} if found else set()


def imports_of(file: Path) -> set[Path]:
    """Return the local files that a file imports, wherever in it the import stands."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            found |= module_files(name) if name.startswith("pipeline.") else set()
    return found


def all_imports_of(file: Path) -> set[Path]:
    """Return the local files that a file needs, itself among them, however indirectly."""
    seen: set[Path] = set()
    waiting = {file}
    while waiting:
        current = waiting.pop()
        seen.add(current)
        waiting |= imports_of(current) - seen
    return {path for path in seen if path.name != "__init__.py" or holds_code(path)}


def holds_code(file: Path) -> bool:
    """Tell whether there is more in a file than its docstring."""
    return len(ast.parse(file.read_text()).body) > 1


DVC_DEPS = {name: stage.get("deps", []) for name, stage in DVC.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_has_one_name_everywhere(name: str) -> None:
    command = DVC[name]["cmd"].split()
    assert command[:3] == ["python", "-m", f"pipeline.{name}"]
    assert (PROJECT / f"pipeline/{name}.py").is_file()
    assert (PROJECT / f"tests/test_{name}.py").is_file()
    assert name == "check" or (PROJECT / f"conf/{name}.yaml").is_file()
    assert name == "check" or name in STAGES


def test_pipeline_holds_stages_only() -> None:
    modules = {path.stem for path in (PROJECT / "pipeline").glob("*.py")}
    assert modules - {"__init__", "__main__", "score"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_deps_name_all_code_that_a_stage_uses_and_no_other(name: str) -> None:
    used = {str(file.relative_to(PROJECT)) for file in all_imports_of(PROJECT / f"pipeline/{name}.py")}
    assert {dep for dep in DVC_DEPS[name] if dep.startswith("pipeline/")} == used


@pytest.mark.parametrize("name", NAMES)
def test_lists_of_dependencies_are_sorted(name: str) -> None:
    assert sorted(DVC_DEPS[name]) == DVC_DEPS[name]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "check"])
def test_no_stage_imports_a_stage(name: str) -> None:
    stages = {PROJECT / f"pipeline/{other}.py" for other in NAMES}
    assert all_imports_of(PROJECT / f"pipeline/{name}.py") & stages == {PROJECT / f"pipeline/{name}.py"}


@pytest.mark.parametrize("name", NAMES)
def test_only_three_stages_import_tensorflow(name: str) -> None:
    used = all_imports_of(PROJECT / f"pipeline/{name}.py")
    imports = {line for file in used for line in file.read_text().splitlines() if "import tensorflow" in line}
    assert bool(imports) == (name in ("backbone", "finetune", "train"))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "check"])
def test_a_stage_tracks_every_conf_file_that_it_composes(name: str) -> None:
    tracked = {
        key.rstrip(":") for entry in DVC[name]["params"] for key in ([entry] if isinstance(entry, str) else entry)
    }
    text = (PROJECT / f"conf/{name}.yaml").read_text()
    values = yaml.safe_load(text)
    if any(key != "defaults" for key in values):
        assert f"conf/{name}.yaml" in tracked or all(
            leaf == "???" for key, value in values.items() if key != "defaults" for leaf in leaves(value)
        )
    composed = {group for entry in values["defaults"] if isinstance(entry, dict) for group in entry}
    assert any(key.startswith("conf/quantization/") for key in tracked) == ("quantization" in composed)
    # A name of a backbone is no file's name: `architecture` reads the folder, the others what it made of the name.
    assert ("conf/backbone" in DVC_DEPS[name]) == (name == "architecture")
    assert (str(layout.ARCHITECTURE) in tracked) == ("backbone" in composed and name != "architecture")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "check"])
def test_a_stage_that_composes_a_backbone_understands_its_names(name: str) -> None:
    composes = "backbone: ???" in (PROJECT / f"conf/{name}.yaml").read_text()
    code = (PROJECT / f"pipeline/{name}.py").read_text()
    assert ('{"backbone": overrides})' in code) == composes
    assert ("backbone=${backbone}" in DVC[name]["cmd"]) == composes


def leaves(value: object) -> list[object]:
    return [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]


def test_every_parameter_is_read_by_a_stage() -> None:
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    # At run time, not through DVC: they change no result.
    read_by_stages = {"engine", "choose.latency_ms", "choose.size_bytes"}
    templates = " ".join(f"{stage['cmd']} {stage.get('matrix', '')}" for name, stage in DVC.items() if name != "check")
    keys = [
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in params.items()
        for key in (value if isinstance(value, dict) else [""])
    ]
    assert [key for key in keys if key not in read_by_stages and f"${{{key}}}" not in templates] == []


def test_params_hold_no_interpolation() -> None:
    assert "${" not in (PROJECT / "params.yaml").read_text()  # DVC reads it raw


def test_paths_in_dvc_yaml_are_those_of_the_code() -> None:
    scheme = "${item.scheme}"
    outs = {name: all_outs(stage) for name, stage in DVC.items()}
    assert outs == {
        "check": [],
        "split": [str(layout.SPLITS)],
        "frames": [str(layout.FRAMES)],
        "augment": [str(layout.AUGMENTED)],
        "architecture": [str(layout.ARCHITECTURE)],
        "backbone": [str(layout.CONVERTED_BACKBONE)],
        "finetune": [str(layout.FINETUNED), str(layout.FINETUNE_CURVES)],
        "bottlenecks": [str(layout.backbone(scheme)), str(layout.bottlenecks(scheme))],
        "train": [str(layout.head(scheme)), str(layout.training_curves(scheme))],
        "quantize": [str(layout.model(scheme)), str(layout.labels(scheme))],
        "evaluate": [str(layout.confusion(scheme)), str(layout.predictions(scheme)), str(layout.metrics(scheme))],
        "report": [str(layout.PICTURES)],
        "gate": [str(layout.GATE)],
        "deploy": [str(layout.DEPLOYED), str(layout.DEPLOYED_METRICS)],
    }


def test_the_way_that_bottlenecks_take_is_a_path() -> None:
    assert str(layout.converted_backbone("${training.mode}")) in DVC_DEPS["bottlenecks"]
    ways = {mode: layout.converted_backbone(mode) for mode in MODES}
    assert ways == {"head": layout.CONVERTED_BACKBONE, "finetune": layout.FINETUNED / "converted.tflite"}


def all_outs(stage: dict[str, Any]) -> list[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_locks_pin_every_package_with_a_hash() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (PROJECT / lock).read_text()
        packages = re.split(r"\n(?=\S)", text.strip())
        assert [
            package.splitlines()[0] for package in packages if "==" not in package or "--hash=" not in package
        ] == []
        assert "://" not in re.sub(r"#.*", "", text)


def test_no_absolute_path_or_registry_host_is_committed() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "*.py", "*.yaml", "*.toml", "*.md", "*.lock", "Makefile"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    for name in tracked:
        text = (PROJECT / name).read_text()
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp)/\w", text), name
