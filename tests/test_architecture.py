"""What a name of a backbone means, and the file that the stages behind are re-run by."""

import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.architecture import architecture, as_yaml, summary
from pipeline.config import backbone_names, composing, plain
from pipeline.config.architecture import ArchitectureStage
from pipeline.config.backbone import width_key
from pipeline.config.backbone_names import Resolved, architecture_of, bases, file_of, overrides, resolve
from pipeline.config.plain import CONF_FOLDER
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.files import layout
from tests.conftest import PROJECT

MOBILE = {
    "name": "mobilenet_v1",
    "width": 1.0,
    "widths": [0.25, 0.5, 1.0],
    "input_pixels": 224,
    "resolutions": [128, 160, 224],
    "min_input_pixels": 32,
    "num_parameters": 4_240_000,
    "num_multiply_adds": 569_000_000,
    "imagenet_top1_percent": 70.9,
    "published": {
        "100_224": {"num_parameters": 4_240_000, "num_multiply_adds": 569_000_000, "imagenet_top1_percent": 70.9},
        "050_160": {"num_parameters": 1_340_000, "num_multiply_adds": 77_000_000},
    },
}
FIGURES = ("num_parameters", "num_multiply_adds", "imagenet_top1_percent")


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A conf/ with the project's architectures and one in several widths, made up."""
    folder = tmp_path / "conf"
    shutil.copytree(CONF_FOLDER, folder)
    lite = yaml.safe_load((folder / "backbone/efficientnet_lite0.yaml").read_text())
    (folder / "backbone/mobilenet_v1.yaml").write_text(yaml.safe_dump(lite | MOBILE))
    for module in (plain, composing, backbone_names):
        monkeypatch.setattr(module, "CONF_FOLDER", folder)
    return folder


def stage(name: str) -> ArchitectureStage:
    """Return what the stage is given for `backbone: <name>` in params.yaml."""
    return composing.composed("architecture", ArchitectureStage, {"backbone": name}, (), {"backbone": overrides})


