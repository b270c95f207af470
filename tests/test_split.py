import shutil
import tempfile
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.split import SplitConfig, SplitStage
from pipeline.errors import InputError, PipelineError
from pipeline.files import layout
from pipeline.split import report, split
from pipeline.takes.assignment import assign_takes, place_of, recordings_of
from pipeline.takes.sources import find_sources
from pipeline.takes.splits import PARTS, TEST, TRAIN, Block, Take, labels_of, read_takes

CONFIG = SplitStage(split=SplitConfig(validation_percent=20, test_percent=20, block_gap_percent=5, test=[]))

NAMES = st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=4, max_size=12, unique=True)


def fill(names: list[str]) -> None:
    """Write a file with its own name as content for each "<label>/<take>" under data/videos."""
    for name in names:
        path = layout.VIDEOS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def refusal() -> str:
    with pytest.raises(InputError) as caught:
        split(CONFIG)
    assert not layout.SPLITS.exists()
    return str(caught.value)


def parts() -> dict[str, set[str]]:
    return {f"{take.label}/{take.name}": {block.part for block in take.blocks} for take in read_takes(layout.SPLITS)}


@given(NAMES, st.integers(1, 45), st.integers(1, 45))
def test_every_part_of_a_label_has_a_take(names: list[str], validation: int, test: int) -> None:
    assigned = assign_takes("cup", names, validation_percent=validation, test_percent=test)
    assert set(assigned) == set(names)
    assert set(assigned.values()) == set(PARTS)


@given(NAMES)
def test_a_new_take_moves_at_most_one_other(names: list[str]) -> None:
    before = assign_takes("cup", names[1:], validation_percent=20, test_percent=20)
    after = assign_takes("cup", names, validation_percent=20, test_percent=20)
    num_in_train = sum(20 <= place_of(f"cup/{name}") < 80 for name in names[1:])
    num_moved = sum(before[name] != after[name] for name in before)
    assert num_moved <= (1 if num_in_train >= 2 else 2)


def test_a_take_with_its_own_place_stays_when_thousands_come() -> None:
    few = [f"IMG_{i}.mp4" for i in range(30)]
    many = [f"IMG_{i}.mp4" for i in range(3000)]
    before = assign_takes("cup", few, validation_percent=20, test_percent=20)
    after = assign_takes("cup", many, validation_percent=20, test_percent=20)
    assert {name: after[name] for name in few} == dict(before)
    assert 1650 < list(after.values()).count(TRAIN) < 1950  # 60 % of 3000, give or take 5 standard deviations


def test_place_does_not_depend_on_how_accents_are_encoded() -> None:
    composed = unicodedata.normalize("NFC", "jalapeño/IMG_1.mp4")
    assert place_of(composed) == place_of(unicodedata.normalize("NFD", composed))
    assert place_of("cup/IMG_1.mp4") == pytest.approx(40.29769, abs=1e-5)  # the split must never change by itself


def test_moving_the_project_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill([f"{label}/{i}.mp4" for label in "ab" for i in range(5)])
    split(CONFIG)
    first = layout.SPLITS.read_bytes()
    shutil.move(folder / "data", folder / "elsewhere" / "data")
    monkeypatch.chdir(folder / "elsewhere")
    split(CONFIG)
    assert layout.SPLITS.read_bytes() == first


def test_photos_are_takes_by_folder_or_alone(folder: Path) -> None:
    fill(["cup/1.mp4", "cup/2.mp4", "cup/3.mp4"])
    for name in ("pen/desk/1.jpg", "pen/desk/2.jpg", "pen/a.png", "pen/b.JPG"):
        (layout.PHOTOS / name).parent.mkdir(parents=True, exist_ok=True)
        (layout.PHOTOS / name).write_text(name)
    split(CONFIG)
    assert {name for name in parts() if name.startswith("pen")} == {"pen/a.png", "pen/b.JPG", "pen/desk"}


def test_few_takes_are_cut_into_blocks_with_gaps_and_it_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(["cup/1.mp4", "cup/2.mp4", "pen/1.mp4", "pen/2.mp4", "pen/3.mp4"])
    split(CONFIG)
    cup = next(take for take in read_takes(layout.SPLITS) if take.label == "cup")
    spans = [(block.part, block.start, block.end) for block in cup.blocks]
    assert spans == [("train", 0.0, 0.5), ("validation", 0.55, 0.75), ("test", 0.8, 1.0)]
    assert "label 'cup' has only 2 take(s): each is cut" in capsys.readouterr().err
    assert parts()["cup/2.mp4"] == set(PARTS)


