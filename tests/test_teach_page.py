"""The page in which a browser teaches a model: what is in it, and, where a browser is there, what it does in one."""

import base64
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import load, save

from pipeline.errors import InputError
from pipeline.files import layout, write_bytes, write_text
from pipeline.images.model_input import to_model_input
from pipeline.litert.learner import Learner
from pipeline.shipping.checkpoint import ENTRY, read_checkpoint
from pipeline.tools import teach_page
from pipeline.tools.cli import viewfinder
from tests import tiny_models, tiny_project
from tests.opened_pages import Opened, runtime_files, started
from tests.test_deploy import deploy_tiny

FOLDER = layout.TRAINABLE
RUNTIME = {name: f"the {name}".encode() for name in ("litert", "loader", "wasm", "helpers")}
SHOWN = tiny_project.picture(2, 5)  # green, which is no label


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    return found


def write_page() -> str:
    done = CliRunner().invoke(viewfinder, ["trainable", "--page", "--no-open", "--batch-size", "16"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "models/trainable/teach.html\n"
    return (FOLDER / "teach.html").read_text(encoding="utf-8")


@pytest.fixture
def deployed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_text(Path("dvc.yaml"), "")
    write_text(Path("params.yaml"), "")
    deploy_tiny("float32")
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["float32"])
    monkeypatch.setattr(teach_page, "runtime", lambda: dict(RUNTIME))
    return folder


def test_all_is_in_the_page_and_it_can_reach_nobody(deployed: Path) -> None:
    page = write_page()
    assets = dict(re.findall(r'id="asset-([\w-]+)">([^<]*)<', page))
    found = {name: gzip.decompress(base64.b64decode(packed)) for name, packed in assets.items()}
    assert found["model-float32"] == (FOLDER / "trainable.tflite").read_bytes()
    for name in ("replay", "check"):
        assert found[name] == (FOLDER / f"{name}.bin").read_bytes()
    assert {name: found[name] for name in RUNTIME} == RUNTIME
    (text,) = re.findall(r'<script type="application/json" id="about">(.*?)</script>', page)
    about = json.loads(text)
    assert about["teach"]["golden"] == json.loads((FOLDER / "golden.json").read_text())
    assert about["teach"]["version"] == manifest()["version"]
    assert "connect-src 'none'" in page
    assert manifest()["version"] in re.findall(r"<footer>.*?</footer>", page, re.DOTALL)[0]


def test_without_a_model_that_learns_there_is_no_page(folder: Path) -> None:
    with pytest.raises(InputError, match=r"models/trainable/manifest\.json cannot be read"):
        teach_page.write_teach_page()


# ---- in a browser


runtime = pytest.fixture(runtime_files, scope="module", name="runtime_files")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    frames = [SHOWN.repeat(10, 0).repeat(10, 1)] * 30
    with started(tmp_path_factory.mktemp("camera") / "camera.mjpeg", frames) as found:
        yield found


@pytest.fixture
def opened(
    deployed: Path, monkeypatch: pytest.MonkeyPatch, browser: Any, runtime_files: dict[str, bytes]
) -> Iterator[Opened]:
    monkeypatch.setattr(teach_page, "runtime", lambda: runtime_files)
    write_page()
    found = Opened(browser, (deployed / FOLDER / "teach.html").as_uri(), viewport={"width": 390, "height": 844})
    yield found
    found.page.close()


def told(opened: Opened, begin: str) -> str:
    """Wait until the page has told something that begins so."""
    opened.page.wait_for_selector(f'#told:has-text("{begin}")', timeout=60_000)
    return str(opened.page.text_content("#told"))


def known(opened: Opened) -> dict[str, list[str]]:
    rows = [row.split("\t") for row in opened.page.inner_text("#kept").splitlines()]
    return {label: numbers for label, *numbers in rows[1:]}


def teach(opened: Opened, label: str) -> str:
    opened.page.fill("#thing", label)
    opened.page.click("#look")
    return told(opened, f"Learned {label}")


def saved(opened: Opened, name: str) -> Path:
    with opened.page.expect_download() as download:
        opened.page.click("#save")
    assert download.value.suggested_filename == "learned.safetensors"
    download.value.save_as(name)
    return Path(name)


@pytest.mark.slow
def test_in_a_browser_it_learns_by_the_camera_and_another_page_goes_on(opened: Opened, browser: Any) -> None:
    page = opened.page
    assert opened.proof.startswith("Answers as on the phone: ")
    assert float(page.get_attribute("body", "data-learning")) < 1e-5
    labels = list(tiny_project.LABELS)
    assert list(known(opened)) == [*labels, "all that it knew"]
    assert "frog" not in page.inner_text("#models")
    sentence = teach(opened, "frog")
    assert re.fullmatch(r"Learned frog from \d+ pictures in [\d.]+ s, loss \d\.\d+\.", sentence)
    assert page.text_content("#camera") == "Stop camera"  # it was started for it
    page.wait_for_selector('.answer:has-text("frog")')
    assert known(opened)["frog (taught)"] == ["–", "100%"]
    checkpoint = read_checkpoint(saved(opened, "learned.safetensors"), manifest())
    assert checkpoint.new_labels == ("frog",)
    assert len(checkpoint.examples) > 1

    Image.fromarray(SHOWN).save("frog.png")
    answers = opened.open("frog.png")
    learner = Learner((FOLDER / "trainable.tflite").read_bytes())
    learner.restore({"weights": checkpoint.weights, "bias": checkpoint.bias})
    expected = learner.infer(to_model_input(SHOWN, 16, "stretch"))[1]
    assert answers == pytest.approx(expected[:3].tolist(), abs=1e-5)
    other = Opened(browser, page.url)
    other.page.set_input_files("#checkpoint", "learned.safetensors")
    assert told(other, "Restored") == "Restored frog."
    assert other.open("frog.png") == answers  # bit for bit
    assert known(other) == known(opened)
    assert saved(other, "again.safetensors").read_bytes() == Path("learned.safetensors").read_bytes()
    other.page.click("#forget")
    told(other, "All that was taught is forgotten")
    assert list(known(other)) == [*labels, "all that it knew"]
    assert (other.said, opened.said) == ([], [])
    assert opened.asked == [opened.requests[0]]
    other.page.close()


@pytest.mark.slow
def test_in_a_browser_without_rehearsal_it_forgets_and_what_cannot_be_taught_is_told(opened: Opened) -> None:
    Image.fromarray(SHOWN).save("frog.png")
    opened.open("frog.png")
    opened.page.fill("#thing", tiny_project.LABELS[0])
    opened.page.click("#look")
    assert told(opened, "shipped") == f"{tiny_project.LABELS[0]} shipped with the model: teach another label."
    opened.page.uncheck("#replay")
    assert teach(opened, "frog").startswith("Learned frog from 1 picture in")
    assert known(opened)["all that it knew"][1] == "0%"
    opened.page.check("#replay")
    teach(opened, "toad")
    before, now = (int(share.rstrip("%")) for share in known(opened)["all that it knew"])
    assert now >= before > 0
    for number in (3, 4):
        teach(opened, f"newt {number}")
    opened.page.fill("#thing", "newt 5")
    opened.page.click("#look")
    assert told(opened, "There is room") == "There is room for 4 new labels, and all are taught."


@pytest.mark.slow
def test_in_a_browser_a_wrong_checkpoint_is_refused(opened: Opened) -> None:
    Image.fromarray(SHOWN).save("frog.png")
    opened.open("frog.png")
    teach(opened, "frog")
    content = saved(opened, "learned.safetensors").read_bytes()
    arrays = load(content)
    right = {"format": 1, "version": manifest()["version"], "new_labels": ["frog"], "example_rows": [2]}

    def changed(changes: dict[str, Any], **others: np.ndarray) -> bytes:
        made: bytes = save(arrays | others, metadata={ENTRY: json.dumps(right | changes)})
        return made

    wrong = {
        "it is no checkpoint, or a damaged one": [content[:-5], b"nothing", save(arrays)],
        f"it is of the model 0123, and this is {right['version']}": [changed({"version": "0123"})],
        "it is of format 9, not 1": [changed({"format": 9})],
        "it does not name its labels": [changed({"new_labels": None})],
        "it has another shape than this model's head": [
            changed({}, weights=np.zeros((5, 12), np.float32)),
            changed({}, bias=np.full(6, np.nan, np.float32)),
            changed({"example_rows": [3]}),
        ],
    }
    for reason, contents in wrong.items():
        for one in contents:
            write_bytes(Path("wrong.safetensors"), one)
            opened.page.evaluate("document.getElementById('told').textContent = ''")
            opened.page.set_input_files("#checkpoint", "wrong.safetensors")
            assert told(opened, reason) == f"wrong.safetensors is refused: {reason}."
    assert "frog (taught)" in known(opened)
