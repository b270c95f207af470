"""Models on emulated ARM64 chips: what is asked and answered, what is refused, and one run of the real thing."""

import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config.evaluate import EvaluateStage
from pipeline.errors import ConfigurationError, InputError, MissingPackageError, ModelError, PipelineError
from pipeline.evaluate import evaluate
from pipeline.files import layout
from pipeline.images.model_input import to_model_input
from pipeline.litert import arm64, arm64_setup
from pipeline.litert.arm64 import Arm64Interpreter
from pipeline.litert.arm64_chips import CHIPS
from pipeline.litert.head import append_head
from pipeline.litert.interpreter import load_interpreter
from pipeline.litert.quantizer import quantize
from pipeline.litert.runtimes import open_classifier
from pipeline.tools.arm64 import Comparison, compared, refuse_broken, table
from tests import tiny_project
from tests.test_app_snippets import LITERT
from tests.test_deploy import deploy_tiny
from tests.test_evaluate import CONFIG, write_model
from tests.tiny_models import SCHEMES, backbone, head, pictures


@pytest.fixture
def on_this_machine(monkeypatch):
    """Let the guest run without emulation: all but the processor is as it is under it."""
    monkeypatch.setattr(arm64, "command_on", lambda _chip, arguments: ([sys.executable, *arguments], {}))


def classifier(scheme="int8"):
    return append_head(quantize(backbone(), SCHEMES[scheme], pictures(8)), *head())


def run_here(content, picture):
    interpreter = load_interpreter(content, 1)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[np.newaxis])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def run_there(content, chip, images):
    found = []
    with Arm64Interpreter(content, chip=chip) as interpreter:
        for picture in images:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[np.newaxis])
            interpreter.invoke()
            found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return found


def test_the_guest_answers_what_litert_answers(on_this_machine):
    content = classifier()
    for picture, found in zip(pictures(3), run_there(content, "cortex-a76", pictures(3)), strict=True):
        np.testing.assert_array_equal(found, run_here(content, picture))


def test_the_guest_tells_what_a_model_takes_and_gives(on_this_machine):
    content = classifier()
    native = load_interpreter(content, 1)
    with Arm64Interpreter(content, chip="cortex-a76") as interpreter:
        for found, expected in (
            (interpreter.get_input_details(), native.get_input_details()),
            (interpreter.get_output_details(), native.get_output_details()),
        ):
            assert [detail["dtype"] for detail in found] == [detail["dtype"] for detail in expected]
            assert [detail["shape"] for detail in found] == [list(detail["shape"]) for detail in expected]
            assert [detail["quantization"] for detail in found] == [detail["quantization"] for detail in expected]


def test_a_model_that_cannot_be_loaded_is_told(on_this_machine):
    with pytest.raises(ModelError, match="a model that LiteRT for ARM64 cannot load"):
        Arm64Interpreter(b"no model", chip="cortex-a76")


def test_a_program_that_dies_is_told_with_its_last_words(monkeypatch):
    code = "import sys; sys.stdin.buffer.readline(); sys.exit('qemu: uncaught target signal 11')"
    monkeypatch.setattr(arm64, "command_on", lambda *_: ([sys.executable, "-c", code], {}))
    with pytest.raises(
        PipelineError, match=r"ended with status 1: qemu: uncaught target signal 11(.|\n)*delete .cache/arm64"
    ):
        Arm64Interpreter(classifier(), chip="cortex-a76")


@pytest.mark.parametrize("name", CHIPS)
def test_a_chips_cpuinfo_says_what_it_is(name):
    """The parts are those of ARM's manuals, by which the runtime knows the core."""
    parts = {"cortex-a53": "0xd03", "cortex-a72": "0xd08", "cortex-a76": "0xd0b", "cortex-x2": "0xd48"}
    text = CHIPS[name].cpuinfo()
    assert text.count("processor\t: ") == 4
    assert set(re.findall(r"CPU part\t: (\S+)", text)) == {parts[name]}
    features = re.findall(r"Features\t: (.*)", text)[0].split()
    assert ("asimddp" in features) == (name in ("cortex-a76", "cortex-x2"))  # dot products
    assert ("i8mm" in features) == (name == "cortex-x2")


