"""`viewfinder try`: the page itself, and, where a browser is there, what it does in one."""

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pipeline.errors import ConfigurationError, InputError
from pipeline.files import layout, write_bytes, write_text
from pipeline.images.model_input import to_model_input
from pipeline.litert.foreign import AnsweringHead
from pipeline.litert.interpreter import Model
from pipeline.tools import try_page
from pipeline.tools.cli import viewfinder
from tests import tiny_project
from tests.clips import solid, write_clip
from tests.conftest import PROJECT
from tests.opened_pages import Opened, runtime_files, started
from tests.test_deploy import deploy_tiny

RUNTIME = {name: f"the {name}".encode() for name in ("litert", "loader", "wasm", "helpers")}
ORIENTATION = 0x0112  # an EXIF tag
LABELS = list(tiny_project.LABELS)


def start(*arguments: str) -> Result:
    return CliRunner().invoke(viewfinder, ["try", "--no-open", *arguments])


@pytest.fixture
def deployed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Deploy a tiny model; the runtime is a stand-in."""
    write_text(Path("dvc.yaml"), "")
    write_text(Path("params.yaml"), "")
    deploy_tiny("int8")
    monkeypatch.setattr(try_page, "runtime", lambda: dict(RUNTIME))
    return folder


def written() -> str:
    done = start()
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "models/try.html\n"
    return Path("models/try.html").read_text(encoding="utf-8")


def element(page: str, name: str) -> str:
    (found,) = re.findall(rf'<script type="application/\w+" id="{name}">(.*?)</script>', page, re.DOTALL)
    return str(found)


def asset(page: str, name: str) -> bytes:
    return gzip.decompress(base64.b64decode(element(page, f"asset-{name}")))


def test_all_is_in_the_page(deployed: Path) -> None:
    page = written()
    assert asset(page, "model-int8") == (layout.DEPLOYED / "model.tflite").read_bytes()
    assert {name: asset(page, name) for name in RUNTIME} == RUNTIME
    about = json.loads(element(page, "about"))
    (model,) = about["models"]
    manifest = json.loads((layout.DEPLOYED / "manifest.json").read_text())
    assert model["labels"] == LABELS
    assert (model["scheme"], model["resize"], model["input_pixels"]) == ("int8", "stretch", 16)
    assert manifest["version"] in page
    golden = json.loads((layout.DEPLOYED / "golden/golden.json").read_text())
    assert len(about["golden"]["pictures"]) == len(golden["pictures"])
    for number, (ours, theirs) in enumerate(zip(about["golden"]["pictures"], golden["pictures"], strict=True)):
        assert ours["expected"] == {"int8": list(theirs["probabilities"].values())}
        assert asset(page, f"golden-{number}") == (layout.DEPLOYED / "golden" / theirs["file"]).read_bytes()
    assert not re.findall(r"\{\w+\}", page.split("<script type=")[0])  # every place is filled
    assert not re.search(r'(src|href)=["\']?http', page)


def test_its_policy_lets_its_own_script_run_and_reach_nobody(deployed: Path) -> None:
    page = written()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    for text, kind in ((script, "script-src"), (style, "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in allowed[kind]
    assert (allowed["default-src"], allowed["connect-src"]) == ("'none'", "'none'")
    assert "unsafe-inline" not in policy
    assert "http" not in policy


def test_a_label_cannot_end_the_page(deployed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["</script><b>", "{script} & {assets}"]
    manifest = json.loads((layout.DEPLOYED / "manifest.json").read_text()) | {"labels": labels}
    write_text(layout.DEPLOYED / "manifest.json", json.dumps(manifest))
    head = AnsweringHead("probabilities", tuple(labels), None, "SOFTMAX", slice(None))
    monkeypatch.setattr(try_page, "heads_of", lambda _content, _found: [head])
    page = written()
    assert json.loads(element(page, "about"))["models"][0]["labels"] == labels
    (title,) = re.findall(r"<title>(.*?)</title>", page)
    assert html.unescape(title) == "Viewfinder: </script><b>, {script} & {assets}"
    assert "<b>" not in page


def test_another_scheme_stands_beside_it_with_its_own_answers(deployed: Path) -> None:
    write_bytes(layout.model("float32"), (layout.DEPLOYED / "model.tflite").read_bytes())
    assert start("--beside", "float32", "--beside", "int8").exit_code == 0
    about = json.loads(element(Path("models/try.html").read_text(encoding="utf-8"), "about"))
    assert [model["scheme"] for model in about["models"]] == ["int8", "float32"]
    for picture in about["golden"]["pictures"]:
        assert picture["expected"]["float32"] == pytest.approx(picture["expected"]["int8"], rel=1e-4)


def test_what_is_not_there_is_told(deployed: Path) -> None:
    done = start("--beside", "int4")
    assert done.exit_code == ConfigurationError.exit_status
    assert "--beside int4, and no models/classifiers/int4/model.tflite" in done.stderr
    (layout.DEPLOYED / "manifest.json").unlink()
    done = start()
    assert done.exit_code == InputError.exit_status
    assert "models/deployed/manifest.json cannot be read" in done.stderr


def test_packages_without_the_runtime_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(try_page, "archive_of", lambda *_: b"")
    monkeypatch.setattr(try_page, "files_of", lambda _archive: {"dist/index.js": b""})
    with pytest.raises(ConfigurationError, match=r"names packages without 'wasm/litert_wasm_compat_internal\.js'"):
        try_page.runtime()


# ---- in a browser


runtime = pytest.fixture(runtime_files, scope="module", name="runtime_files")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a browser whose camera shows one picture."""
    frames = [tiny_project.picture(0, 5).repeat(10, 0).repeat(10, 1)] * 30
    with started(tmp_path_factory.mktemp("camera") / "camera.mjpeg", frames) as found:
        yield found