def test_blocks_share_no_frame() -> None:
    spans = [("train", 0.0, 0.5), ("validation", 0.55, 0.75), ("test", 0.8, 1.0)]
    take = Take("cup", "1", Path("1"), "", tuple(Block("cup", "1", "1", "", *span) for span in spans))
    indices = [take.indices_of_part(part, 40).tolist() for part in PARTS]
    assert indices == [list(range(20)), list(range(22, 30)), list(range(32, 40))]


@pytest.mark.parametrize("junk", ["cup/.DS_Store", "cup/Thumbs.db", "cup/._1.mp4", ".hidden/1.mp4", "README.md"])
def test_what_systems_leave_behind_is_ignored(folder: Path, junk: str) -> None:
    fill([f"{label}/{i}.mp4" for label in ("cup", "pen") for i in range(3)] + [junk])
    assert len(find_sources(layout.VIDEOS, layout.PHOTOS)) == 6


def test_no_videos(folder: Path) -> None:
    assert "no videos in data/videos/ and no photos in data/photos/" in refusal()


def test_one_label_only(folder: Path) -> None:
    fill(["cup/1.mp4"])
    assert "one label only: cup" in refusal()


def test_empty_label_folder(folder: Path) -> None:
    fill(["cup/1.mp4"])
    (layout.VIDEOS / "pen").mkdir()
    assert "label folder data/videos/pen/ holds no takes" in refusal()


def test_video_outside_a_label(folder: Path) -> None:
    fill(["1.mp4", "cup/1.mp4"])
    message = refusal()
    assert "data/videos/1.mp4 lies directly under data/videos/" in message
    assert "data/videos/<label>/1.mp4" in message


def test_labels_that_differ_only_in_case(folder: Path) -> None:
    fill(["Cup/1.mp4", "cup/2.mp4"])
    assert "labels that differ only in case: 'Cup' and 'cup'" in refusal()


def test_takes_that_differ_only_in_case(folder: Path) -> None:
    fill(["cup/a.mp4", "cup/A.mp4", "pen/1.mp4"])
    assert "takes of label 'cup' that differ only in case" in refusal()


def test_the_same_content_twice(folder: Path) -> None:
    fill(["cup/1.mp4", "pen/1.mp4"])
    shutil.copy(layout.VIDEOS / "cup/1.mp4", layout.VIDEOS / "pen/2.mp4")
    assert "the same content more than once: data/videos/cup/1.mp4, data/videos/pen/2.mp4" in refusal()


@pytest.mark.parametrize("names", [["mug/a.jpg", "mug/desk/a.jpg", "mug/floor/a.jpg"], ["pen/a.jpg", "mug/desk/a.jpg"]])
def test_one_photo_in_several_takes(folder: Path, names: list[str]) -> None:
    fill(["cup/1.mp4", "mug/1.mp4", "pen/1.mp4"])
    photos = [layout.PHOTOS / name for name in names]
    for photo in photos:
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_text("one photo")
    assert f"the same content more than once: {', '.join(sorted(map(str, photos)))}" in refusal()


def fill_desk(num_takes: int) -> None:
    """Write a folder that holds a photo twice, and other takes of the label beside it."""
    fill(["cup/1.mp4", "cup/2.mp4", "cup/3.mp4"])
    for name in ["desk/1.jpg", "desk/2.jpg", "desk/3.jpg", *(f"{i}.jpg" for i in range(num_takes - 1))]:
        (layout.PHOTOS / "pen" / name).parent.mkdir(parents=True, exist_ok=True)
        (layout.PHOTOS / "pen" / name).write_text(name.replace("3", "1"))


