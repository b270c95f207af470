"""`viewfinder predict`: what pictures and videos show, as rows, as JSON lines and drawn into a video."""

import json
import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pipeline.errors import ConfigurationError, InputError, ModelError
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.classifier import classifier
from pipeline.heads.head_file import Head
from pipeline.images.model_input import to_model_input
from pipeline.litert.interpreter import Model
from pipeline.tools.cli import viewfinder
from pipeline.tools.labelled_video import Caption, captioned
from pipeline.tools.predict import smoothed
from pipeline.video import sample_frames
from tests import tiny_models, tiny_project
from tests.clips import smooth, solid, write_clip
from tests.test_score import without_head_softmax

LABELS = tiny_project.LABELS
RED, BLUE = (150, 30, 30), (60, 90, 240)


def model_of(*, threshold: float | None = None) -> bytes:
    """Return a classifier with two labels; with a threshold it has a third output."""
    weights, bias = tiny_models.head(num_labels=2 if threshold is None else 3)
    return classifier(tiny_models.backbone(), Head(weights, bias, LABELS, threshold), name="tiny")


@pytest.fixture
def deployed(folder: Path) -> Model:
    """Deploy a classifier, and lay two photos and a video of 20 frames, ten a second, beside it."""
    write_bytes(layout.DEPLOYED / "model.tflite", model_of())
    Path("photos/deep/.hidden").mkdir(parents=True)
    for name, seed in (("photos/b.png", 1), ("photos/deep/a.png", 2), ("photos/deep/.hidden/c.png", 3)):
        Image.fromarray(tiny_project.picture(seed % 2, seed)).save(name)
    write_clip(Path("clip.mp4"), [smooth(index) for index in range(20)])
    return Model(model_of())


def predict(*arguments: object) -> Result:
    return CliRunner().invoke(viewfinder, ["predict", *map(str, arguments)])


def lines(*arguments: object) -> list[dict[str, Any]]:
    done = predict(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refusal(*arguments: object, status: int) -> str:
    done = predict(*arguments)
    assert done.exit_code == status, done
    return done.stderr


def answer(model: Model, rgb: np.ndarray, resize: str = "stretch") -> dict[str, Any]:
    """Return what a line says about a picture."""
    probabilities = model(to_model_input(rgb, model.input_pixels, resize)).tolist()
    return {label: pytest.approx(p, rel=1e-5) for label, p in zip(LABELS, probabilities, strict=True)}


def test_each_frame_gets_what_the_model_says(deployed: Model) -> None:
    found = lines("clip.mp4", "photos", "--per-second", 5)
    frames = list(sample_frames(Path("clip.mp4"), per_second=5, width_pixels=64))
    pictures = [(None, np.array(Image.open(name))) for name in ("photos/b.png", "photos/deep/a.png")]
    expected = [(frame.pts_seconds, frame.image) for frame in frames] + pictures
    assert [line["file"] for line in found] == ["clip.mp4"] * 10 + ["photos/b.png", "photos/deep/a.png"]
    assert [line["second"] for line in found] == [second for second, _ in expected]
    for line, (_, rgb) in zip(found, expected, strict=True):
        assert line["probabilities"] == answer(deployed, rgb)
        assert line["answer"] == max(line["probabilities"], key=line["probabilities"].get)


def test_the_table_has_a_row_for_each_stretch(deployed: Model) -> None:
    write_clip(Path("two.mp4"), [solid(RED)] * 10 + [solid(BLUE)] * 10)
    write_bytes(layout.DEPLOYED / "model.tflite", model_of_colours(RED, BLUE))
    done = predict("two.mp4", "photos/b.png")
    assert done.exit_code == 0
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in done.stdout.splitlines() if line]
    assert rows[0] == ["file", "when", "frames", "answer", "probability", "next"]
    assert [row[:4] for row in rows[1:3]] == [
        ["two.mp4", "0.0 to 0.8 s", "4", LABELS[0]],
        ["two.mp4", "1.0 to 1.8 s", "4", LABELS[1]],
    ]
    assert rows[3][0] == "photos/b.png"


