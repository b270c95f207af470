"""Which runtime takes which type of pixels: `python -m bench.input_types [--frames 40] [--tflm PYTHON]`.

Runs every scheme of the project, as it stands in models/classifiers/, with uint8 and with float32 pixels
(`inference_input_type`) in every runtime that is here. A cell is the largest factor between a probability and LiteRT's,
as golden.json means it: on the golden pictures, and on frames of the takes; then on what percentage of those frames
both name the same. `at its size` is given pictures that have the model's size already, which tells the runtime's
arithmetic from its scaling.

Runtimes of browsers need Chromium and the package playwright, and MediaPipe's package of npm is downloaded once. The
GPU is a software one: it calculates as GPUs do, but not as fast. `--tflm` is a Python with the package tflite-micro.
"""

import argparse
import base64
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.add_one_take import project_params
from pipeline.config.deploy import FLOAT32, INPUT_TYPES
from pipeline.config.try_page import PackageConfig, try_config
from pipeline.errors import PipelineError
from pipeline.files import layout
from pipeline.images.codec import decode_jpeg, encode_png
from pipeline.images.model_input import to_model_input
from pipeline.images.photos import read_photo
from pipeline.litert.golden import largest_factor
from pipeline.litert.input_type import with_float_input
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import read_labels, read_outputs, read_threshold
from pipeline.litert.runtimes import open_classifier
from pipeline.metrics.predictions import read_predictions
from pipeline.metrics.probabilities import named
from pipeline.takes.single_frame import read_frame
from pipeline.tools.npm_package import archive_of, files_of
from pipeline.tools.try_page import PACKAGES_FOLDER
from tests.browsers import BROWSERS, browser_path

MEDIAPIPE = PackageConfig(
    "@mediapipe/tasks-vision",
    "1.1.0",
    "sha512-ZJqh0wMKOINorfSffvDAxzyO1//c+FiG3IkzOdNDnLqvBB3DbMfj0bB/tys2SNf9S914sgoIbIpF4HTOi336cg==",
)
SOFTWARE_GPU = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
SITE = "http://bench.invalid/"  # nothing is asked for outside this process
PAGE = """<!doctype html><script type="module">
import {FilesetResolver, ImageClassifier} from "./vision_bundle.mjs";
window.classify = async (model, delegate, pictures) => {
  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const options = {baseOptions: {modelAssetBuffer: bytes(model), delegate}, maxResults: -1, scoreThreshold: 1e-30};
  const classifier = await ImageClassifier.createFromOptions(await FilesetResolver.forVisionTasks("./wasm"), options);
  const found = [];
  for (const picture of pictures) {
    const image = await createImageBitmap(new Blob([bytes(picture)], {type: "image/png"}));
    const heads = classifier.classify(image).classifications;
    found.push(heads.flatMap(head => head.categories.map(({index, score}) => [head.headIndex, index, score])));
  }
  classifier.close();
  return found;
};
window.ready = true;
</script>"""
TFLM = """import sys, numpy
from tflite_micro import runtime
model, given, answers, num_outputs = sys.argv[1:]
interpreter = runtime.Interpreter.from_file(model, arena_size=100_000_000)
found = []
for picture in numpy.load(given):
    interpreter.set_input(picture[None], 0)
    interpreter.invoke()
    found.append(numpy.concatenate([interpreter.get_output(number).ravel() for number in range(int(num_outputs))]))
numpy.save(answers, found)
"""

Rgb = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Answer = Callable[[bytes, Sequence[Rgb]], list[Floats]]


class RefusedError(Exception):
    """A runtime does not take a model; the message is the runtime's."""


@dataclass(frozen=True)
class Runtime:
    """What answers pictures.

    Attributes:
        name: In the table.
        answer: From a model and pictures, uint8 [height, width, 3].
        is_scaled: Whether it is given pictures of the model's own size.
        num_frames: Frames that it is asked about, at most; None for all.
    """

    name: str
    answer: Answer
    is_scaled: bool = False
    num_frames: int | None = None


def in_python(runtime: str) -> Answer:
    """Return what asks one of the pipeline's own runtimes."""

    def answer(model: bytes, pictures: Sequence[Rgb]) -> list[Floats]:
        try:
            classifier = open_classifier(model, runtime=runtime, resize="stretch")
        except PipelineError as error:
            raise RefusedError(error.found) from error
        found = [classifier(rgb) for rgb in pictures]
        classifier.close()
        return found

    return answer


def in_browser(page: Any, said: list[str], delegate: str) -> Answer:
    """Return what asks MediaPipe in a browser's page."""

    def answer(model: bytes, pictures: Sequence[Rgb]) -> list[Floats]:
        said.clear()
        given = [delegate, [base64.b64encode(encode_png(rgb)).decode() for rgb in pictures]]
        try:
            script = "([model, delegate, pictures]) => classify(model, delegate, pictures)"
            found = page.evaluate(script, [base64.b64encode(model).decode(), *given])
        except Exception as error:
            lines = [line for text in said for line in text.splitlines() if ": Not supported" in line or "CAST" in line]
            raise RefusedError(lines[0] if lines else str(error).splitlines()[0]) from error
        starts = np.cumsum([0, *(len(output.labels) for output in read_outputs(model))])
        answers = np.zeros((len(pictures), starts[-1]), np.float32)
        for row, categories in zip(answers, found, strict=True):
            for head, index, score in categories:
                row[starts[head] + index] = score
        return list(answers)

    return answer


