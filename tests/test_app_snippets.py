"""The documentation's Python for apps is run as it stands, against a deployed folder."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.files import layout
from pipeline.images.model_input import to_model_input
from pipeline.litert.foreign import heads_of
from pipeline.litert.interpreter import Model
from pipeline.litert.runtimes import signature
from tests import tiny_project
from tests.conftest import PROJECT
from tests.test_deploy import deploy_tiny
from tests.test_multihead import deploy_several

# Pages, and the languages of their code.
PLATFORMS = {
    "index": ["python"],
    "android": ["kotlin", "kotlin"],
    "ios": ["swift", "swift"],
    "desktop": ["python", "python"],
    "heads": ["kotlin", "swift", "python"],
}
PAGES = {name: (PROJECT / f"docs/pages/app/{name}.md").read_text(encoding="utf-8") for name in PLATFORMS}
LITERT, MEDIAPIPE = re.findall(r"```python\n(.*?)```", PAGES["desktop"], re.DOTALL)
(HEADS,) = re.findall(r"```python\n(.*?)```", PAGES["heads"], re.DOTALL)
(DOWNLOAD,) = re.findall(r"```python\n(.*?)```", PAGES["index"], re.DOTALL)

ORIENTATION = 0x0112  # an EXIF tag


def run(code: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(code, "docs/pages/app", "exec"), names)
    return names


@pytest.fixture
def photo(folder: Path) -> np.ndarray:
    """Deploy a tiny model, lay a photo beside it that is stored on its side, as phones do, and return it upright."""
    deploy_tiny("int8")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(np.rot90(tiny_project.picture(1, 7))).save("photo.jpg", exif=exif)
    with Image.open("photo.jpg") as picture:
        return np.rot90(np.array(picture), -1)


def expected(photo: np.ndarray) -> np.ndarray:
    model = Model((layout.DEPLOYED / "model.tflite").read_bytes())
    return model(to_model_input(photo, model.input_pixels, "stretch"))


def test_litert_alone_answers_as_the_pipeline_does(photo: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(LITERT)["probabilities"]
    np.testing.assert_array_equal(found, expected(photo))
    assert capsys.readouterr().out.startswith(tiny_project.LABELS[int(np.argmax(expected(photo)))])


@pytest.mark.parametrize("shape", [(480, 640), (97, 31), (16, 16), (1080, 1920)])
def test_its_resize_is_the_phones(photo: np.ndarray, shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    stretch = run(LITERT)["stretch"]
    np.testing.assert_array_equal(stretch(rgb.astype(int), 224), to_model_input(rgb, 224, "stretch"))  # type: ignore[operator]


def skip_without_mediapipe() -> None:
    try:
        from mediapipe.tasks.python import vision  # noqa: F401, PLC0415
    except (ImportError, OSError) as error:
        pytest.skip(f"{error}: MediaPipe needs libEGL and libGLESv2 (apt-get install libegl1 libgles2)")


def test_mediapipe_answers_as_the_pipeline_does(photo: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    skip_without_mediapipe()
    run(MEDIAPIPE)
    found = dict(line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines())
    answers = dict(zip(tiny_project.LABELS, expected(photo), strict=True))
    assert {label: float(score) for label, score in found.items()} == pytest.approx(answers, abs=1e-3)  # JPEG decoders


@pytest.fixture
def said(folder: Path) -> list[str]:
    """Deploy a model with several heads, lay a photo beside it, and return what each further head says of it."""
    deploy_several()
    Image.fromarray(tiny_project.picture(1, 7)).save("photo.jpg", quality=95)
    with Image.open("photo.jpg") as picture:
        answers = expected(np.array(picture))
    content = (layout.DEPLOYED / "model.tflite").read_bytes()
    further = heads_of(content, signature(content))[1:]
    return [f"{head.name}: {', '.join(head.named(answers[head.columns])) or 'none of them'}" for head in further]


def test_litert_alone_tells_what_every_head_says(said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(LITERT)
    assert capsys.readouterr().out.splitlines()[1:] == said
    assert said[0] == "shade: light"
    path = layout.DEPLOYED / "manifest.json"
    manifest = json.loads(path.read_text())
    for head in manifest["output"]["heads"]:
        head["threshold"] = 2  # which nothing reaches
    path.write_text(json.dumps(manifest))
    run(LITERT)
    assert capsys.readouterr().out.splitlines()[1:] == ["shade: none of them", "parts: none of them"]


@pytest.mark.slow
def test_mediapipe_tells_what_every_head_says(said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    skip_without_mediapipe()
    run(MEDIAPIPE + HEADS)
    first, *further = capsys.readouterr().out.splitlines()[-3:]
    assert first == f"probabilities: {tiny_project.LABELS[1]}"
    assert further == [", ".join([one, *sorted(rest)]) for one, *rest in (line.split(", ") for line in said)]


def test_a_whole_download_passes_and_a_damaged_one_is_named(photo: np.ndarray) -> None:
    run(DOWNLOAD)
    version = json.loads((layout.DEPLOYED / "manifest.json").read_text())["version"]
    content = (layout.DEPLOYED / "model.tflite").read_bytes()
    for damaged in (content[:-1], content[:-1] + b"x"):
        (layout.DEPLOYED / "model.tflite").write_bytes(damaged)
        with pytest.raises(SystemExit, match=rf"model\.tflite is damaged or of another version than {version}"):
            run(DOWNLOAD)


@pytest.mark.parametrize(("name", "languages"), PLATFORMS.items())
def test_every_platform_has_its_lines(name: str, languages: list[str]) -> None:
    assert re.findall(r"```(\w+)\n", PAGES[name]) == languages


def test_every_page_for_apps_is_read_here() -> None:
    assert {path.stem for path in (PROJECT / "docs/pages/app").iterdir()} == set(PLATFORMS)
