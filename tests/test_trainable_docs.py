"""The code of docs/pages/trainable.md: Python and JavaScript are run as they stand, Kotlin and Swift are parsed."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from pipeline.files import layout, write_text
from pipeline.images.model_input import to_model_input
from pipeline.litert.learner import SIGNATURES, Learner
from pipeline.shipping.checkpoint import ENTRY, read_checkpoint
from pipeline.tools import try_page
from pipeline.tools.cli import viewfinder
from tests import tiny_models, tiny_project
from tests.conftest import PROJECT
from tests.opened_pages import runtime_files, started
from tests.test_app_projects import faults
from tests.test_deploy import deploy_tiny

PAGE = (PROJECT / "docs/pages/trainable.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL))  # the last of each language
TEACHES, RESTORES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FOLDER = layout.TRAINABLE
PICTURES = [to_model_input(tiny_project.picture(2, seed), 16, "stretch") for seed in range(5)]


@pytest.fixture
def made(folder: Path) -> Path:
    for name in ("dvc.yaml", "params.yaml"):
        write_text(Path(name), "")
    deploy_tiny("float32")
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["float32"])
    assert CliRunner().invoke(viewfinder, ["trainable", "--batch-size", "16"]).exit_code == 0
    return folder


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(code, "docs/pages/trainable.md", "exec"), names)
    return names


def test_the_python_teaches_saves_and_restores(made: Path) -> None:
    names = run(TEACHES, {"pictures": PICTURES})
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    checkpoint = read_checkpoint(Path("learned.safetensors"), manifest)
    assert checkpoint.new_labels == ("stapler",)
    taught = names["infer"](image=PICTURES[0][np.newaxis])["probabilities"][0]
    assert taught.argmax() == 2
    names["model"] = Interpreter(str(FOLDER / "trainable.tflite"))
    run(RESTORES, names)
    again = names["model"].get_signature_runner("infer")(image=PICTURES[0][np.newaxis])["probabilities"][0]
    np.testing.assert_array_equal(again, taught)
    told = {"version": "0123"}
    save_file(load_file("learned.safetensors"), "learned.safetensors", {ENTRY: json.dumps(told)})
    with pytest.raises(SystemExit, match=r"learned by the model 0123, and this is [0-9a-f]{16}: teach it anew"):
        run(RESTORES, names)


@pytest.mark.slow
def test_the_javascript_teaches_in_a_browser(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = runtime_files()
    monkeypatch.setattr(try_page, "runtime", lambda: files)
    assert CliRunner().invoke(viewfinder, ["try", "--no-open"]).exit_code == 0
    given = {
        name: encoded((FOLDER / name).read_bytes()) for name in ("manifest.json", "trainable.tflite", "replay.bin")
    }
    pixels = [encoded(picture.tobytes()) for picture in PICTURES]
    bare = re.sub(r'<script type="module">.*?</script>', "", Path("models/try.html").read_text(), flags=re.DOTALL)
    write_text(Path("models/bare.html"), re.sub(r"<meta http-equiv=[^>]*>", "", bare))  # the runtime alone
    code = f"""(async () => {{
      {(PROJECT / "pipeline/tools/web/runtime.js").read_text(encoding="utf-8")}
      const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
      {BLOCKS["javascript"]}
      const files = Object.fromEntries(Object.entries({json.dumps(given)}).map(([name, text]) => [name, bytes(text)]));
      const one = await learner(await loadRuntime(), files), pictures = {json.dumps(pixels)}.map(bytes);
      const start = await one.save(), examples = [];
      for (const picture of pictures) examples.push((await one.infer(picture)).features);
      await one.teach(examples, one.manifest.head.num_labels);
      const taught = (await one.infer(pictures[0])).probabilities, saved = await one.save();
      await one.restore(start);
      const forgotten = (await one.infer(pictures[0])).probabilities;
      await one.restore(saved);
      const again = (await one.infer(pictures[0])).probabilities;
      return [taught, forgotten, again, saved.bias].map(numbers => [...numbers]);
    }})()"""
    with started(tmp_path / "camera.mjpeg", [tiny_project.picture(0, 1)]) as browser:
        page = browser.new_page()
        page.goto((made / "models/bare.html").as_uri())
        taught, forgotten, again, bias = page.evaluate(code)
    assert int(np.argmax(taught)) == 2
    assert forgotten[2:] == [0, 0, 0, 0]
    assert taught == again
    learner = Learner((FOLDER / "trainable.tflite").read_bytes())
    assert forgotten == pytest.approx(learner.infer(PICTURES[0])[1].tolist(), abs=1e-6)
    assert len(bias) == 6


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(("language", "suffix"), [("kotlin", ".kt"), ("swift", ".swift")])
def test_kotlin_and_swift_parse_and_name_what_is_there(made: Path, language: str, suffix: str) -> None:
    code = BLOCKS[language]
    assert faults(code.encode(), suffix) == []
    assert faults(code.replace("}", "", 1).encode(), suffix)  # it would be noticed
    model = Interpreter(str(FOLDER / "trainable.tflite"))
    signatures = model.get_signature_list()
    arrays = {name for one in signatures.values() for name in (*one["inputs"], *one["outputs"])}
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    keys = {*manifest, *manifest["head"], *manifest["training"], *manifest["replay"]}
    run(TEACHES, {"pictures": PICTURES})
    header = json.loads(header_of(Path("learned.safetensors").read_bytes()))
    told = json.loads(header["__metadata__"][ENTRY])
    keys |= {*header, *told, ENTRY, *header["weights"], header["weights"]["dtype"]}
    used = {*re.findall(r'"(\w+)"', code)}
    assert {*SIGNATURES} <= used
    assert arrays - used == ({"loss"} if language == "swift" else set())
    assert used - arrays - keys - {*SIGNATURES} == set()
    if language == "swift":
        (fields,) = re.findall(r"struct Head: Decodable \{ let (.*?): Int \}", code)
        assert {*fields.split(", ")} <= {*manifest["head"]}
        assert {*re.findall(r"recipe\.(\w+)", code)} == {*manifest["training"]}


def header_of(content: bytes) -> bytes:
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


def test_every_language_is_tried() -> None:
    assert {*BLOCKS} == {"bash", "python", "javascript", "kotlin", "swift"}
