import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import pipeline.check as check_module
from pipeline.check import (
    changes,
    check,
    choices_of,
    make_data_folders,
    refuse_no_git,
    remove_evaluations_of_others,
)
from pipeline.config import composing, plain
from pipeline.config.plain import CONF_FOLDER, load
from pipeline.config.quantization import AS_IS
from pipeline.errors import ConfigurationError, InputError, PipelineError
from pipeline.files import layout, write_text
from pipeline.keys.description import LOCKS, description
from tests.conftest import PROJECT


@pytest.fixture
def params() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
    return found


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of conf/ that stages are composed from."""
    folder = tmp_path / "conf"
    shutil.copytree(CONF_FOLDER, folder)
    for module in (plain, composing, check_module):
        monkeypatch.setattr(module, "CONF_FOLDER", folder)
    return folder


def refusal(params: dict[str, Any]) -> str:
    with pytest.raises(PipelineError) as caught:
        check(params)
    return str(caught.value)


def test_the_projects_own_params_pass(params: dict[str, Any]) -> None:
    check(params)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scheme", sorted({*choices_of("quantization")} - {AS_IS})
)  # test_architecture.py composes the backbones
def test_every_scheme_composes(params: dict[str, Any], scheme: str) -> None:
    check(params | {"quantization": list({"float32": 0, scheme: 0}), "deploy": scheme})


def test_a_backbone_that_did_not_come_quantized_is_not_used_as_it_is(params: dict[str, Any]) -> None:
    message = refusal(params | {"quantization": ["float32", AS_IS], "deploy": AS_IS})
    assert "`quantization` lists as_is, and weights: package in conf/backbone/efficientnet_lite0.yaml" in message


def test_unknown_backbone_names_key_value_and_choices(params: dict[str, Any]) -> None:
    message = refusal(params | {"backbone": "resnet"})
    assert "backbone: resnet" in message
    for base in choices_of("backbone"):
        assert f"\n    {base}[" in message
    assert "efficientnet_lite1[_<pixels>], pixels 240 or any from 32" in message


@pytest.mark.slow
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


@pytest.mark.slow
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
        ("training.seed", 2**32, "a number from 0 to 4.29497e+09"),
        ("training.learning_rate", float("inf"), "a number above 0"),
        ("training.regularization", 0, "a number above 0"),
        ("training.optimizer", "sgd", "one of lbfgs, adamw"),
        ("gate.judge_by", "luck", "one of figure, interval"),
        ("crossval.num_folds", 1, "a number from 2 to 20"),
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
    assert "`frames: 3`\n  expected: indented lines with the keys per_second" in refusal(params | {"frames": 3})


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n", r"params\.yaml holds list\n  expected: `key: value` lines"),
        (b"", r"params\.yaml holds NoneType"),
        (b"a: b: c", r"params\.yaml is no valid YAML"),
        (b"a: 1\nb: 2\na: 3\n", r'params\.yaml holds a key twice \(found duplicate key "a", line 3\)'),
        ("a: caf\u00e9\n".encode("latin-1"), r"params\.yaml is not UTF-8 \(.*\n  expected: text in UTF-8"),
    ],
)
def test_params_that_hold_something_else(folder: Path, content: bytes, message: str) -> None:
    Path("params.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        load(Path("params.yaml"))


def test_params_that_are_missing(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no params\.yaml here\n(.|\n)*git checkout params\.yaml"):
        load(Path("params.yaml"))


def test_numbers_are_read_as_dvc_reads_them(folder: Path) -> None:
    Path("params.yaml").write_text("a: 1e-5\nb: 10:40\nc: on\n")
    assert load(Path("params.yaml")) == {"a": 1e-5, "b": "10:40", "c": "on"}


def test_a_message_names_a_file_as_git_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "CONF_FOLDER", tmp_path / "conf")
    write_text(tmp_path / "conf/cache.yaml", "[")
    with pytest.raises(ConfigurationError, match=r"conf/cache\.yaml is no valid YAML(.|\n)*git diff conf/cache\.yaml"):
        load(tmp_path / "conf/cache.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("frames.yaml", "jpeg_quality: 95", "jpeg_quality: much", "conf/frames.yaml: (.|\n)*a value of type int"),
        ("frames.yaml", "jpeg_quality: 95", "quality: 95", "conf/frames.yaml: unknown key `frames.quality`"),
        ("augment.yaml", "hue_degrees: 8 ", "hue_degrees: [", "conf/augment.yaml is no valid YAML"),
        (
            "quantization/int8.yaml",
            "kind: static",
            "kinds: static",
            "conf/quantization/int8.yaml: Key 'kinds' not in 'QuantizationConfig'",
        ),
        (
            "quantization/int8.yaml",
            "algorithm: min_max",
            "algorithm: max_min",
            "algorithm: max_min_.*\n.*one of no_quan",
        ),
        ("backbone/efficientnet_lite0.yaml", "std: [128.0]", "std: [0.0]", "backbone.std: .*\n.*none of them 0"),
        (
            "backbone/efficientnet_lite0.yaml",
            "family: efficientnet_lite ",
            "family: resnet ",
            "family: resnet\n.*one of",
        ),
        ("backbone/efficientnet_lite0.yaml", "width: 1.0", "width: 100.0", "backbone.width: 100.0\n.*0.01 to 10"),
        (
            "backbone/efficientnet_lite0.yaml",
            "weights: package",
            "weights: w.pth",
            "w.pth in conf/.*, and nothing there",
        ),
        ("backbone/efficientnet_lite0.yaml", "weights_package: eff", "weights_package: off", "which is not installed"),
        ("cache.yaml", "max_bytes: ", "max_bytes: many", "conf/cache.yaml: .*many"),
        (
            "engine/local.yaml",
            "num_workers: 0",
            "num_workers: all",
            "conf/engine/local.yaml: (.|\n)*a value of type int",
        ),
        (
            "split.yaml",
            "block_gap_percent: 5",
            "block_gap_percent: ${seed}",
            r"conf/split.yaml holds `split.block_gap_percent: \$\{seed\}`",
        ),
    ],
)
def test_a_fault_in_conf_names_the_file_and_the_key(
    params: dict[str, Any], conf: Path, file: str, old: str, new: str, message: str
) -> None:
    path = conf / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert re.search(message, refusal(params)), refusal(params)


def test_a_list_of_defaults_that_is_none(params: dict[str, Any], conf: Path) -> None:
    (conf / "frames.yaml").write_text("defaults: 3\nframes: {jpeg_quality: 95}\n")
    assert "conf/frames.yaml: `defaults: 3`\n  expected: the list of" in refusal(params)


def test_a_scheme_file_says_its_own_name(params: dict[str, Any], conf: Path) -> None:
    shutil.copy(conf / "quantization/int8.yaml", conf / "quantization/int8b.yaml")
    message = refusal(params | {"quantization": ["float32", "int8b"], "deploy": "float32"})
    assert "conf/quantization/int8b.yaml: `scheme: int8`\n  expected: `scheme: int8b`" in message


def test_a_scheme_that_inherits_from_another_is_refused(params: dict[str, Any], conf: Path) -> None:
    (conf / "quantization/int8b.yaml").write_text("defaults: [int8, _self_]\nscheme: int8b\n")
    message = refusal(params | {"quantization": ["float32", "int8b"], "deploy": "float32"})
    assert "conf/quantization/int8b.yaml: Key 'defaults' not in 'QuantizationConfig'" in message


@pytest.mark.parametrize("name", ["tuned", "converted", "my int", "Int8"])
def test_a_scheme_with_a_name_that_misleads(params: dict[str, Any], conf: Path, name: str) -> None:
    shutil.copy(conf / "quantization/int8.yaml", conf / f"quantization/{name}.yaml")
    message = refusal(params | {"quantization": ["float32", name], "deploy": "float32"})
    assert f"a scheme called `{name}`\n  expected: small letters, digits and _" in message


def test_values_behind_values_are_refused(folder: Path) -> None:
    Path("params.yaml").write_text("frames:\n  width: ${oc.env:W}\n")
    with pytest.raises(
        ConfigurationError, match=r"params\.yaml holds `frames\.width: \$\{oc\.env:W\}`\n(.|\n)*as it stands"
    ):
        load(Path("params.yaml"))
    Path("params.yaml").write_text("a: &a\n  b: *a\n")
    with pytest.raises(ConfigurationError, match=r"params\.yaml holds a section within itself"):
        load(Path("params.yaml"))


BROKEN_LOCKS = ["", "<<<<<<< HEAD\n", "stages:\n", "stages: {check: }", "stages: {check: {params: {params.yaml: }}}"]


@pytest.mark.parametrize("text", BROKEN_LOCKS)
def test_of_a_lock_that_cannot_be_read_nothing_is_known(folder: Path, text: str) -> None:
    Path("dvc.lock").write_text(text)
    assert changes({"seed": 1}, Path("dvc.lock")) == []


def test_an_engine_that_does_not_exist(params: dict[str, Any]) -> None:
    assert "engine: spark\n  expected: one of local, ray" in refusal(params | {"engine": "spark"})


def test_what_changed_is_told_by_its_full_name_with_both_values(folder: Path) -> None:
    lock = Path("dvc.lock")
    assert changes({"seed": 1}, lock) == []
    kept = {"deploy": "int8", "frames": {"width": 640, "gone": 1}}
    lock.write_text(yaml.safe_dump({"stages": {"check": {"params": {"params.yaml": kept}}}}))
    assert changes(kept, lock) == []
    lock.write_text("stages: {check: {params: {params.yaml: {rate: 1e-05}}}}")
    assert changes({"rate": 1e-05}, lock) == []
    lock.write_text(yaml.safe_dump({"stages": {"check": {"params": {"params.yaml": kept}}}}))
    now = {"deploy": "int8", "frames": {"width": 320, "new": None}}
    assert changes(now, lock) == [
        "frames.width: 640 -> 320",
        "frames.new: nothing -> None",
        "frames.gone: 1 -> nothing",
    ]


def test_what_is_known_of_schemes_that_are_not_listed_is_removed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for scheme in ("float32", "int8", "int4"):
        write_text(layout.evaluation(scheme), "{}")
    remove_evaluations_of_others(["float32", "int8"])
    assert sorted(path.stem for path in layout.EVALUATIONS.iterdir()) == ["float32", "int8"]
    assert "int4 is off the list `quantization`, and leaves metrics/" in capsys.readouterr().err


def test_the_command_prints_no_traceback_and_fails(folder: Path) -> None:
    Path("params.yaml").write_text((PROJECT / "params.yaml").read_text().replace("stretch ", "squash "))
    run = subprocess.run(
        [sys.executable, "-m", "pipeline.check"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == ConfigurationError.exit_status
    assert "check: resize: squash" in run.stderr
    assert "Traceback" not in run.stderr


# A stage that lets somebody edit params.yaml while it runs, if told to.
EDITING = """
from pathlib import Path
from pipeline.config.application import run_stage
from pipeline.config.split import SplitStage
def stage(config):
    path = Path("params.yaml")
    path.write_text(path.read_text().replace({old!r}, {new!r}))
