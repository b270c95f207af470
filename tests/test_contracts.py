"""The conventions that hold the project together, each checked against the files themselves."""

import inspect
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.check import schemas
from pipeline.code import stages
from pipeline.files import layout
from pipeline.keys.usage import modules, usage_of
from tests.conftest import PROJECT

DVC: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
NAMES = list(DVC)
UNCONFIGURED = ("code", "check")  # the first reads no parameter, the second all of them


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_has_one_name_everywhere(name: str) -> None:
    command = DVC[name]["cmd"].split()
    assert command[:3] == ["python", "-m", f"pipeline.{name}"]
    assert (PROJECT / f"pipeline/{name}.py").is_file()
    assert (PROJECT / f"tests/test_{name}.py").is_file()
    assert name in UNCONFIGURED or (PROJECT / f"conf/{name}.yaml").is_file()
    assert name in UNCONFIGURED or name in schemas()


def test_pipeline_holds_stages_only() -> None:
    assert stages() == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_depends_on_its_own_code_and_on_no_other(name: str) -> None:
    code = [dep for dep in DVC[name]["deps"] if dep.startswith(("pipeline", "build/code"))]
    assert code == (["pipeline"] if name == "code" else [str(layout.code(name))])


def test_every_stage_comes_after_check() -> None:
    after = {"check", "code"}
    outs = {name: all_outs(stage) for name, stage in DVC.items()}
    for _ in NAMES:
        made = {Path(out) for name in after for out in outs[name] if name != "code"}
        after |= {name for name, stage in DVC.items() if reads(stage, made)}
    assert after == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_lists_of_dependencies_are_sorted(name: str) -> None:
    assert sorted(DVC[name]["deps"]) == DVC[name]["deps"]


@pytest.mark.parametrize("name", NAMES)
def test_no_stage_imports_a_stage(name: str) -> None:
    used = {module for module, _ in usage_of(f"pipeline.{name}").modules}
    assert used & {f"pipeline.{other}" for other in NAMES} == {f"pipeline.{name}"}


def test_stages_stand_between_the_packages_above_and_below() -> None:
    contract = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [line.split(" | ") for line in contract["contracts"][0]["layers"]]
    packages = {path.parent.name for path in (PROJECT / "pipeline").glob("*/__init__.py")}
    assert packages == {name for layer in layers for name in layer}
    above = {"tools", "choosing"}
    assert [set(layer) for layer in layers[:2]] == [{"tools"}, {"choosing"}]
    for module in modules():
        top = module.split(".")[1] if "." in module else ""
        used = {name.split(".")[1] for name, _ in usage_of(module).modules if "." in name}
        if top in packages - above:
            assert not used & {*NAMES, *above}, module
        elif top in NAMES:
            assert not used & above, module


@pytest.mark.parametrize("name", NAMES)
def test_only_stages_that_train_import_tensorflow(name: str) -> None:
    assert ("tensorflow" in usage_of(f"pipeline.{name}").libraries) == (
        name in ("backbone", "crossval", "finetune", "multihead", "train")
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNCONFIGURED])
def test_a_stage_tracks_all_that_it_is_given_by_params_and_conf(name: str) -> None:
    tracked = params_of(DVC[name])
    values = yaml.safe_load((PROJECT / f"conf/{name}.yaml").read_text())
    composed = {group for entry in values["defaults"] if isinstance(entry, dict) for group in entry}
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    given = {field for field in schemas()[name].__dataclass_fields__ if field in params} - {"engine"}
    # A name of a backbone is no file's name: `architecture` reads the folder, the others what it made of the name.
    by_other_means = {"backbone"} if "backbone" in composed and name != "architecture" else set()
    by_other_means |= {"quantization"} if "quantization" in composed else set()
    assert {key for key in tracked if "/" not in key} == given - by_other_means
    assert f"conf/{name}.yaml" in tracked or set(values) == {"defaults"}
    assert any(key.startswith("conf/quantization/") for key in tracked) == ("quantization" in composed)
    assert ("conf/backbone" in DVC[name]["deps"]) == (name == "architecture")
    assert (str(layout.ARCHITECTURE) in tracked) == ("backbone" in composed and name != "architecture")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNCONFIGURED])