def test_an_arm64_machine_needs_no_emulation(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(PipelineError, match=r"this machine is ARM64 itself(.|\n)*LiteRT here is the one for ARM64"):
        arm64_setup.set_up()


def test_a_machine_without_apt_is_told_what_it_would_need(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(MissingPackageError, match=r"no apt-get and no apt-cache and no dpkg(.|\n)*container of Debian"):
        arm64_setup.set_up()


@pytest.fixture
def on_debian(monkeypatch, folder):
    """Whatever this machine is, let it pass for a Debian."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "platform", "linux")


def test_an_interrupted_set_up_leaves_nothing(on_debian, monkeypatch):
    def interrupted(folder, lock):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(arm64_setup, "_fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        arm64_setup.set_up()
    assert list(arm64_setup.FOLDER.iterdir()) == []


def test_a_set_up_is_made_once(on_debian, monkeypatch):
    filled = []
    monkeypatch.setattr(arm64_setup, "_fill", lambda folder, _lock: filled.append(folder))
    assert arm64_setup.set_up() == arm64_setup.set_up()
    assert len(filled) == 1


def test_a_program_that_fails_is_told(folder):
    with pytest.raises(PipelineError, match=r"python.* failed: no such host(.|\n)*nothing half done is left"):
        arm64_setup._run(sys.executable, "-c", "raise SystemExit('no such host')")


def test_sources_without_arm64_are_told(on_debian, monkeypatch):
    monkeypatch.setattr(arm64_setup, "_run", lambda *_, **__: "")
    told = r"no Python for ARM64(.|\n)*sources that have arm64(.|\n)*connect and try again"
    with pytest.raises(MissingPackageError, match=told):
        arm64_setup.set_up()


def test_a_package_without_the_emulator_is_told(folder):
    (folder / "qemu/usr/bin").mkdir(parents=True)
    with pytest.raises(MissingPackageError, match=r"no qemu-aarch64-static(.|\n)*Debian 12 or 13"):
        arm64_setup._keep_the_emulator(folder)


def test_the_lock_files_entry_for_a_python_is_taken():
    lock = (
        "numpy==1.0 ; python_full_version < '3.12' \\\n    --hash=sha256:aa\n"
        "numpy==2.0 ; python_full_version >= '3.12' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "pillow==3.0 \\\n    --hash=sha256:dd\n"
    )
    assert arm64_setup._entry(lock, "numpy", (3, 11)) == "numpy==1.0 \\\n    --hash=sha256:aa\n"
    assert (
        arm64_setup._entry(lock, "numpy", (3, 12)) == "numpy==2.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
    )
    assert arm64_setup._entry(lock, "pillow", (3, 13)) == "pillow==3.0 \\\n    --hash=sha256:dd\n"
    with pytest.raises(PipelineError, match=r"requirements.lock has no scipy for Python 3.11(.|\n)*git checkout"):
        arm64_setup._entry(lock, "scipy", (3, 11))


def deployed(folder, content):
    """Write what `deploy` writes, as far as it is read here."""
    from pipeline.images.codec import encode_png  # noqa: PLC0415

    where = folder / "models/pretrained"
    (where / "golden").mkdir(parents=True)
    (where / "model.tflite").write_bytes(content)
    names = [f"{number}.png" for number in range(3)]
    for name, picture in zip(names, pictures(3), strict=True):
        (where / "golden" / name).write_bytes(encode_png(picture))
    rule = {"max_factor": 1.5, "floor": 1e-6, "pictures": [{"file": name} for name in names]}
    (where / "golden/golden.json").write_text(json.dumps(rule))
    manifest = {"scheme": "int8", "input": {"shape": [1, 16, 16, 3], "resize": "stretch"}}
    (where / "manifest.json").write_text(json.dumps(manifest))
    return where


def test_a_folders_pictures_are_compared(on_this_machine, folder):
    where = deployed(folder, classifier())
    (found,) = compared(where, ["cortex-a53"], 2)
    assert found == Comparison("cortex-a53", "int8", True, 0.0, 1.0, True)
    (alone,) = compared(deployed(folder / "other", backbone()), ["cortex-a53"], 1)
    assert alone.are_features_equal is None
    assert [line.split() for line in table([found, alone]).splitlines()] == [
        ["chip", "scheme", "features", "largest", "factor", "rule"],
        ["cortex-a53", "int8", "bit-equal", "1.000000", "kept"],
        ["cortex-a53", "int8", "-", "1.000000", "kept"],
    ]


def test_schemes_are_chosen_and_one_that_was_not_made_is_refused(on_this_machine, folder):
    deployed(folder, classifier()).rename("models/deployed")
    for scheme in ("int4", "int8"):
        layout.model(scheme).parent.mkdir(parents=True)
        layout.model(scheme).write_bytes(classifier(scheme))
    (found,) = compared(layout.DEPLOYED, ["cortex-a53"], 1, ["int4"])
    assert (found.scheme, found.are_features_equal) == ("int4", True)
    with pytest.raises(ConfigurationError, match=r"--scheme dynamic, and no model of it(.|\n)*one of int8, int4"):
        compared(layout.DEPLOYED, ["cortex-a53"], 1, ["int4", "dynamic"])


def test_a_broken_rule_is_an_error(folder):
    good, bad = (
        Comparison("cortex-a72", scheme, False, 0.1, factor, factor < 1.5)
        for scheme, factor in (("int8", 1.2), ("int4", 1.7))
    )
    assert "BROKEN" in table([good, bad])
    assert "differ by 1.0e-01" in table([good])
    refuse_broken([good])
    with pytest.raises(ModelError, match=r"int4 on cortex-a72 by a factor of 1.7\n(.|\n)*max_factor"):
        refuse_broken([good, bad])


def test_evaluate_scores_by_it_and_tells_how_far_it_agrees(on_this_machine, folder):
    tiny_project.make()
    write_model("float32")
    evaluate(EvaluateStage("float32", "stretch", tiny_project.BACKBONE.name, replace(CONFIG, runtime="arm64")))
    metrics = json.loads(layout.evaluation("float32").read_text())
    assert (metrics["runtime"], metrics["agreement_with_litert"]) == ("arm64", 1.0)


def test_what_is_no_picture_classifier_leaves_no_program_behind(on_this_machine, monkeypatch):
    ended, close = [], Arm64Interpreter.close

    def recorded(interpreter):
        ended.append(interpreter)
        close(interpreter)

    monkeypatch.setattr(Arm64Interpreter, "close", recorded)
    with pytest.raises(ConfigurationError):
        open_classifier(append_head(backbone(dtype="float32"), *head()), runtime="arm64", resize="stretch")
    assert len(ended) == 1


def test_a_folder_without_golden_pictures_is_refused(folder):
    with pytest.raises(InputError, match=r"no models/deployed/golden/golden.json(.|\n)*run `dvc repro`"):
        compared(Path("models/deployed"), ["cortex-a53"], None)


@pytest.fixture(scope="module")
def emulation(tmp_path_factory):
    """Set it up once, from Debian's packages and PyPI."""
    if platform.machine() != "x86_64" or shutil.which("apt-get") is None:
        pytest.skip("ARM64 is emulated on Debian on x86-64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arm64_setup, "FOLDER", tmp_path_factory.mktemp("emulation") / "arm64")
        try:
            arm64_setup.set_up()
        except PipelineError as error:
            if "apt-get update failed" in error.found or isinstance(error, MissingPackageError):
                pytest.skip(f"Debian's packages cannot be had: {error.found}")
            raise
        yield


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("chip", ["cortex-a53", "cortex-x2"])  # without and with dot products and i8mm
def test_integer_features_of_arm64_are_this_machines_bit_for_bit(emulation, chip, scheme):
    quantized = quantize(backbone(num_features=64), SCHEMES[scheme], pictures(8))
    for picture, found in zip(pictures(4), run_there(quantized, chip, pictures(4)), strict=True):
        np.testing.assert_array_equal(found, run_here(quantized, picture))


@pytest.mark.slow
def test_float_answers_of_arm64_are_nearly_this_machines(emulation):
    floats = classifier("float32")
    for picture, found in zip(pictures(2), run_there(floats, "cortex-a76", pictures(2)), strict=True):
        np.testing.assert_allclose(found, run_here(floats, picture), atol=1e-5)


@pytest.mark.slow
def test_the_docs_code_runs_on_an_emulated_raspberry_pi_as_it_stands(emulation, folder):
    deploy_tiny("int8")
    Image.fromarray(tiny_project.picture(1, 7)).save("photo.jpg", quality=95, subsampling=0)
    command, environment = arm64.command_on("cortex-a72", ["-c", LITERT])
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    with Image.open("photo.jpg") as photo:
        picture = to_model_input(np.array(photo), 16, "stretch")
    answers = run_here((layout.DEPLOYED / "model.tflite").read_bytes(), picture)[0]
    said, probability = done.stdout.rsplit(maxsplit=1)
    assert said == tiny_project.LABELS[int(answers.argmax())]
    assert float(probability) == pytest.approx(answers.max(), abs=1e-5)