@pytest.fixture
def opened(
    deployed: Path, monkeypatch: pytest.MonkeyPatch, browser: Any, runtime_files: dict[str, bytes]
) -> Iterator[Opened]:
    monkeypatch.setattr(try_page, "runtime", lambda: runtime_files)
    written()
    found = Opened(browser, (deployed / "models/try.html").as_uri(), viewport={"width": 390, "height": 844})
    yield found
    found.page.close()


def expected(rgb: np.ndarray) -> list[float]:
    model = Model((layout.DEPLOYED / "model.tflite").read_bytes())
    found: list[float] = model(to_model_input(rgb, model.input_pixels, "stretch")).tolist()
    return found


@pytest.mark.slow
def test_in_a_browser_it_proves_itself_and_asks_nobody(opened: Opened) -> None:
    assert opened.proof.startswith("Answers as on the phone: ")
    assert float(opened.page.get_attribute("body", "data-factor")) < 1.01
    rgb = tiny_project.picture(1, 9)
    Image.fromarray(rgb).save("a.png")
    assert opened.open("a.png") == pytest.approx(expected(rgb), abs=1e-5)
    assert opened.page.text_content(".answer") == LABELS[int(np.argmax(expected(rgb)))]
    assert opened.asked == [opened.requests[0]]  # the page itself
    assert opened.said == []


@pytest.mark.slow
def test_in_a_browser_a_model_that_takes_floats_proves_itself(
    deployed: Path, monkeypatch: pytest.MonkeyPatch, browser: Any, runtime_files: dict[str, bytes]
) -> None:
    deploy_tiny("int8", input_type="float32")
    monkeypatch.setattr(try_page, "runtime", lambda: runtime_files)
    written()
    opened = Opened(browser, (deployed / "models/try.html").as_uri())
    assert opened.proof.startswith("Answers as on the phone: ")
    assert opened.said == []
    opened.page.close()


