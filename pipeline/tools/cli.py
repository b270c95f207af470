"""The command line `viewfinder`: each command with its options and one line of help.

What a command does is in the module of its name, which is imported when the command runs: help and completion must not
wait for what scoring or DVC bring along.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any, cast

import click
from click.shell_completion import ShellComplete, get_completion_class

from pipeline.tools.tool import Tool

_SHELLS = ("bash", "zsh", "fish")
_FILE = click.Path(path_type=Path)
# As in params.yaml: `frames.per_second` and `frames.width`.
_RATE, _WIDTH = click.FloatRange(min=0, min_open=True), click.IntRange(min=16)
_POSITIVE = click.FloatRange(min=0, min_open=True)
_SCORE_EXAMPLES = """\b
viewfinder score models/deployed/model.tflite data/videos
viewfinder score theirs.tflite photos --labels labels.txt --mean 127.5 --std 127.5 --json > theirs.json
"""  # \b: the lines stay lines

_PREDICT_EXAMPLES = """\b
viewfinder predict photo.jpg clip.mov
viewfinder predict clip.mov --video labelled.mp4 --smooth 0.5
viewfinder predict photos/ --model theirs.tflite --labels labels.txt --json > answers.jsonl
"""

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_by_head = click.option("--head", help="By which of several heads models are compared.  [default: the first]")


class ChoicesOf(click.Choice[str]):
    """What a constant of another module holds, which is imported only when a command needs to know."""

    def __init__(self, module: str, constant: str) -> None:
        """Keep where the choices are."""
        self._module, self._constant = module, constant
        self.case_sensitive = True

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        """The choices."""
        return tuple(getattr(importlib.import_module(self._module), self._constant))


class AnyOf(ChoicesOf):
    """The same, but what is none of them goes to the command, which tells why."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take it as it is."""
        del param, ctx
        return str(value)


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "X[,X,X]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read them."""
        try:
            return tuple(float(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is neither a number nor three with commas between them", param, ctx)


def _show(url: str) -> None:
    click.launch(url)


_runtime = click.option(
    "--runtime",
    type=ChoicesOf("pipeline.config.evaluate", "RUNTIMES"),
    default="litert",
    show_default=True,
    help="What runs the model.",
)
_per_second = click.option(
    "--per-second", type=_RATE, default=4, show_default=True, help="Frames from a second of video."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def viewfinder() -> None:
    """Tools around the pipeline, for the project in the current folder. `dvc repro` runs the pipeline itself."""


@viewfinder.command(cls=Tool)
@_as_json
def summary(as_json: bool) -> None:
    """Tell where the model lies, how good it is, what to do next."""
    from pipeline.tools.summary import summarized, text_of

    found = summarized()
    _print(found.to_json() if as_json else text_of(found))


@viewfinder.command(cls=Tool)
@click.argument("revision", metavar="[REV]", required=False)
@_as_json
def compare(revision: str | None, as_json: bool) -> None:
    """Compare schemes with float32, or with another Git revision."""
    from pipeline.tools.compare import text_of, with_float32, with_revision

    found = with_float32() if revision is None else with_revision(revision)
    _print(found.to_json() if as_json else text_of(found))


@viewfinder.command(cls=Tool)
@click.option("--open/--no-open", "opens", default=False, show_default=True, help="Show it in the browser.")
def report(opens: bool) -> None:
    """Write one page with results, pictures, takes and settings."""
    from pipeline.tools.report import report

    path = report()
    _print(f"{path}\n")
    if opens:
        click.launch(str(path))


@viewfinder.command(cls=Tool, needs_project=False, epilog=_SCORE_EXAMPLES)
@click.argument("model", type=_FILE)
@click.argument("data", type=_FILE)
@click.option("--head", help="Which of several heads to score.  [default: the first]")
@click.option(
    "--labels", type=_FILE, help="Names, one a line, in the order of the outputs.  [default: the model's own]"
)
@click.option(
    "--mean", type=Numbers(), help="For pixels that are not 0..255: (pixel - mean) / std; a number, or one a channel."
)
@click.option("--std", type=Numbers(), help="See --mean.")
@click.option(
    "--resize",
    type=ChoicesOf("pipeline.config.resize", "RESIZE_CHOICES"),
    default="stretch",
    show_default=True,
    help="To the input.",
)
@_runtime
@_per_second
@click.option("--width", "width_pixels", type=_WIDTH, help="Scale wider pictures down first.  [default: as stored]")
@click.option("--threads", "num_threads", type=int, help="Of the latency.  [default: as conf/measure.yaml says]")
@_as_json
def score(as_json: bool, **options: Any) -> None:
    """Score any .tflite classifier on a folder of labelled pictures.

    DATA/<label>/ holds the takes of a label: videos, photos, or folders of either; a folder, and each file outside one,
    is one take, whose frames vote. Labels are matched by name, and DATA may hold fewer of them than the model knows:
    precision, recall and F1 are then of those that it holds.

    Pictures go into the model at the size at which they are stored, as MediaPipe on a phone takes them; with --width
    they are made narrower first, as the pipeline's own frames are. If the model does not end in a softmax, its outputs
    are looked at: what is not negative and adds up to 1 are probabilities, all else gets a softmax.

    Latency (of the forward pass) and memory are LiteRT's with XNNPACK on this machine, whichever runtime scores.
    """
    from pipeline.tools.score import Request, score, table

    metrics = score(Request(**options))
    _print(metrics if as_json else table(metrics))


@viewfinder.command(cls=Tool, needs_project=False, epilog=_PREDICT_EXAMPLES)
@click.argument("files", metavar="FILE...", type=_FILE, nargs=-1, required=True)
@click.option("--model", type=_FILE, help="A .tflite classifier.  [default: the deployed one]")
@click.option("--labels", type=_FILE, help="Names, one a line, in the order of the outputs.  [default: its own]")
@click.option("--mean", type=Numbers(), help="That pixels 0..255 are normalized with, for a float32 model.")
@click.option("--std", type=Numbers(), help="Likewise.")
@click.option(
    "--resize",
    type=ChoicesOf("pipeline.config.resize", "RESIZE_CHOICES"),
    help="How pictures become square.  [default: as manifest.json beside the model says, or stretch]",
)
@_runtime
@_per_second
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability below which nothing is named.  [default: the model's own]",
)
@click.option(
    "--smooth",
    "smooth_seconds",
    type=click.FloatRange(min=0),
    default=0,
    help="Seconds over which a video's answers are averaged.  [default: not at all]",
)
@click.option("--video", type=_FILE, help="Write the video with its answers drawn in, every frame, to this .mp4.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each frame.")
def predict(as_json: bool, model: Path | None, **options: Any) -> None:
    """Ask a model what pictures and videos show.

    Each FILE is a picture, a video, or a folder of these. A row is printed for each picture, and for each stretch of a
    video on which the answer stays the same. Where the most probable label is below the model's threshold, the answer
    is "none of them".

    A file that cannot be read is told at the end, after the answers to all others.
    """
    from pipeline.tools.predict import Request, deployed_model, json_lines, predict, table

    answers = predict(Request(model=model or deployed_model(), **options))
    _print(json_lines(answers) if as_json else table(answers))
    if answers.error is not None:
        raise answers.error


@viewfinder.command(cls=Tool)
@click.argument("backbone", default="efficientnet_lite0")
@click.option("--scheme", default="int8", show_default=True, help="A file in conf/quantization/.")
def pretrained(backbone: str, scheme: str) -> None:
    """Make a classifier of ImageNet's 1,000 classes.

    No video is needed: models/pretrained/ holds the backbone as it was trained, quantized as a scheme says, with its
    classifier, names, manifest and pictures with known answers. BACKBONE is one of the family efficientnet_lite
    (efficientnet_lite0, 1 and 2 need no download).
    """
    from pipeline.tools.pretrained import pretrained

    _print(f"{pretrained(backbone, scheme)}\n")


@viewfinder.command("try", cls=Tool)
@click.argument("folder", type=_FILE, required=False)
@click.option("--beside", metavar="SCHEME", multiple=True, help="Show another scheme beside it; may be repeated.")
@click.option("--open/--no-open", "opens", default=True, show_default=True, help="Show it in the browser.")
def try_page(folder: Path | None, beside: tuple[str, ...], opens: bool) -> None:
    """Write a page in which the model looks through a camera.

    models/try.html holds the deployed model, or that of FOLDER (models/pretrained), the phone's own runtime compiled
    for browsers, and the pictures with known answers, which it checks first. It needs no server and no network, and
    nothing leaves it: send it to a colleague, or put it on any https host and open it on a phone.

    The runtime comes from npm (conf/try.yaml), 12 MB, once.
    """
    from pipeline.tools.try_page import write_page

    path = write_page(beside, folder)
    _print(f"{path}\n")
    if opens:
        click.launch(str(path))


@viewfinder.command(cls=Tool)
@click.option(
    "--new-labels",
    "num_new_labels",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="That it has room for.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=2), default=64, show_default=True, help="Rows of a training step."
)
@click.option(
    "--centres",
    "num_centres",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Of each label's features, against forgetting.",
)
@click.option(
    "--checkpoint", type=_FILE, help="Make nothing: tell what this file, saved by a phone or the page, knows."
)
@click.option("--page", "makes_page", is_flag=True, help="Also a page in which a browser teaches it by the camera.")
@click.option("--open/--no-open", "opens", default=True, show_default=True, help="Show that page in the browser.")
def trainable(checkpoint: Path | None, makes_page: bool, opens: bool, **options: int) -> None:
    """Make a model that goes on learning, on the phone.

    models/trainable/ holds the deployed model with a head whose weights change: an app teaches it new labels, without
    a server and without a picture leaving the phone. With --page, models/trainable/teach.html does so in a browser; its
    runtime comes from npm (conf/try.yaml), 12 MB, once.
    """
    from pipeline.tools.teach_page import write_teach_page
    from pipeline.tools.trainable import Request, learned, trainable

    if checkpoint is not None:
        if makes_page:
            raise click.UsageError("--checkpoint makes nothing, so it does not go with --page.")
        _print(learned(checkpoint))
        return
    path = trainable(Request(**options))
    if makes_page:
        path = write_teach_page()
    _print(f"{path}\n")
    if makes_page and opens:
        click.launch(str(path))


@viewfinder.command(cls=Tool)
@click.argument("folder", type=_FILE, default=Path("models/deployed"))
@click.option(
    "--cpu",
    "chips",
    type=ChoicesOf("pipeline.litert.arm64_chips", "CHIPS"),
    multiple=True,
    help="A chip; may be repeated.  [default: all]",
)
@click.option("--scheme", "schemes", multiple=True, help="One that was made; may be repeated.  [default: all]")
@click.option("--pictures", "max_pictures", type=click.IntRange(min=1), help="Of golden/, at most.  [default: all]")
@_as_json
def arm64(
    folder: Path, chips: tuple[str, ...], schemes: tuple[str, ...], max_pictures: int | None, as_json: bool
) -> None:
    """Prove models on ARM64, the processor of phones.

    Runs the golden pictures of FOLDER, in every scheme that was made, in LiteRT for ARM64 on emulated chips, and holds
    the answers against LiteRT on this machine. Set up once in .cache/arm64, from Debian's packages and PyPI.
    """
    from dataclasses import asdict

    from pipeline.litert.arm64_chips import CHIPS
    from pipeline.tools.arm64 import compared, refuse_broken, table

    found = compared(folder, chips or tuple(CHIPS), max_pictures, schemes)
    _print({"comparisons": [asdict(one) for one in found]} if as_json else table(found))
    refuse_broken(found)


@viewfinder.command(cls=Tool)
@click.argument("folder", type=_FILE, default=Path("models/deployed"))
@click.option(
    "--weights",
    type=AnyOf("pipeline.coreml.weights", "WEIGHTS"),
    default="float16",
    show_default=True,
    help="In which numbers they are kept.",
)
@click.option("--author", default="not stated", show_default=True, help="For the package's metadata.")
@click.option("--license", "license_name", default="not stated", show_default=True, help="Likewise.")
@_as_json
def coreml(folder: Path, weights: str, author: str, license_name: str, as_json: bool) -> None:
    """Make a package for Core ML, Apple's own runtime.

    models/coreml/Viewfinder.mlpackage is made from the model of FOLDER, or from the float32 scheme's if that is
    quantized. The saved package is computed on this machine and held against LiteRT on the golden pictures; one that
    answers otherwise is not kept.

    float32 and float16 need iOS 15, int8 and palette8 (each weight is one of 256 values of its layer) iOS 16.
    """
    from pipeline.tools.coreml import Proof, coreml, table, to_json

    def show(proof: Proof) -> None:
        _print(to_json(proof) if as_json else table(proof))

    coreml(folder, weights, author=author, license_name=license_name, show=show)


@viewfinder.command(cls=Tool)
@click.argument("folder", type=_FILE, default=Path("models/deployed"))
@_as_json
def onnx(folder: Path, as_json: bool) -> None:
    """Make an ONNX file, for desktops and servers.

    models/onnx/model.onnx is made from the model of FOLDER, or from the float32 scheme's if that is quantized. It is
    run in onnxruntime on the golden pictures, and held against LiteRT; one that answers otherwise is not kept.
    """
    from pipeline.tools.onnx import Proof, onnx, table, to_json

    def show(proof: Proof) -> None:
        _print(to_json(proof) if as_json else table(proof))

    onnx(folder, show)


@viewfinder.command(cls=Tool)
@click.option(
    "--max-flash-bytes",
    type=click.IntRange(min=1),
    help="Write nothing if the model is larger.  [default: as `gate` says]",
)
@click.option(
    "--max-arena-bytes",
    type=click.IntRange(min=1),
    help="Write nothing if TFLM needs more memory for it.  [default: as `gate` says]",
)
@click.option(
    "--frames", "max_frames", type=click.IntRange(min=1), help="Test frames to score, at most.  [default: all]"
)
@_as_json
def mcu(max_flash_bytes: int | None, max_arena_bytes: int | None, max_frames: int | None, as_json: bool) -> None:
    """Write the model as a microcontroller's firmware takes it.

    models/mcu/ holds the int8 model in integers alone, from the pixel to the answer: as a .tflite file and as a C
    array with its header, a picture with a known answer, an example in C++ with a Makefile, and measured.json.

    TensorFlow Lite for Microcontrollers (the package tflite-micro) measures the memory that it takes, and must answer
    bit for bit as the kernels that score it on the test frames.
    """
    from pipeline.config.gate import MicroLimits
    from pipeline.tools.mcu import mcu, table

    measured = mcu(MicroLimits(max_flash_bytes, max_arena_bytes), max_frames)
    _print(measured if as_json else table(measured))


@viewfinder.command(cls=Tool)
@click.option("--scheme", help="Whose bottlenecks.  [default: as `deploy` in params.yaml says]")
@click.option("--clients", "table", type=_FILE, help="Who filmed what: a table with the columns take,client.")
@click.option("--num-clients", type=click.IntRange(min=1), help="Make up so many clients.  [default: each take is one]")
@click.option("--skew", type=_POSITIVE, help="Of their labels: lower is more uneven (Dirichlet).  [default: even]")
@click.option("--rounds", type=click.IntRange(1, 1000), default=30, show_default=True, help="Of averaging.")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), help="Of clients a round.  [default: all, or 50]")
@click.option(
    "--drop", type=click.FloatRange(0, 1, max_open=True), default=0, show_default=True, help="Share that goes away."
)
@click.option(
    "--local-epochs", type=click.IntRange(min=1), default=10, show_default=True, help="Steps of a client in a round."
)
@click.option("--learning-rate", type=_POSITIVE, help="Of these steps.  [default: by the length of features]")
@click.option(
    "--momentum", type=click.FloatRange(0, 1, max_open=True), help="Of the server.  [default: 0.9, or 0 with --clip]"
)
@click.option("--clip", type=_POSITIVE, help="Norm that each client's update is cut to.  [default: as it is]")
@click.option(
    "--noise", type=click.FloatRange(min=0), default=0, show_default=True, help="On the updates, in units of --clip."
)
@click.option("--folds", "num_folds", type=click.IntRange(2, 20), default=5, show_default=True, help="To hold out.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all that is drawn.")
@_as_json
def federate(as_json: bool, **options: Any) -> None:
    """Train the head as if no frame left its phone.

    Simulates federated averaging on this machine, with Flower: each take, or each person of a table, is a client that
    keeps its frames. models/federated/ gets the head, a model with it, and how good it is on clients that were held
    out, beside training in one place and beside each client alone. Flower is set up once in .cache/federate, from PyPI.
    """
    from pipeline.tools.federate import Request, federate, table

    result = federate(Request(**options))
    _print(result if as_json else table(result))


@viewfinder.command(cls=Tool)
@click.option("--lan", is_flag=True, help="Let phones in your network come, by https.  [default: this machine alone]")
@click.option("--address", help="Of this machine in that network.  [default: the one that leads outside]")
@click.option("--port", type=click.IntRange(1, 65535), default=8443, show_default=True, help="To listen at.")
@click.option("--open/--no-open", "opens", default=False, show_default=True, help="Show it in this machine's browser.")
def film(lan: bool, address: str | None, port: int, opens: bool) -> None:
    """Film takes with a phone, straight into data/videos.

    Prints an address, and with --lan a QR code. The page films five seconds for the label that you touch, and they are
    kept in data/videos/<label>/ if they can be read. It is the page of `viewfinder try` as well: what the model gets
    wrong is filmed by one touch.

    The address holds a secret that is new at each start. Ctrl-C ends it. Then: dvc repro
    """
    from pipeline.tools.film import film

    film(lan=lan, address=address, port=port, opened=_show if opens else None)


@viewfinder.command(cls=Tool)
@_by_head
@_as_json
def sweep(head: str | None, as_json: bool) -> None:
    """Compare architectures and schemes (conf/sweep.yaml)."""
    from pipeline.tools.sweep import run_sweep

    run_sweep(head, as_json=as_json)


@viewfinder.command(cls=Tool)
@click.option("--trials", type=int, help="How many the study has in the end.  [default: as conf/search.yaml says]")
@_by_head
def search(trials: int | None, head: str | None) -> None:
    """Search settings and architectures (conf/search.yaml)."""
    from pipeline.tools.search import run_search

    run_search(trials, head)


@viewfinder.command("import", cls=Tool)
@click.argument("folder", type=_FILE)
@click.option("--link", "links", is_flag=True, help="Make hard links, not copies.")
def import_folder(folder: Path, links: bool) -> None:
    """Bring a data set (<label>/*.jpg) into data/photos.

    FOLDER holds a folder for each label, with photos in it; a folder in that is one take. Nothing is overwritten, and
    all comes in or nothing. The same content under one label comes in once.

    The parts of a set (train/, val/, test/) are merged, and each photo's name begins with its part: the line for
    params.yaml that keeps its own test part is printed.
    """
    from pipeline.tools.import_folder import import_folder

    _print(import_folder(folder, links=links))


@viewfinder.group()
def cache() -> None:
    """Show the take cache, or make room in it."""


@cache.command(cls=Tool)
def show() -> None:
    """Tell where it is and how large."""
    from pipeline.tools.cache import shown

    _print(shown())


@cache.command(cls=Tool)
@click.option("--max-bytes", type=int, help="Size to shrink to.  [default: as conf/cache.yaml says]")
def make_room(max_bytes: int | None) -> None:
    """Remove results, the least recently used first."""
    from pipeline.tools.cache import room_made

    _print(room_made(max_bytes))


@viewfinder.command(cls=Tool)
@click.option("--all", "everything", is_flag=True, help="Also models/deployed, the caches, and all of plots/.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean(everything: bool, yes: bool) -> None:
    """Remove what `dvc repro` brings back, or more with --all.

    What Git tracks, data/videos, data/photos, weights/ and DVC's own cache stay in any case.
    """
    from pipeline.tools.clean import removals, remove, total_megabytes

    found = removals(everything=everything)
    _print("".join(f"{removal}\n" for removal in found) or "nothing to remove\n")
    question = f"Remove these {total_megabytes(found):,.1f} MB?"
    if found and everything and not yes:
        click.confirm(question, err=True, abort=True)  # whoever goes on after this command must not, after a no
    for removal in found:
        remove(removal)


@viewfinder.command(cls=Tool, needs_project=False)
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print what a shell needs for completion by Tab.

    bash, zsh: eval "$(viewfinder completion bash)"; fish: viewfinder completion fish | source
    """
    found = cast(type[ShellComplete], get_completion_class(shell))  # click knows all in _SHELLS
    _print(found(viewfinder, {}, "viewfinder", "_VIEWFINDER_COMPLETE").source() + "\n")


def _print(result: str | dict[str, Any]) -> None:
    """Print a result to stdout: text as it is, all else as JSON."""
    text = result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(text)
    sys.stdout.flush()