def model_of_colours(*colours: tuple[int, int, int]) -> bytes:
    """Return a classifier that tells two colours apart: by which of their features are nearer."""
    backbone = Model(tiny_models.backbone())
    first, second = (backbone(to_model_input(solid(colour), backbone.input_pixels, "stretch")) for colour in colours)
    apart = (first - second) / np.square(first - second).sum() * 20
    middle = float(apart @ (first + second) / 2)
    head = Head(np.stack([apart, -apart], 1), np.array([-middle, middle], np.float32), LABELS)
    return classifier(tiny_models.backbone(), head, name="tiny")


def test_below_the_threshold_nothing_is_named(deployed: Model) -> None:
    write_bytes(layout.DEPLOYED / "model.tflite", model_of(threshold=1.0))
    (line,) = lines("photos/b.png")
    assert line["answer"] is None
    assert sum(line["probabilities"].values()) < 1  # the rest is that it is none of them
    assert "none of them" in predict("photos/b.png").stdout
    (line,) = lines("photos/b.png", "--threshold", 0)
    assert line["answer"] == max(line["probabilities"], key=line["probabilities"].get)


def test_pictures_become_square_as_the_manifest_says(deployed: Model) -> None:
    rgb = np.array(Image.open("photos/b.png"))
    assert answer(deployed, rgb, "pad") != answer(deployed, rgb, "stretch")
    write_text(layout.DEPLOYED / "manifest.json", '{"input": {"resize": "pad"}, "files": {"model.tflite": {}}}')
    assert lines("photos/b.png")[0]["probabilities"] == answer(deployed, rgb, "pad")
    assert lines("photos/b.png", "--resize", "crop")[0]["probabilities"] == answer(deployed, rgb, "crop")
    write_bytes(Path("theirs.tflite"), model_of())
    assert lines("photos/b.png", "--model", "theirs.tflite")[0]["probabilities"] == answer(deployed, rgb)


def test_logits_become_probabilities(deployed: Model) -> None:
    write_bytes(Path("logits.tflite"), without_head_softmax(model_of()))
    Path("labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    rgb = np.array(Image.open("photos/b.png"))
    (line,) = lines("photos/b.png", "--model", "logits.tflite", "--labels", "labels.txt")
    assert line["probabilities"] == answer(deployed, rgb)


def test_what_cannot_be_read_keeps_no_other_file_from_its_answer(deployed: Model) -> None:
    write_bytes(Path("cut.mp4"), Path("clip.mp4").read_bytes()[:2000])
    write_bytes(Path("no.jpg"), b"not a picture")
    done = predict("cut.mp4", "photos/b.png", "no.jpg", "--json")
    assert done.exit_code == InputError.exit_status
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == ["photos/b.png"]
    assert "2 files cannot be used" in done.stderr or ("cut.mp4" in done.stderr and "no.jpg" in done.stderr)
    assert "no.jpg" in refusal("no.jpg", status=InputError.exit_status)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("nowhere.mp4", "there is no nowhere.mp4\n"),
        ("empty", "empty/ holds neither pictures nor videos\n"),
        ("notes.txt", "notes.txt is neither picture nor video by its name\n"),
    ],
)
def test_what_is_neither_picture_nor_video(deployed: Model, path: str, found: str) -> None:
    Path("empty").mkdir()
    Path("notes.txt").touch()
    assert found in refusal("photos/b.png", path, status=InputError.exit_status)


def test_without_a_model_it_says_how_to_get_one(folder: Path) -> None:
    Image.fromarray(solid(RED)).save("a.png")
    told = refusal("a.png", status=ModelError.exit_status)
    assert "models/deployed/model.tflite cannot be read" in told