def test_a_photo_twice_in_a_folder_is_told_where_the_folder_stays_whole(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_desk(num_takes=3)
    split(CONFIG)
    assert (
        "data/photos/pen/desk/ holds photos more than once, and each counts as often as it is there: 1.jpg = 3.jpg\n"
        in (capsys.readouterr().err)
    )


def test_a_photo_twice_in_a_folder_is_refused_where_the_folder_is_cut(folder: Path) -> None:
    fill_desk(num_takes=1)
    message = refusal()
    assert "label 'pen' has only 1 take(s), so data/photos/pen/desk/ must be cut, but it holds photos more" in message
    assert "more than once: 1.jpg = 3.jpg\n" in message


def test_labels_that_cannot_be_cut_are_told_at_once(folder: Path) -> None:
    fill_desk(num_takes=1)
    (layout.PHOTOS / "mug").mkdir()
    (layout.PHOTOS / "mug/1.jpg").write_text("mug")
    message = refusal()
    assert message.startswith("2 labels cannot be used:")
    assert "label 'mug' has only 1 take(s), and a single photo cannot be cut" in message
    assert "label 'pen' has only 1 take(s), so data/photos/pen/desk/ must be cut" in message


PLACES = st.sampled_from(["1.mp4", "2.mp4", "3.mp4", "a.jpg", "desk/a.jpg", "desk/b.jpg", "floor/a.jpg", "floor/b.jpg"])
TREES = st.dictionaries(st.tuples(st.sampled_from(["cup", "pen"]), PLACES), st.sampled_from("abcdefghijkl"), max_size=8)


def plant(tree: dict[tuple[str, str], str]) -> None:
    for (label, name), content in tree.items():
        path = (layout.VIDEOS if name.endswith(".mp4") else layout.PHOTOS) / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@given(TREES)
def test_no_content_comes_into_two_parts_or_under_two_labels(tree: dict[tuple[str, str], str]) -> None:
    whole = {(label, f"{i}.mp4"): f"{label} {i}" for label in ("cup", "pen") for i in (4, 5, 6)}  # enough takes
    held = {(label, name.split("/")[0], content) for (label, name), content in tree.items()}
    is_twin = max(Counter(content for *_, content in held).values(), default=0) > 1
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plant(tree | whole)
        if is_twin:
            assert "the same content more than once" in refusal()
            return
        split(CONFIG)
        parts_of = {(take.label, take.name): take.blocks[0].part for take in read_takes(layout.SPLITS)}
    assert set(parts_of) == {(label, name.split("/")[0]) for label, name in tree | whole}
    placed = {(content, label, parts_of[label, take]) for label, take, content in held}
    assert len(placed) == len({content for content, *_ in placed})


def test_a_file_that_is_no_take(folder: Path) -> None:
    fill(["cup/1.mp4", "cup/notes.txt", "pen/1.mp4"])
    message = refusal()
    assert "data/videos/cup/notes.txt" in message
    assert ".mp4 .mov" in message


def test_a_folder_among_videos(folder: Path) -> None:
    fill(["cup/old/1.mp4", "cup/1.mp4", "pen/1.mp4"])
    assert "data/videos/cup/old is a folder" in refusal()


def test_two_single_photos_are_too_few(folder: Path) -> None:
    fill(["cup/1.mp4"])
    (layout.PHOTOS / "pen").mkdir(parents=True)
    (layout.PHOTOS / "pen" / "1.jpg").write_text("x")
    assert "label 'pen' has only 1 take(s), and a single photo cannot be cut" in refusal()


def test_the_report_counts_takes_of_each_label_and_part() -> None:
    whole = [Block("cup", f"{i}.mp4", "", "", part, 0.0, 1.0) for i, part in enumerate([*PARTS, TRAIN, TRAIN])]
    cut = [
        Block("measuring tape", take, "", "", part, i / 3, (i + 1) / 3) for take in "ab" for i, part in enumerate(PARTS)
    ]
    assert report(whole + cut).splitlines() == [
        "split: 2 labels; 3 takes to train, 1 to validate, 1 to test; 2 takes each cut into blocks for all three",
        "  label           train  validation  test",
        "  cup                 3           1     1",
        "  measuring tape  2 each cut into blocks",
    ]
    assert report(cut).startswith("split: 1 labels; 2 takes each cut into blocks for all three\n")


def test_an_experiment_that_lacks_takes_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout = tmp_path / "project/.dvc/tmp/exps/tmp1"
    for place in (tmp_path / "project", checkout):
        place.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(place)
        fill([f"{label}/{i}.mp4" for label in ("cup", "pen") for i in range(3)])
    split(CONFIG)
    assert "not in this experiment" not in capsys.readouterr().err
    monkeypatch.chdir(tmp_path / "project")
    fill(["cup/9.mp4"])
    monkeypatch.chdir(checkout)
    split(CONFIG)
    assert "split: data/videos/cup/9.mp4 is not in this experiment: DVC took what Git" in capsys.readouterr().err


def test_a_split_file_changed_by_hand(folder: Path) -> None:
    layout.SPLITS.parent.mkdir()
    layout.SPLITS.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"data/splits.csv cannot be read"):
        read_takes(layout.SPLITS)


def test_percentages_that_leave_nothing_to_train_on() -> None:
    with pytest.raises(PipelineError, match="at most 95 together"):
        SplitConfig(validation_percent=50, test_percent=40, block_gap_percent=5, test=[])


def choosing(*takes: str) -> SplitStage:
    return SplitStage(split=SplitConfig(validation_percent=20, test_percent=20, block_gap_percent=5, test=list(takes)))


