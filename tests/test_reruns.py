"""What an edit re-runs, for every parameter and every number in conf/: DVC is asked, and docs/ has promised.

No stage runs. dvc.lock is written for made-up outputs, a value is edited, and `dvc status` names what is stale.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo  # type: ignore[import-untyped]

from pipeline.architecture import as_yaml
from pipeline.config.backbone_names import architecture_of, bases, resolve
from pipeline.config.deploy import INPUT_TYPES
from pipeline.config.resize import RESIZE_CHOICES
from pipeline.config.train import MODES
from pipeline.files import layout
from pipeline.tools import reruns
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

PARAMS: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
STAGES: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
ALWAYS = {"check"}  # reads all of params.yaml and conf/, so every edit runs it
SECTIONS = {name: list(values) for name, values in PARAMS.items() if isinstance(values, dict)}
WITHOUT_CODE = {name: stage for name, stage in STAGES.items() if name != "code"}
# conf files that say how work is spread, kept or logged, never what comes out: no stage may track them.
HOW_NOT_WHAT = (
    "conf/cache.yaml",
    "conf/choose.yaml",
    "conf/engine",
    "conf/quiet.yaml",
    "conf/search.yaml",
    "conf/sweep.yaml",
    "conf/try.yaml",
)
ARCHITECTURE = str(layout.ARCHITECTURE)  # made of conf/backbone/ by the stage `architecture`, and tracked like conf/

Key = tuple[str, ...]


def leaves(values: dict[str, Any], above: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield the keys and value of everything that is not a section itself; lists are leaves."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def another(key: Key, value: Any) -> Any:
    """Return a plausible value that differs from the one given."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, dict):
        return {"added": "one"}
    if isinstance(value, list):
        return value[:-1] if value else ["added"]
    choices = [path.stem for path in sorted((PROJECT / "conf" / key[-1]).glob("*.yaml"))]
    if key == ("deploy",):
        choices = PARAMS["quantization"]
    elif key == ("training", "mode"):
        choices = list(MODES)
    elif key == ("resize",):
        choices = list(RESIZE_CHOICES)
    elif key == ("inference_input_type",):
        choices = list(INPUT_TYPES)
    return next(choice for choice in (*choices, f"{value}_2") if choice != value)


PROMISED = reruns.reruns(STAGES, PARAMS)  # what docs/pages/reference/parameters.md says


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project that DVC takes for completely run: every output is there, made up, and in dvc.lock."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "conf", folder / "conf")
    shutil.copy(PROJECT / "params.yaml", folder)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": WITHOUT_CODE}, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command = [sys.executable, "-m", "pipeline.architecture"]
        subprocess.run(command, env=os.environ | {"PYTHONPATH": str(PROJECT)}, check=True)
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site_cache")))
        Repo.init(no_scm=True)
        with Repo() as repo:
            for entry in [*repo.index.deps, *repo.index.outs]:
                make_up(Path(entry.fs_path))
            repo.commit(force=True)
        yield folder


def make_up(path: Path) -> None:
    """Write something to a path that does not exist: a file, or a folder if the name has no suffix."""
    if not path.exists():
        file = path if path.suffix else path / "take.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(path))


def changed() -> dict[str, dict[str, Any]]:
    """Return the stages that `dvc status` names, and what made them stale: files, each with what changed in it."""
    with Repo() as repo:
        status = repo.status()
    return {
        stage: {
            str(file): what
            for entry in entries
            if isinstance(entry, dict)
            for file, what in entry.get("changed deps", {}).items()
        }
        for stage, entries in status.items()
        if stage not in ALWAYS
    }


def changed_files() -> dict[str, set[str]]:
    """Return the stages that `dvc status` names, with their schemes, and the files that made each of them stale."""
    return {stage: set(files) for stage, files in changed().items()}


def stale() -> set[str]:
    """Return the stages that `dvc status` names, but for those that every edit runs."""
    return set(changed_files())


@contextmanager
def edited(path: Path, key: Key) -> Iterator[None]:
    """Give one leaf of a YAML file another value."""
    text = path.read_text()
    values = section = yaml.safe_load(text)
    for name in key[:-1]:
        section = section[name]
    section[key[-1]] = another(key, section[key[-1]])
    path.write_text(yaml.safe_dump(values))
    try:
        yield
    finally:
        path.write_text(text)


def stage_names(stages: set[str]) -> set[str]:
    return {stage.split("@")[0] for stage in stages}


def test_nothing_is_stale_at_first(project: Path) -> None:
    assert stale() == set()


@pytest.mark.parametrize("name", [name for name in PARAMS if name not in SECTIONS])
def test_a_parameter_reruns_what_the_page_says(project: Path, name: str) -> None:
    with edited(project / "params.yaml", (name,)):
        found = stage_names(stale())
    assert found == PROMISED[name], f"an edit of `{name}` re-runs the former; pipeline/tools/reruns.py says the latter"