@pytest.mark.slow
def test_in_a_browser_photos_stand_upright(opened: Opened) -> None:
    rgb = tiny_project.picture(0, 3)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(np.rot90(rgb)).save("turned.png", exif=exif)
    assert expected(np.rot90(rgb)) != pytest.approx(expected(rgb), abs=1e-3)
    assert opened.open("turned.png") == pytest.approx(expected(rgb), abs=1e-4)


@pytest.mark.slow
def test_in_a_browser_the_camera_and_a_video_are_looked_at(opened: Opened) -> None:
    page = opened.page
    opened.forget()
    page.click("#camera")
    seen = tiny_project.picture(0, 5)
    opened.settle(expected(seen))
    assert "mirrored" in page.get_attribute("#video", "class")  # what is shown, not what is asked
    assert page.text_content("#camera") == "Stop camera"
    page.click("#camera")
    assert page.is_hidden("#video")
    write_clip(Path("clip.webm"), [solid((120, 160, 220))] * 20, codec="libvpx-vp9")
    opened.open("clip.webm")
    opened.settle(expected(solid((120, 160, 220))))
    assert not page.get_attribute("#video", "class")
    page.click("#pause")
    assert page.text_content("#pause") == "Go on"
    assert re.fullmatch(r"\d+ ms(, \d+ frames/s)?", page.text_content(".speed"))


@pytest.mark.slow
def test_in_a_browser_what_it_cannot_open_is_told(opened: Opened) -> None:
    write_bytes(Path("no.png"), b"not a picture")
    opened.page.set_input_files("#file", "no.png")
    opened.page.wait_for_selector("#trouble:not([hidden])")
    assert opened.page.text_content("#trouble") == "This browser cannot open no.png as a picture or a video."


@pytest.mark.slow
def test_in_a_browser_another_model_than_the_proof_is_about_is_noticed(
    deployed: Path, monkeypatch: pytest.MonkeyPatch, browser: Any, runtime_files: dict[str, bytes]
) -> None:
    golden = json.loads((layout.DEPLOYED / "golden/golden.json").read_text())
    for picture in golden["pictures"]:
        picture["probabilities"] = dict.fromkeys(LABELS, 0.001)
    write_text(layout.DEPLOYED / "golden/golden.json", json.dumps(golden))
    monkeypatch.setattr(try_page, "runtime", lambda: runtime_files)
    written()
    found = Opened(browser, (deployed / "models/try.html").as_uri())
    assert re.match(r"Does not answer as on the phone: int8 gives .* instead of 0\.001", found.proof)
    found.page.close()


SHAPES = [(480, 640), (97, 31), (16, 16), (1, 5), (1080, 1920)]


@pytest.mark.slow
def test_in_a_browser_pixels_are_the_phones(browser: Any) -> None:
    """Every pixel of every way to make a picture square is what the pipeline makes of it."""
    page = browser.new_page()
    script = (PROJECT / "pipeline/tools/web/pixels.js").read_text(encoding="utf-8")
    page.set_content(f"<script>{script}</script>")
    ask = """([packed, width, height, side, resize]) => {
      const data = Uint8ClampedArray.from(atob(packed), letter => letter.charCodeAt(0));
      const input = toModelInput({width, height, data}, side, resize);
      return btoa(Array.from(input, byte => String.fromCharCode(byte)).join(""));
    }"""
    generator = np.random.default_rng(0)
    for height, width in SHAPES:
        rgb = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        rgba = np.dstack([rgb, np.full((height, width), 255, np.uint8)])
        for side, resize in ((224, "stretch"), (31, "crop"), (224, "pad")):
            packed = base64.b64encode(rgba.tobytes()).decode()
            answer = page.evaluate(ask, [packed, width, height, side, resize])
            found = np.frombuffer(base64.b64decode(answer), np.uint8).reshape(side, side, 3)
            np.testing.assert_array_equal(found, to_model_input(rgb, side, resize))
    page.close()
