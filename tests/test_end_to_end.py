"""What a newcomer does, with real weights, real DVC and small clips: run, run again, edit, compare, break."""

import json
import re
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import yaml
from ai_edge_litert.interpreter import Interpreter

from tests.clips import write_clip
from tests.conftest import PROJECT
from tests.opened_pages import Opened, runtime_files, started
from tests.sandbox import Sandbox

pytestmark = pytest.mark.slow

COPIED = (
    *("pipeline", "conf", "dvc.yaml", "params.yaml", "requirements.lock", "requirements-dev.lock"),
    *(".dvcignore", ".gitignore", "data/calibration", "data/photos", "data/strangers"),
)
COLOURS = {"rote Möhre": (190, 60, 30), "coffee mug": (60, 60, 150), "chat tigré": (90, 140, 60)}
NUM_TAKES = 4


@dataclass(frozen=True)
class Run:
    """The whole project in a sandbox, and what its first run gave: the stages that ran, and what was printed."""

    project: Sandbox
    stages: list[str]
    printed: str


def take(colour: tuple[int, int, int], seed: int) -> list[np.ndarray]:
    """A soft blob of some colour that wanders over noise, 15 frames of 64 x 96."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :96]
    background = generator.normal(128, 30, (64, 96, 3))
    frames = []
    for i in range(15):
        blob = np.exp(-((y - 20 - i) ** 2 + (x - 30 - 2 * i - seed % 7) ** 2) / 400)[..., None]
        frames.append(np.clip(background * (1 - blob) + np.array(colour) * blob, 0, 255).astype(np.uint8))
    return frames


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = Sandbox(tmp_path_factory.mktemp("end_to_end") / "project")
    made.copy(*COPIED)
    for number, (label, colour) in enumerate(COLOURS.items()):
        for i in range(NUM_TAKES):
            path = made.folder / "data/videos" / label / f"IMG_{number}{i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_clip(path, take(colour, 10 * number + i), rate=10)
    made.edit("steps: 1000", "steps: 60")
    made.edit("[float32, float16, int8]", "[float32, int8]")  # float16 costs time here and shows nothing new
    made.begin()
    run = Run(made, *made.repro())
    made.commit()
    return run


@pytest.fixture
def project(first_run: Run) -> Sandbox:
    return first_run.project


SCHEMES = ("float32", "int8")


def test_the_first_run_runs_every_stage_in_order(first_run: Run) -> None:
    of_a_scheme = ("quantize", "bottlenecks", "train", "crossval", "multihead", "assemble", "evaluate")
    matrix = [f"{stage}@{scheme}" for stage in of_a_scheme for scheme in SCHEMES]
    before = ["code", "check", "split", "frames", "augment", "architecture", "backbone", "finetune"]
    assert sorted(first_run.stages) == sorted([*before, *matrix, "inspect", "measure", "report", "gate", "deploy"])
    assert first_run.stages[:2] == ["code", "check"]
    assert "Traceback" not in first_run.printed
    assert "Warning" not in first_run.printed


def test_the_deployed_folder_holds_a_model_that_runs(project: Sandbox) -> None:
    deployed = project.folder / "models/deployed"
    manifest = json.loads((deployed / "manifest.json").read_text())
    assert manifest["labels"] == sorted(COLOURS)
    assert (deployed / "labels.txt").read_text().splitlines() == sorted(COLOURS)
    interpreter = Interpreter(model_path=str(deployed / "model.tflite"))
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["dtype"], list(given["shape"])) == (np.uint8, manifest["input"]["shape"])
    interpreter.set_tensor(given["index"], np.zeros(given["shape"], np.uint8))
    interpreter.invoke()
    assert interpreter.get_tensor(answer["index"]).sum() == pytest.approx(1, abs=1e-5)


def test_the_model_has_learned_to_tell_colours_apart(project: Sandbox) -> None:
    metrics = project.json("dvc", "metrics", "show", "--json")[""]["data"]
    names = [*(f"schemes/{scheme}" for scheme in SCHEMES), "deployed"]
    assert set(metrics) == {f"metrics/{name}.json" for name in names}
    for name, entry in metrics.items():
        assert entry["data"]["accuracy"] > 0.6, name  # guessing gives 0.33
    sizes = [metrics[f"metrics/schemes/{scheme}.json"]["data"]["size_bytes"] for scheme in SCHEMES]
    assert sizes[0] > 3 * sizes[1]


ALL_THAT_IS_SAID = """() => {
  window.said = [];
  for (const panel of document.querySelectorAll(".model")) {
    const scheme = panel.querySelector("h2").textContent.split(",")[0], answer = panel.querySelector(".answer");
    new MutationObserver(() => window.said.push([scheme, answer.textContent])).observe(answer, {childList: true});
  }
}"""


def test_in_a_browser_the_camera_sees_a_take_and_nearly_every_frame_is_named_right(project: Sandbox) -> None:
    """What a person does with the model first: look at the thing that was filmed, two schemes side by side."""
    label = "chat tigré"  # so short a training tells the two others apart less surely
    runtime_files()  # into this project's cache, or the test is skipped
    shutil.copytree(PROJECT / ".cache/web", project.folder / ".cache/web", dirs_exist_ok=True)
    frames = take(COLOURS[label], 10 * list(COLOURS).index(label))
    with started(project.folder.parent / "camera.mjpeg", frames) as browser:
        project.run("viewfinder", "try", "--no-open", "--beside", "int8")
        opened = Opened(browser, (project.folder / "models/try.html").as_uri())
        assert opened.proof.startswith("Answers as on the phone: ")
        opened.page.evaluate(ALL_THAT_IS_SAID)
        opened.page.click("#camera")
        for _ in range(600):  # the page's policy lets no test wait inside it
            opened.page.wait_for_timeout(200)
            if len(answers := opened.page.evaluate("() => window.said")) >= 200:
                break
        assert len(answers) >= 200
        opened.page.close()
    for scheme in SCHEMES:
        named = [answer for one, answer in answers if one == scheme]
        assert named
        assert named.count(label) >= 0.99 * len(named)
    assert opened.said == []
    assert opened.asked == [opened.requests[0]]


def test_a_second_run_runs_nothing(project: Sandbox) -> None:
    assert project.repro()[0] == []


def test_the_summary_names_schemes_and_the_deployed_one(project: Sandbox) -> None:
    printed = project.run("viewfinder", "summary")
    assert "float32 *" in printed
    assert all(scheme in printed for scheme in SCHEMES)
    assert "models/deployed/" in printed


def test_deploying_another_scheme_runs_deploy_alone_and_shows_in_the_diff(project: Sandbox) -> None:
    project.edit("deploy: float32", "deploy: int8")
    assert project.repro()[0] == ["check", "report", "gate", "deploy"]
    (changed,) = project.json("dvc", "metrics", "diff", "--json").values()
    assert changed["scheme"] == {"old": "float32", "new": "int8"}
    assert changed["size_bytes"]["diff"] < 0
    assert set(changed) >= {"scheme", "size_bytes", "latency_ms.p50"}
    assert "deploy" in project.run("dvc", "params", "diff")
    project.edit("deploy: int8", "deploy: float32")
    project.repro()


def test_plots_and_experiments_read_well(project: Sandbox) -> None:
    project.run("dvc", "plots", "show")
    page = (project.folder / "dvc_plots/index.html").read_text()
    for title in ("Confusion float32", "Confusion deployed", "recalls.png", "learning_curve.png", "training.png"):
        assert title in page
    assert "rote M" in page
    assert "accuracy" in project.run("dvc", "exp", "show", "--csv")


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        (
            "backbone: efficientnet_lite0",
            "backbone: efficientnet_lite1",
            {"architecture", "assemble", "evaluate", "deploy"},  # the others wait for what `architecture` makes
        ),
        ("per_second: 4", "per_second: 3", {"frames"}),
        ("learning_rate: 0.001", "learning_rate: 0.002", {"crossval", "finetune", "multihead", "train"}),
        ("resize: stretch", "resize: crop", {"finetune", "quantize", "bottlenecks", "evaluate", "deploy", "inspect"}),
        ("copies: 2", "copies: 1", {"augment"}),
    ],
)
def test_an_edit_makes_stale_what_depends_on_it(project: Sandbox, old: str, new: str, changed: set[str]) -> None:
    project.edit(old, new)
    try:
        stale = {name.split("@")[0] for name in project.json("dvc", "status", "--json")}
    finally:
        project.edit(new, old)
    assert stale == changed | {"check"}


def test_a_resolution_in_the_name_of_the_backbone_reruns_what_it_changes(project: Sandbox) -> None:
    project.edit("backbone: efficientnet_lite0", "backbone: efficientnet_lite0_64")
    ran, printed = project.repro("bottlenecks@float32")
    checked = ran.pop(0)
    changed = project.json("dvc", "params", "diff", "--json")
    tracked = project.run("git", "ls-files", "models/backbone/architecture.yaml")
    project.edit("backbone: efficientnet_lite0_64", "backbone: efficientnet_lite0")
    assert checked == "check"
    assert ran == ["architecture", "backbone", "finetune", "quantize@float32", "bottlenecks@float32"]
    assert "efficientnet_lite0_64, width 1, 64 x 64 pixels" in printed
    assert changed["models/backbone/architecture.yaml"]["input_pixels"] == {"old": 224, "new": 64, "diff": -160}
    assert tracked  # in Git, so that the line above works in a clone that has no cache
    assert "backbone" not in project.repro()[0]  # what was there before comes back from DVC's cache


def test_an_edit_of_an_architecture_that_is_not_chosen_reruns_nothing_else(project: Sandbox) -> None:
    project.edit("depth: 1.1", "depth: 1.2", "conf/backbone/efficientnet_lite1.yaml")
    assert project.repro()[0] == ["check", "architecture"]
    project.edit("depth: 1.2", "depth: 1.1", "conf/backbone/efficientnet_lite1.yaml")
    project.repro("check", "architecture")


def test_a_comment_in_code_runs_the_stage_code_alone(project: Sandbox) -> None:
    project.edit('"""', '"""Another docstring. ', "pipeline/images/codec.py")
    project.edit("\nimport", "\n# a comment\nimport", "pipeline/images/codec.py")
    assert project.repro()[0] == ["code"]


def test_an_edit_of_how_frames_are_encoded_makes_other_frames(project: Sandbox) -> None:
    table = project.folder / "data/frames/coffee mug/IMG_10.mp4.parquet"
    before = table.read_bytes()
    project.edit("quality=quality", "quality=quality - 30", "pipeline/images/codec.py")
    ran, printed = project.repro("frames")
    assert ran == ["code", "frames"]
    assert f"frames: {len(COLOURS) * NUM_TAKES} takes computed, 0 reused" in printed
    assert len(table.read_bytes()) < 0.9 * len(before)
    project.edit("quality=quality - 30", "quality=quality", "pipeline/images/codec.py")
    project.repro()
    assert table.read_bytes() == before


def test_another_version_in_the_lock_runs_what_uses_it(project: Sandbox) -> None:
    project.edit("\nav==", "\nav==99.", "requirements.lock")
    ran, _ = project.repro("augment", "backbone")
    project.edit("\nav==99.", "\nav==", "requirements.lock")
    project.repro()
    assert ran == ["code", "frames"]  # whose frames are the same, as the installed version is


def test_one_more_take_computes_one_take(project: Sandbox) -> None:
    added = project.folder / "data/videos/coffee mug/IMG_99.mp4"
    write_clip(added, take(COLOURS["coffee mug"], 99), rate=10)
    _, printed = project.repro(*(f"bottlenecks@{scheme}" for scheme in SCHEMES))
    added.unlink()
    assert f"frames: 1 takes computed, {len(COLOURS) * NUM_TAKES} reused" in printed
    computed = [int(number) for number in re.findall(r"bottlenecks@\w+: (\d+) takes computed", printed)]
    assert len(computed) == len(SCHEMES)
    assert max(computed) <= 4  # the take and its copies, and those of one that moved to another part


@pytest.mark.parametrize(
    ("name", "content", "stage", "output"),
    [
        ("text.mp4", b"this is no video", "frames", "data/frames"),
        ("empty.mov", b"", "split", "data/splits.csv"),
        ("half.mp4", None, "frames", "data/frames"),
    ],
)
def test_a_bad_video_is_named_and_the_run_goes_on_once_it_is_gone(
    project: Sandbox, name: str, content: bytes | None, stage: str, output: str
) -> None:
    bad = project.folder / "data/videos/coffee mug" / name
    whole = (project.folder / "data/videos/coffee mug/IMG_10.mp4").read_bytes()
    bad.write_bytes(whole[: len(whole) // 2] if content is None else content)
    ran, printed = project.repro(ok=False)
    bad.unlink()
    assert ran[-1] == stage
    assert f"data/videos/coffee mug/{name}" in printed
    assert "expected:" in printed
    assert "to mend:" in printed
    assert "Traceback" not in printed
    assert not (project.folder / output).exists()  # DVC removed the old one, and half of a new one is not left
    project.repro()  # what was there before comes back from DVC's cache
    assert project.repro()[0] == []


def test_a_wrong_choice_is_refused_before_anything_runs(project: Sandbox) -> None:
    project.edit("deploy: float32", "deploy: int4")
    ran, printed = project.repro(ok=False)
    project.edit("deploy: int4", "deploy: float32")
    assert ran == ["check"]
    assert "`deploy: int4`\n  expected: one of the schemes in `quantization`: float32, int8" in printed


def test_another_question_runs_what_answers_it_and_nothing_before(project: Sandbox) -> None:
    rows = ["take,head,label", "rote Möhre/*,warm,yes", "chat tigré/*,warm,no", "coffee mug/*,warm,no", ""]
    project.write("data/labels.csv", "\n".join(rows))
    project.edit("heads: {}", "heads: {warm: one}")
    ran = project.repro()[0]
    again = {"check", "split", "measure", "report", "gate", "deploy"}
    assert {name.split("@")[0] for name in ran} <= again | {"multihead", "assemble", "evaluate"}
    assert {"multihead@float32", "multihead@int8", "deploy"} <= set(ran)
    assert "warm" in project.run("viewfinder", "summary")
    assert "heads.warm.accuracy" in project.run("dvc", "metrics", "diff")
    with started(project.folder.parent / "camera.mjpeg", take(COLOURS["rote Möhre"], 0)) as browser:
        project.run("viewfinder", "try", "--no-open")
        opened = Opened(browser, (project.folder / "models/try.html").as_uri())
        assert opened.proof.startswith("Answers as on the phone: ")
        opened.page.click("#camera")
        opened.answers()
        assert opened.page.text_content(".model .head") in ("warm: yes", "warm: no", "warm: none of them")
        opened.page.close()
    project.edit("heads: {warm: one}", "heads: {}")
    assert {name.split("@")[0] for name in project.repro()[0]} <= again | {"multihead"}


def test_params_in_this_copy_are_those_of_the_project_again(project: Sandbox) -> None:
    copy, original = (yaml.safe_load((folder / "params.yaml").read_text()) for folder in (project.folder, PROJECT))
    assert copy | {"training": 0, "quantization": 0} == original | {"training": 0, "quantization": 0}