@pytest.mark.parametrize("index", range(max(map(len, SECTIONS.values()))))
def test_a_parameter_of_a_section_reruns_what_the_page_says(project: Path, index: int) -> None:
    # DVC tells which section made a stage stale, so each section can have its next value edited at the same time.
    keys = {section: keys[index] for section, keys in SECTIONS.items() if index < len(keys)}
    with ExitStack() as edits:
        for section, key in keys.items():
            edits.enter_context(edited(project / "params.yaml", (section, key)))
        told = [(key, stage) for stage, files in changed().items() for key in files.get("params.yaml", ())]
    found = {section: stage_names({stage for key, stage in told if key.split(".")[0] == section}) for section in keys}
    assert found == {section: PROMISED[f"{section}.{key}"] for section, key in keys.items()}, f"after edits of {keys}"


@pytest.mark.parametrize("name", [name for name in PROMISED if reruns.made_by(STAGES, name)])
def test_one_more_in_a_list_runs_what_is_new(project: Path, name: str) -> None:
    *_, added = PARAMS[name]
    path = project / "dvc.lock"
    text = path.read_text()
    lock = yaml.safe_load(text)
    new = {stage for stage in lock["stages"] if stage.endswith(f"@{added}")}
    path.write_text(yaml.safe_dump({**lock, "stages": {k: v for k, v in lock["stages"].items() if k not in new}}))
    found = stale()
    path.write_text(text)
    assert found == new == {f"{stage}@{added}" for stage, entry in STAGES.items() if "matrix" in entry}


def conf_files() -> list[str]:
    """Return the conf files that the choices in params.yaml make use of, and what was made of conf/backbone/."""
    schemes = [f"quantization/{scheme}" for scheme in PARAMS["quantization"]]
    top = sorted(path.stem for path in (PROJECT / "conf").glob("*.yaml"))
    return [*(f"conf/{name}.yaml" for name in (*top, *schemes)), ARCHITECTURE]


def conf_values(file: str) -> list[Key]:
    """Return the keys of all values that a conf file decides (??? stands in params.yaml, defaults only compose)."""
    made = as_yaml(architecture_of(resolve(PARAMS["backbone"]).base))
    values = yaml.safe_load(made if file == ARCHITECTURE else (PROJECT / file).read_text())
    return [key for key, value in leaves(values) if value != "???" and key != ("defaults",)]


VALUES = {file: conf_values(file) for file in conf_files() if not file.startswith(HOW_NOT_WHAT)}


def tracked() -> set[tuple[str, str]]:
    """Return the pairs of stage (with its scheme, if it has one) and conf file that dvc.yaml's `params` name."""
    found = set()
    for name, stage in STAGES.items():
        for scheme in PARAMS["quantization"] if "matrix" in stage else [""]:
            for file, _ in reruns.tracked(stage):
                found.add((f"{name}@{scheme}" if scheme else name, file.replace("${item.scheme}", scheme)))
    return {(stage, file) for stage, file in found if stage not in ALWAYS}


@pytest.mark.parametrize("index", range(max(map(len, VALUES.values()))))
def test_a_value_in_conf_reruns_the_stages_that_track_its_file(project: Path, index: int) -> None:
    # DVC tells which file made a stage stale, so each file can have its next value edited at the same time.
    keys = {file: keys[index] for file, keys in VALUES.items() if index < len(keys)}
    with ExitStack() as edits:
        for file, key in keys.items():
            edits.enter_context(edited(project / file, key))
        found = {(stage, file) for stage, files in changed_files().items() for file in files}
    assert found == {(stage, file) for stage, file in tracked() if file in keys}, f"after edits of {keys}"


def test_a_stage_tracks_each_conf_file_that_decides_something() -> None:
    assert {file for file, keys in VALUES.items() if keys} <= {file for _, file in tracked()}


def test_files_of_choices_that_are_not_made_and_of_how_to_work_rerun_nothing(project: Path) -> None:
    others = {str(path.relative_to(project)) for path in project.glob("conf/*/*.yaml")} - set(conf_files())
    others = {file for file in others if not file.startswith("conf/backbone/")}
    others |= {file for file in conf_files() if file.startswith(HOW_NOT_WHAT)}
    for file in others:
        with (project / file).open("a") as text:
            text.write("\nan_edit: 1\n")
    found = stale()
    for file in others:
        shutil.copy(PROJECT / file, project / file)
    assert others
    assert found == set()


def test_an_edit_of_an_architecture_chosen_or_not_reruns_what_looks_it_up(project: Path) -> None:
    # The stages behind wait for what comes of it: ARCHITECTURE is among the files of the test of values.
    chosen = resolve(PARAMS["backbone"]).base
    for base in (chosen, next(base for base in bases() if base != chosen)):
        with edited(project / f"conf/backbone/{base}.yaml", ("width",)):
            assert changed_files() == {"architecture": {"conf/backbone"}}


def test_a_remark_in_what_an_architecture_is_reruns_nothing_behind(project: Path) -> None:
    path = project / ARCHITECTURE
    text = path.read_text()
    path.write_text("# A remark.\n" + text)
    found = stale()
    path.write_text(text)
    assert found == {"architecture"}