run_stage("split", SplitStage, stage)
"""


def run_split(old: str, new: str) -> "subprocess.CompletedProcess[str]":
    Path("params.yaml").write_text((PROJECT / "params.yaml").read_text())
    code = EDITING.format(old=old, new=new)
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_a_stage_whose_parameters_are_edited_while_it_runs_fails(folder: Path) -> None:
    done = run_split("test_percent: 10", "test_percent: 20")
    assert done.returncode == ConfigurationError.exit_status
    assert "split: params.yaml was edited while the stage ran" in done.stderr
    assert run_split("width: 640", "width: 320").returncode == 0  # which `split` does not read


def test_a_stage_runs_no_other_code_than_dvc_was_told_of(folder: Path) -> None:
    for lock in LOCKS:
        shutil.copy(PROJECT / lock, folder)
    write_text(layout.code("split"), "{}")
    done = run_split("", "")
    assert done.returncode == ConfigurationError.exit_status
    assert "split: the code of `split` has changed since the stage `code` described it (build/code/" in done.stderr
    write_text(layout.code("split"), json.dumps(description("split")))
    assert run_split("", "").returncode == 0


def test_a_project_from_a_zip_file_is_told_how_to_come_under_git(folder: Path) -> None:
    with pytest.raises(InputError, match=r"is not under Git (.|\n)*git init && git add --all"):
        refuse_no_git(folder)
    (folder / ".git").touch()  # a file in a worktree, a folder elsewhere
    (folder / "sub").mkdir()
    refuse_no_git(folder / "sub")


def test_a_project_of_photos_alone_needs_no_folder_of_videos(folder: Path) -> None:
    (layout.PHOTOS / "cup").mkdir(parents=True)
    make_data_folders()
    make_data_folders()
    assert layout.VIDEOS.is_dir()
    assert [path.name for path in layout.PHOTOS.iterdir()] == ["cup"]
    layout.VIDEOS.rmdir()
    layout.VIDEOS.symlink_to("nowhere")  # left for `split` to tell
    make_data_folders()
    assert layout.VIDEOS.is_symlink()


def test_git_keeps_both_data_folders_when_the_samples_are_gone() -> None:
    for name in ("data/photos/README.md", "data/videos/.gitkeep"):
        assert (PROJECT / name).is_file()