def test_a_stage_that_composes_a_backbone_understands_its_names(name: str) -> None:
    composes = "backbone: ???" in (PROJECT / f"conf/{name}.yaml").read_text()
    code = (PROJECT / f"pipeline/{name}.py").read_text()
    assert ('{"backbone": overrides})' in code) == composes


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNCONFIGURED])
def test_a_value_stands_in_params_or_in_conf_never_in_both(name: str) -> None:
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    values = yaml.safe_load((PROJECT / f"conf/{name}.yaml").read_text())
    values.pop("defaults")
    assert not {(section, key) for section in values for key in values[section] if key in params.get(section, ())}


def test_no_command_repeats_a_parameter() -> None:
    for name, stage in DVC.items():
        given = re.findall(r"\$\{(.+?)\}", stage["cmd"])
        assert set(given) <= {"item.scheme"}, name


def test_the_file_stays_short() -> None:
    assert len((PROJECT / "dvc.yaml").read_text().splitlines()) <= 330


def reads(stage: dict[str, Any], made: set[Path]) -> bool:
    """Tell whether a stage reads what others made, or a folder that they write into."""
    read = map(Path, [*stage["deps"], *params_of(stage)])
    return any(path == out or out.is_relative_to(path) for path in read for out in made)


def params_of(stage: dict[str, Any]) -> set[str]:
    """Return the keys of params.yaml and the other files that a stage's `params` name."""
    entries = stage.get("params", [])
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def test_every_parameter_is_read_by_a_stage_or_a_tool() -> None:
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    tracked = set[str]().union(*(params_of(stage) for name, stage in DVC.items() if name != "check"))
    assert set(params) - tracked == {"engine", "choose"}  # these change no result


def test_params_hold_no_interpolation() -> None:
    assert "${" not in (PROJECT / "params.yaml").read_text()  # DVC reads it raw


def test_paths_in_dvc_yaml_are_those_of_the_code() -> None:
    scheme = "${item.scheme}"
    constants = {str(value) for value in vars(layout).values() if isinstance(value, Path)}
    of_a_scheme = [value for value in vars(layout).values() if inspect.isfunction(value)]
    known = constants | {str(path(scheme)) for path in of_a_scheme}
    outs = [out for stage in DVC.values() for out in all_outs(stage)]
    assert len(outs) >= len(DVC)
    assert set(outs) - known == set()
    assert len(set(outs)) == len(outs)


def all_outs(stage: dict[str, Any]) -> list[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_locks_pin_every_package_with_a_hash() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock", "requirements-federate.lock"):
        text = (PROJECT / lock).read_text()
        packages = re.split(r"\n(?=\S)", text.strip())
        assert [
            package.splitlines()[0] for package in packages if "==" not in package or "--hash=" not in package
        ] == []
        assert "://" not in re.sub(r"#.*", "", text)


def test_no_absolute_path_or_registry_host_is_committed() -> None:
    kinds = ["*.py", "*.yaml", "*.toml", "*.md", "*.lock", "Makefile"]
    listed = subprocess.run(["git", "ls-files", *kinds], cwd=PROJECT, capture_output=True, text=True, check=True)
    tracked = listed.stdout.split()
    assert {"dvc.yaml", "pyproject.toml", "README.md", "requirements.lock", "Makefile"} <= set(tracked)
    for name in tracked:
        text = (PROJECT / name).read_text()
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp)/\w", text), name


def test_text_is_utf8_whatever_the_locale_says() -> None:
    unsaid = re.compile(r"\.read_text\(\)|\.write_text\((?!.*encoding=)|\btext=True")
    files = {path: path.read_text(encoding="utf-8") for path in (PROJECT / "pipeline").rglob("*.py")}
    assert {path.name for path, text in files.items() if unsaid.search(text)} == set()


def test_keys_see_every_import() -> None:
    package = PROJECT / "pipeline"
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    page = [path for path in files if path.parent == package / "tools/web"]  # which no stage reads
    assert {path.suffix for path in page} == {".css", ".html", ".js"}
    files = [path for path in files if path not in page]
    assert {path.suffix for path in files} == {".py"}  # what else lay there would be in no key
    assert {path.parent for path in files} == {path.parent for path in files if path.name == "__init__.py"}
    dynamic = re.compile(r"(?:__import__|import_module\w*)\((?!f\"pipeline\.)[^\n]*")
    found = {path.relative_to(package).as_posix(): dynamic.findall(path.read_text(encoding="utf-8")) for path in files}
    # The module that runs, by its own name; constants that the command line's help lists, which no stage runs.
    assert {name: calls for name, calls in found.items() if calls} == {
        "config/application.py": ["import_module(spec.name), stage.__name__)"],
        "tools/cli.py": ["import_module(self._module), self._constant))"],
    }