def test_takes_that_are_named_are_the_test_takes_of_their_label(folder: Path) -> None:
    fill([f"{label}/{i}.mp4" for label in ("café", "pen") for i in range(6)])
    split(CONFIG)
    before = parts()
    split(choosing(unicodedata.normalize("NFD", "café/1.mp4"), "café/4.mp4"))
    after = parts()
    chosen = {name for name, found in after.items() if found == {TEST} and name.startswith("café")}
    assert chosen == {"café/1.mp4", "café/4.mp4"}
    assert set().union(*(found for name, found in after.items() if name.startswith("café"))) == set(PARTS)
    assert all(after[name] == found for name, found in before.items() if name.startswith("pen"))


def test_test_takes_that_cannot_be_are_told_at_once(folder: Path) -> None:
    fill([*(f"cup/{i}.mp4" for i in range(4)), "pen/1.mp4", "pen/2.mp4"])
    with pytest.raises(InputError) as caught:
        split(choosing("cup/9.mp4", "pen/1.mp4"))
    told = str(caught.value)
    assert "`split.test` names cup/9.mp4, which is no take" in told
    assert "did you mean cup/" in told
    assert "`split.test` names pen/1.mp4, whose label has only 2 take(s)" in told
    with pytest.raises(InputError, match=r"label 'cup' has 4 takes, of which `split.test` names 3"):
        split(choosing("cup/0.mp4", "cup/1.mp4", "cup/2.mp4"))


def test_a_live_photo_goes_where_its_video_goes_and_moves_none(folder: Path) -> None:
    fill([*(f"cup/IMG_{i}.MOV" for i in range(8)), *(f"pen/{i}.mp4" for i in range(3))])
    split(CONFIG)
    before = parts()
    for i in range(8):
        photo = layout.PHOTOS / "cup" / f"img_{i}.{'HEIC' if i % 2 else 'jpg'}"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_text(photo.name)
    split(CONFIG)
    after = parts()
    assert {name: after[name] for name in before} == before
    for i in range(8):
        assert after[f"cup/img_{i}.{'HEIC' if i % 2 else 'jpg'}"] == after[f"cup/IMG_{i}.MOV"]


def test_only_a_photo_and_a_video_of_one_stem_are_one_recording() -> None:
    names = ["a.jpg", "a.png", "b.mp4", "b.mov", "c.mp4", "C.jpg", "folder"]
    assert recordings_of(names) == {name: name for name in names} | {"C.jpg": "c.mp4"}


def test_test_takes_may_be_named_by_a_pattern(folder: Path) -> None:
    fill([f"{label}/{part}-{i}[1].mp4" for label in ("cup", "pen") for part in ("train", "test") for i in range(3)])
    split(choosing("*/test-*"))
    assert all((found == {TEST}) == ("/test-" in name) for name, found in parts().items())
    split(choosing("cup/train-0[1].mp4"))
    assert [name for name, found in parts().items() if found == {TEST} and name.startswith("cup")] == [
        "cup/train-0[1].mp4"
    ]
    with pytest.raises(InputError, match=r"`split.test` names \*/val-\*, which is no take"):
        split(choosing("*/val-*"))


def test_the_parts_of_a_data_set_are_no_labels(folder: Path) -> None:
    for name in ("train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg", "val/dog/4.jpg"):
        (layout.PHOTOS / name).parent.mkdir(parents=True, exist_ok=True)
        (layout.PHOTOS / name).write_text(name)
    with pytest.raises(InputError, match=r"labels called train and val: (.|\n)*viewfinder import <its folder>"):
        split(CONFIG)


def test_takes_that_show_none_of_the_labels_are_all_for_training(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill([f"{label}/{i}.mp4" for label in ("a", "b") for i in range(3)])
    split(CONFIG)
    before = parts()
    fill(["_none/wall.mp4"])
    split(CONFIG)
    assert parts() == before | {"_none/wall.mp4": {"train"}}
    (take,) = (take for take in read_takes(layout.SPLITS) if not take.shows_a_label)
    assert [block.is_whole for block in take.blocks] == [True]
    assert labels_of(read_takes(layout.SPLITS)) == ["a", "b"]
    told = capsys.readouterr().err
    assert "split: 2 labels; 3 takes to train, 2 to validate, 2 to test\n" in told
    assert told.splitlines()[-1].split() == ["_none", "1", "0", "0"]


def test_what_shows_none_of_the_labels_is_no_second_label_and_no_test_take(folder: Path) -> None:
    fill([f"{label}/{i}.mp4" for label in ("a", "_none") for i in range(3)])
    assert "one label only: a" in refusal()
    fill([f"b/{i}.mp4" for i in range(3)])
    config = SplitStage(split=replace(CONFIG.split, test=["_none/1.mp4"]))
    with pytest.raises(
        InputError, match=r"names _none/1.mp4, which shows none of the labels\n  expected: takes of labels"
    ):
        split(config)