def written(conf: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(as_yaml(stage(name).backbone))
    return found


@pytest.mark.parametrize(
    ("name", "base", "width", "pixels"),
    [
        ("efficientnet_lite0", "efficientnet_lite0", None, None),
        ("efficientnet_lite0_192", "efficientnet_lite0", None, 192),
        ("efficientnet_lite2_96", "efficientnet_lite2", None, 96),
        ("efficientnet_lite0_1024", "efficientnet_lite0", None, 1024),
        ("mobilenet_v1", "mobilenet_v1", None, None),
        ("mobilenet_v1_050_160", "mobilenet_v1", 0.5, 160),
        ("mobilenet_v1_025", "mobilenet_v1", 0.25, None),
        ("mobilenet_v1_100", "mobilenet_v1", 1.0, None),  # one of the widths
        ("mobilenet_v1_200", "mobilenet_v1", None, 200),  # none of them
        ("mobilenet_v1_100_100", "mobilenet_v1", 1.0, 100),
        ("mobilenet_v1_100_96", "mobilenet_v1", 1.0, 96),
        ("mobilenet_0.50_160", "mobilenet_v1", 0.5, 160),
        ("mobilenet_1.0_224", "mobilenet_v1", 1.0, 224),
    ],
)
@pytest.mark.usefixtures("conf")
def test_a_name_is_an_architecture_a_width_and_a_resolution(
    name: str, base: str, width: float | None, pixels: int | None
) -> None:
    assert resolve(name) == Resolved(base, width, pixels)


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v1_050_160", "mobilenet_0.50_160"])
@pytest.mark.usefixtures("conf")
def test_messages_name_the_file_that_there_is(name: str) -> None:
    assert file_of(name) == "conf/backbone/mobilenet_v1.yaml"


def test_the_longest_base_counts(conf: Path) -> None:
    shutil.copy(conf / "backbone/mobilenet_v1.yaml", conf / "backbone/mobilenet_v1_050.yaml")
    assert resolve("mobilenet_v1_050_160").base == "mobilenet_v1_050"
    assert resolve("mobilenet_v1_025_160").base == "mobilenet_v1"


@pytest.mark.parametrize(
    "name",
    [
        *("mobilenet_v1_060_160", "mobilenet_v1_060", "mobilenet_v1_110_160", "mobilenet_v1_050_31"),
        *("mobilenet_v1_50_160", "mobilenet_v1_050_0160", "mobilenet_v1_160_050", "mobilenet_v1_"),
        *("mobilenet_v1_050_160_2", "mobilenet_v1_small", "mobilenet_0.60_160", "mobilenet_v1_050_160 "),
    ],
)
@pytest.mark.usefixtures("conf")
def test_a_width_or_resolution_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(PipelineError) as caught:
        resolve(name)
    assert caught.value.found == f"backbone: {name}"
    assert caught.value.expected == ("mobilenet_v1[_025 | _050 | _100][_<pixels>], pixels 128, 160, 224 or any from 32")


@pytest.mark.parametrize("name", ["efficientnet_lite0_050_160", "efficientnet_lite0_050", "efficientnet_lite0_31"])
def test_an_architecture_without_widths_has_none(name: str) -> None:
    with pytest.raises(PipelineError, match=r"expected: efficientnet_lite0\[_<pixels>\], pixels 224 or any from 32\n"):
        resolve(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet", "efficientnet_lite", "efficientnet_lite00", "../train", "", "None", "Mobilenet_v1"]
)
@pytest.mark.usefixtures("conf")
def test_an_unknown_architecture_is_refused_with_all_that_there_are(name: str) -> None:
    with pytest.raises(PipelineError) as caught:
        resolve(name)
    assert caught.value.found == f"backbone: {name}"
    assert caught.value.remedy.startswith("correct `backbone` in params.yaml")
    listed = caught.value.expected.splitlines()[1:]
    assert [line.split("[")[0].strip() for line in listed] == bases()
    assert "    mobilenet_v1[_025 | _050 | _100][_<pixels>], pixels 128, 160, 224 or any from 32" in listed


@pytest.mark.usefixtures("conf")
def test_a_name_with_a_slip_is_told_what_is_near() -> None:
    with pytest.raises(PipelineError, match=r"\(near it: mobilenet_v1\b"):
        resolve("mobilnet_v1")


@pytest.mark.usefixtures("conf")
def test_a_quantized_name_of_retrain_tells_where_that_is_chosen_here() -> None:
    with pytest.raises(PipelineError, match=r"write `backbone: mobilenet_v1_050_160` in .*, and int8 in the list"):
        resolve("mobilenet_0.50_160_quantized")


def test_every_number_of_the_file_is_written_with_the_full_name(conf: Path) -> None:
    values = written(conf, "mobilenet_v1_050_160")
    own = yaml.safe_load((conf / "backbone/mobilenet_v1.yaml").read_text())
    changed = {"name": "mobilenet_v1_050_160", "width": 0.5, "input_pixels": 160}
    figures = {"num_parameters": 1_340_000, "num_multiply_adds": 77_000_000, "imagenet_top1_percent": None}
    offers = ("widths", "published")
    assert values.items() >= ({key: own[key] for key in own if key not in offers} | changed | figures).items()
    assert not values.keys() & set(offers)  # what could be chosen instead re-runs nothing


@pytest.mark.parametrize(
    ("name", "top1"),
    [
        ("mobilenet_v1", 70.9),
        ("mobilenet_v1_224", 70.9),
        ("mobilenet_v1_100_200", None),
        ("efficientnet_lite0", 75.1),
        ("efficientnet_lite0_224", 75.1),
        ("efficientnet_lite0_192", None),
    ],
)
def test_figures_are_those_of_the_very_width_and_resolution(conf: Path, name: str, top1: float | None) -> None:
    assert written(conf, name)["imagenet_top1_percent"] == top1


def test_what_is_swept_in_the_file_counts_for_its_bare_name(conf: Path) -> None:
    path = conf / "backbone/efficientnet_lite0.yaml"
    path.write_text(path.read_text().replace("input_pixels: 224", "input_pixels: 192"))
    assert written(conf, "efficientnet_lite0")["input_pixels"] == 192
    assert written(conf, "efficientnet_lite0_96")["input_pixels"] == 96


@pytest.mark.slow
@pytest.mark.parametrize("base", bases())
def test_an_architectures_own_name_changes_nothing(base: str) -> None:
    own = asdict(architecture_of(base))
    found = asdict(stage(base).backbone)
    assert own["name"] == base
    assert {key for key in own if found[key] != own[key]} <= set(FIGURES)  # `published` may know them


@pytest.mark.slow
@pytest.mark.parametrize("base", bases())
def test_the_first_width_and_resolution_that_a_file_offers_compose(base: str) -> None:
    own = architecture_of(base)
    width, pixels = (own.widths or [own.width])[0], (own.resolutions or [own.input_pixels])[0]
    name = f"{base}{f'_{width_key(width)}' if own.widths else ''}_{pixels}"
    found = stage(name).backbone
    assert (found.name, found.width, found.input_pixels) == (name, width, pixels)


def test_the_stage_writes_the_file(folder: Path) -> None:
    architecture(stage("efficientnet_lite0_192"))
    assert yaml.safe_load(layout.ARCHITECTURE.read_text())["input_pixels"] == 192


def test_a_person_is_told_what_the_name_means(conf: Path) -> None:
    assert summary(stage("mobilenet_v1_050_160").backbone) == (
        "mobilenet_v1_050_160, width 0.5, 160 x 160 pixels; published: 1.34 M parameters, 77 M multiply-adds"
    )
    assert summary(stage("mobilenet_v1_025_130").backbone).endswith("nothing is published for this size")


def test_the_command_takes_a_name_refuses_another_and_imports_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys, pipeline.architecture as stage; stage.main(); "
        "print(sorted({'tensorflow', 'pandas', 'pyarrow', 'numpy', 'keras'} & set(sys.modules)))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, f"backbone={name}"],
            env={"PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
        )
        for name in ("efficientnet_lite1_128", "efficientnet_lite1_050")
    ]
    assert (runs[0].returncode, runs[0].stdout) == (0, "[]\n"), runs[0].stderr
    assert yaml.safe_load(layout.ARCHITECTURE.read_text())["name"] == "efficientnet_lite1_128"
    assert runs[1].returncode == ConfigurationError.exit_status
    assert "architecture: backbone: efficientnet_lite1_050\n  expected: efficientnet_lite1[_<pixels>]" in runs[1].stderr
    assert "Traceback" not in runs[1].stderr
