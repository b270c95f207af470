"""The Android app's Kotlin, compiled and run on this machine: its own golden test, with LiteRT's answers behind it.

What stands for Android lies in tests/android. The interpreter there knows what LiteRT answered to each golden frame, by
the frame's bytes: an app that makes other bytes of a camera's frame gets no answer.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.files import layout, sha256_of_bytes
from pipeline.images.model_input import to_model_input
from pipeline.images.yuv import rgb_of_i420
from pipeline.litert.foreign import heads_of
from pipeline.litert.interpreter import Model
from pipeline.litert.runtimes import signature
from tests.conftest import PROJECT
from tests.test_app_projects import ANDROID, CAMERA
from tests.test_deploy import deploy_tiny
from tests.test_multihead import deploy_several

SOURCES = [
    *(ANDROID / "app/src/main/kotlin/viewfinder/camera" / name for name in ("Head.kt", "Classifier.kt")),
    ANDROID / "app/src/androidTest/kotlin/viewfinder/camera/GoldenTest.kt",
]
KOTLIN = PROJECT / ".cache/kotlin"
JARS = [Path("/usr/share/java") / f"{name}.jar" for name in ("junit4", "hamcrest", "com.android.json")]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Compile the app but for its screen, and return the class path of it."""
    found = next(map(str, KOTLIN.rglob("bin/kotlinc")), None) or shutil.which("kotlinc")
    if found is None:
        pytest.skip("no Kotlin compiler here (npm install --prefix .cache/kotlin kotlin-compiler)")
    if not all(jar.is_file() for jar in JARS) or shutil.which("javac") is None:
        pytest.skip("no JUnit here (apt-get install default-jdk-headless junit4 libandroid-json-java)")
    classes = tmp_path_factory.mktemp("classes")
    path = ":".join(map(str, [classes, *JARS]))
    java = [*(PROJECT / "tests/android").rglob("*.java"), *CAMERA.rglob("*.java")]
    subprocess.run(["javac", "-Xlint:all", "-Werror", "-cp", path, "-d", str(classes), *map(str, java)], check=True)
    kotlin = [
        "bash",
        found,
        "-Werror",
        "-include-runtime",
        "-jvm-target",
        "17",
        "-cp",
        path,
        "-d",
        f"{classes}/app.jar",
    ]
    subprocess.run([*kotlin, *map(str, SOURCES)], check=True)
    return f"{classes}/app.jar:{path}"


def golden_test(app: str, folder: Path, *, resize: str = "stretch") -> subprocess.CompletedProcess[str]:
    """Run the app's own test against models/deployed, with what LiteRT answers to each golden frame of a camera."""
    answers = folder / "answers"
    answers.mkdir(exist_ok=True)
    content = (layout.DEPLOYED / "model.tflite").read_bytes()
    model, heads = Model(content), heads_of(content, signature(content))
    told = json.loads((layout.DEPLOYED / "golden/golden.json").read_text())
    for entry in told["camera"]["pictures"]:
        frame = (layout.DEPLOYED / "golden" / entry["file"]).read_bytes()
        picture = to_model_input(rgb_of_i420(frame, entry["height"], entry["width"]), model.input_pixels, resize)
        said = model(picture)
        for number, head in enumerate(heads):
            name = f"{sha256_of_bytes(picture.astype(model.input_type).tobytes())}.{number}"
            (answers / name).write_bytes(said[head.columns].astype("<f4").tobytes())
    command = ["java", f"-Ddeployed={layout.DEPLOYED.absolute()}", f"-Danswers={answers.absolute()}", "-cp", app]
    command += ["org.junit.runner.JUnitCore", "viewfinder.camera.GoldenTest"]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("input_type", ["uint8", "float32"])
def test_the_app_answers_by_every_head(app: str, folder: Path, input_type: str) -> None:
    deploy_several(input_type)
    done = golden_test(app, folder)
    assert done.returncode == 0, done.stdout
    assert "OK (1 test)" in done.stdout


def test_an_app_of_one_head_answers_as_before(app: str, folder: Path) -> None:
    deploy_tiny("int8")
    done = golden_test(app, folder)
    assert done.returncode == 0, done.stdout


def test_a_head_that_is_read_otherwise_is_noticed(app: str, folder: Path) -> None:
    deploy_several()
    path = layout.DEPLOYED / "golden/golden.json"
    told = json.loads(path.read_text())
    for head, answer in (("shade", "light"), ("parts", "handle")):
        changed = json.loads(json.dumps(told))
        changed["camera"]["pictures"][0]["heads"][head]["answer"] = [answer]
        path.write_text(json.dumps(changed))
        done = golden_test(app, folder)
        assert done.returncode == 1
        assert f"yuv/0.i420 {head} expected:<[{answer}" in done.stdout


def test_an_app_that_feeds_the_model_otherwise_gets_no_answer(app: str, folder: Path) -> None:
    deploy_tiny("int8")
    done = golden_test(app, folder, resize="crop")
    assert done.returncode == 1
    assert "no answer is known to such an input" in done.stdout