def in_tflm(python: str) -> Answer:
    """Return what asks TensorFlow Lite for Microcontrollers, in the Python that has it."""

    def answer(model: bytes, pictures: Sequence[Rgb]) -> list[Floats]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "model.tflite").write_bytes(model)
            np.save(folder / "given.npy", np.array(pictures, Model(model).input_type))
            files = [str(folder / file) for file in ("model.tflite", "given.npy", "answers.npy")]
            num_outputs = str(len(read_outputs(model)))
            done = subprocess.run(
                [python, "-c", TFLM, *files, num_outputs], check=False, capture_output=True, text=True, encoding="utf-8"
            )
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "not supported" in line or "not true" in line]
                raise RefusedError(lines[0] if lines else done.stderr.strip().splitlines()[-1])
            return list(np.load(files[-1]))

    return answer


@contextmanager
def browser_page() -> Iterator[tuple[Any, list[str]]]:
    """Open MediaPipe in a browser, and yield the page and what it says on the console."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - of developers alone

    path = browser_path()
    if path is None:
        sys.exit(f"no browser here (apt-get install chromium, or --no-browser); looked for {', '.join(BROWSERS)}")
    package = files_of(archive_of(MEDIAPIPE, try_config().registry, PACKAGES_FOLDER))
    kinds = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}

    def serve(route: Any) -> None:
        name = route.request.url.removeprefix(SITE)
        if name == "":
            route.fulfill(body=PAGE, content_type="text/html")
        elif name in package:
            route.fulfill(body=package[name], content_type=kinds.get(Path(name).suffix, "text/plain"))
        else:
            route.abort()

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(SOFTWARE_GPU))
        page, said = browser.new_page(), list[str]()
        page.set_default_timeout(0)
        page.route("**/*", serve)
        page.on("console", lambda message: said.append(message.text))
        page.goto(SITE)
        page.wait_for_function("window.ready")
        yield page, said
        browser.close()


def runtimes(page: Any, said: list[str], tflm: str | None) -> list[Runtime]:
    """Return all that are here."""
    found = [Runtime("LiteRT", in_python("litert")), Runtime("MediaPipe, Python", in_python("mediapipe"))]
    if page is not None:
        found += [
            Runtime("MediaPipe, browser, CPU", in_browser(page, said, "CPU")),
            Runtime("MediaPipe, browser, GPU", in_browser(page, said, "GPU")),
            Runtime("MediaPipe, browser, GPU, at its size", in_browser(page, said, "GPU"), is_scaled=True),
        ]
    return found + ([Runtime("TFLM, at its size", in_tflm(tflm), is_scaled=True, num_frames=0)] if tflm else [])


def cell(runtime: Runtime, model: bytes, golden: Sequence[Rgb], frames: Sequence[Rgb]) -> str:
    """Compare a runtime's answers with LiteRT's."""
    run, labels, threshold = Model(model), read_labels(model), read_threshold(model)
    pictures = [*golden, *frames[: runtime.num_frames]]
    scaled = [to_model_input(rgb, run.input_pixels, "stretch") for rgb in pictures]
    expected = [run(rgb) for rgb in scaled]
    try:
        found = runtime.answer(model, scaled if runtime.is_scaled else pictures)
    except RefusedError as error:
        return f"refused: {error}"
    factors = [largest_factor(one, other) for one, other in zip(found, expected, strict=True)]
    told = f"{max(factors[: len(golden)]):.4g}"
    of_frames = slice(len(golden), None)
    if not factors[of_frames]:
        return told
    pairs = zip(found[of_frames], expected[of_frames], strict=True)
    num = len(labels)  # of the first head
    same = np.mean(
        [named(labels, one[:num], threshold) == named(labels, other[:num], threshold) for one, other in pairs]
    )
    return f"{told}; {max(factors[of_frames]):.4g}, {same:.1%}"


def table(
    models: Mapping[str, bytes], every: Sequence[Runtime], golden: Sequence[Rgb], frames: Sequence[Rgb]
) -> list[str]:
    """Return the table's lines, each as soon as it is known."""
    print(f"| runtime | scheme | {' | '.join(INPUT_TYPES)} |\n|---|---|{'---|' * len(INPUT_TYPES)}", flush=True)
    lines = []
    for runtime in every:
        for scheme, content in models.items():
            forms = [with_float_input(content) if kind == FLOAT32 else content for kind in INPUT_TYPES]
            cells = [cell(runtime, form, golden, frames) for form in forms]
            lines.append(f"| {runtime.name} | {scheme} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.input_types", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=40, help="of the takes, evenly chosen; default 40")
    parser.add_argument("--tflm", metavar="PYTHON", help="a Python that has tflite-micro")
    parser.add_argument("--no-browser", action="store_true", help="leave out what runs in a browser")
    arguments = parser.parse_args()
    models = {scheme: layout.model(scheme).read_bytes() for scheme in project_params()["quantization"]}
    folder = layout.DEPLOYED / "golden"
    entries = json.loads((folder / "golden.json").read_text(encoding="utf-8"))["pictures"]
    golden = [read_photo(folder / entry["file"], width_pixels=100_000) for entry in entries]
    rows = read_predictions(layout.predictions(next(iter(models))))
    chosen = np.unique(np.linspace(0, len(rows) - 1, arguments.frames).astype(int))
    frames = [decode_jpeg(read_frame(str(row.take), str(row.frame_id))[0]) for row in rows.iloc[chosen].itertuples()]
    if arguments.no_browser:
        table(models, runtimes(None, [], arguments.tflm), golden, frames)
        return
    with browser_page() as (page, said):
        table(models, runtimes(page, said, arguments.tflm), golden, frames)


if __name__ == "__main__":
    main()