def test_a_video_is_written_with_its_times_its_colours_and_a_strip(deployed: Model) -> None:
    """Frames come at uneven times, as phones film, and the picture has an odd size."""
    times = [0, 100, 150, 400, 900]
    picture = solid((200, 120, 40), width=320, height=240)
    write_clip(Path("uneven.mkv"), [picture] * 5, pts_ms=times)
    done = predict("uneven.mkv", "--video", "out.mp4")
    assert done.exit_code == 0, done.stderr
    written = list(sample_frames(Path("out.mp4"), per_second=1000, width_pixels=1000))
    assert [round(1000 * frame.pts_seconds) for frame in written] == times
    source = next(sample_frames(Path("uneven.mkv"), per_second=1000, width_pixels=1000)).image
    for frame in written:
        assert frame.image.shape == picture.shape
        assert np.abs(frame.image[:200].astype(int) - source[:200]).mean() < 4
        assert frame.image[-20:-4, 150:].mean() < 60  # the strip is dark where nothing is written
    with av.open("out.mp4") as container:
        (stream,) = container.streams
        assert stream.codec_context.name == "h264"
    assert sorted(path.name for path in Path().iterdir() if path.name.startswith(".")) == []


def test_a_video_has_no_half_written_copy(deployed: Model) -> None:
    write_bytes(Path("cut.mp4"), Path("clip.mp4").read_bytes()[:-500])
    refusal("cut.mp4", "--video", "out.mp4", status=InputError.exit_status)
    assert not [path for path in Path().iterdir() if "out.mp4" in path.name]
    told = refusal("clip.mp4", "--video", "nowhere/out.mp4", status=1)
    assert "nowhere/out.mp4 cannot be written" in told


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["clip.mp4", "--video", "there.mp4"], "--video there.mp4, which exists already"),
        (["clip.mp4", "--video", "out.avi"], "--video out.avi, which does not end in .mp4"),
        (["clip.mp4", "photos/b.png", "--video", "out.mp4"], "--video with 2 files, beginning with clip.mp4"),
        (["photos/b.png", "--video", "out.mp4"], "--video with 1 files, beginning with photos/b.png"),
    ],
)
def test_a_video_that_cannot_be_meant(deployed: Model, arguments: list[str], found: str) -> None:
    Path("there.mp4").write_bytes(b"precious")
    assert found in refusal(*arguments, status=ConfigurationError.exit_status)
    assert Path("there.mp4").read_bytes() == b"precious"


@pytest.mark.parametrize("size", [(48, 64), (17, 33), (10, 8), (1080, 1920)])
@pytest.mark.parametrize("name", ["cup", "日本 $x$", "a label that has far too many letters to be written in one line"])
def test_a_caption_fits_any_frame(size: tuple[int, int], name: str) -> None:
    plain = np.full((*size, 3), 200, np.uint8)
    drawn = captioned(plain, Caption(name, 0.5))
    assert drawn.shape == plain.shape
    assert (plain == 200).all()  # which is left as it was
    assert (drawn[-1, : size[1] // 2 - 1] == 255).all()
    assert (drawn[-1, size[1] // 2 + 1 :] == 66).all()


def test_a_line_for_each_further_head_stands_above() -> None:
    plain = np.full((270, 480, 3), 200, np.uint8)
    one = captioned(plain, Caption("cup", 0.5))
    three = captioned(plain, Caption("cup", 0.5, ("material: ceramic", "parts: " + ", ".join(["handle"] * 20))))
    assert np.array_equal(three[-24:], one[-24:])  # the first head's strip is what it is without others
    heights = [int((drawn[:, -1, 0] < 100).sum()) for drawn in (one, three)]
    assert heights == [24, 24 + 2 * 19]
    for line in (three[-43:-24], three[-62:-43]):
        assert (line > 150).any()  # letters
        assert (line[:, -4:] == 66).all()  # which end before the frame does


@pytest.mark.parametrize("size", [(10, 8), (30, 40), (48, 64)])
def test_many_heads_fit_a_small_frame(size: tuple[int, int]) -> None:
    plain = np.full((*size, 3), 200, np.uint8)
    assert captioned(plain, Caption("cup", 0.5, ("material: ceramic",) * 9)).shape == plain.shape


def test_averages_count_what_is_long_ago_less() -> None:
    steps = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    found = smoothed(steps, [0.0, 0.5, 1.5], 0.5)
    assert found[:, 0].tolist() == pytest.approx([1, math.exp(-1), math.exp(-3)])
    assert found.sum(1) == pytest.approx(1)
    assert smoothed(steps, [0.0, 0.5, 1.5], 0) is steps
