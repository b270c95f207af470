"""The command `viewfinder import`."""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from pipeline.config.split import SplitConfig, SplitStage
from pipeline.files import layout, write_bytes, write_text
from pipeline.split import split
from pipeline.takes.sources import find_sources
from pipeline.takes.splits import read_takes
from pipeline.tools import import_folder as module
from pipeline.tools.cli import viewfinder


@pytest.fixture(autouse=True)
def project(folder: Path) -> Path:
    for name in ("dvc.yaml", "params.yaml"):
        write_text(Path(name), "{}\n")
    return folder


def write_set(*names: str) -> Path:
    """Write files with contents of their own, and return their folder."""
    for name in names:
        write_bytes(Path("set") / name, name.encode())
    return Path("set")


def run(*options: str) -> Result:
    return CliRunner().invoke(viewfinder, ["import", "set", *options])


def refusal(*options: str) -> str:
    """Return the message; nothing may have been brought in."""
    before = imported()
    done = run(*options)
    assert done.exit_code > 1, done.output
    assert imported() == before
    return done.stderr


def imported() -> list[str]:
    return sorted(path.relative_to(layout.PHOTOS).as_posix() for path in files_below(layout.PHOTOS.parent))


def files_below(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def test_folders_of_labels_come_in_as_they_are() -> None:
    write_set("cat/1.jpg", "cat/2.PNG", "rote Möhre/1.jpg", "cat/.DS_Store", "cat/Thumbs.db", "readme.txt")
    done = run()
    assert imported() == ["cat/1.jpg", "cat/2.PNG", "rote Möhre/1.jpg"]
    assert "3 photos, 3 takes of 2 labels, in data/photos/:" in done.stdout
    assert "Too few takes to divide (3 are needed): cat, rote Möhre." in done.stdout
    assert {source.label for source in find_sources(layout.VIDEOS, layout.PHOTOS)} == {"cat", "rote Möhre"}


def test_a_folder_in_a_label_stays_one_take() -> None:
    write_set("cat/desk/1.jpg", "cat/desk/2.jpg", "dog/1.jpg")
    assert "3 photos, 2 takes of 2 labels" in run().stdout
    assert imported() == ["cat/desk/1.jpg", "cat/desk/2.jpg", "dog/1.jpg"]


@pytest.mark.parametrize(
    ("parts", "held_out"),
    [
        (("train", "val"), "val"),
        (("Train", "valid", "TEST"), "TEST"),
        (("training", "validation", "testing"), "testing"),
    ],
)
def test_the_parts_of_a_set_are_merged_and_its_test_part_can_be_kept(parts: tuple[str, ...], held_out: str) -> None:
    write_set(*(f"{part}/{label}/{i}.jpg" for part in parts for label in ("cat", "dog") for i in range(3)))
    told = run().stdout
    assert imported() == sorted(
        f"{label}/{part}-{i}.jpg" for part in parts for label in ("cat", "dog") for i in range(3)
    )
    (line,) = re.findall(r"write into params.yaml under `split`:  (test: .*)", told)
    chosen = yaml.safe_load(line)["test"]
    split(SplitStage(split=SplitConfig(validation_percent=10, test_percent=10, block_gap_percent=5, test=chosen)))
    tested = {take.name for take in read_takes(layout.SPLITS) if take.has_part("test")}
    assert tested == {f"{held_out}-{i}.jpg" for i in range(3)}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("inner/train/cat/1.jpg", "inner/val/cat/2.jpg"), "set/inner/train is a folder"),
        (("train/cat/1.jpg", "cat/1.jpg"), "holds train and beside them cat"),
        (("cat/1.jpg", "cat/notes.txt"), "set/cat/notes.txt is no photo by its name"),
        (("cat/a/b/1.jpg",), "set/cat/a/b is a folder"),
        (("cat/.hidden",), "no photos in set/cat"),
        (("1.jpg",), "no folders in set"),
        ((), "there is no folder set"),
    ],
)
def test_what_is_no_such_set(names: tuple[str, ...], message: str) -> None:
    write_set(*names)
    assert message in refusal()


def test_nothing_is_overwritten() -> None:
    write_set("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")
    write_bytes(layout.PHOTOS / "cat/2.jpg", b"mine")
    told = refusal()
    assert "already there, or twice in the set: data/photos/cat/2.jpg\n" in told
    assert (layout.PHOTOS / "cat/2.jpg").read_bytes() == b"mine"


def test_names_that_differ_only_in_case_are_refused() -> None:
    if Path("PARAMS.yaml").exists():
        pytest.skip("this disk knows no case")
    write_set("cat/a.jpg", "cat/A.jpg")
    assert "data/photos/cat/A.jpg, data/photos/cat/a.jpg" in refusal()


def test_the_same_content_comes_in_once_under_a_label_and_never_under_two() -> None:
    write_set("train/cat/1.jpg", "train/dog/1.jpg")
    write_bytes(Path("set/val/cat/7.jpg"), b"train/cat/1.jpg")
    assert "1 left out, since the same content was under the same label." in run().stdout
    assert imported() == ["cat/train-1.jpg", "dog/train-1.jpg"]
    write_bytes(Path("set/val/dog/7.jpg"), b"train/cat/1.jpg")
    told = refusal()
    assert "the same photo under two labels: set/train/cat/1.jpg and set/val/dog/7.jpg" in told


def test_links_share_the_disk_with_the_set() -> None:
    write_set("cat/1.jpg", "dog/1.jpg")
    assert run("--link").exit_code == 0
    assert (layout.PHOTOS / "cat/1.jpg").samefile("set/cat/1.jpg")


def test_links_to_another_disk_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    write_set("cat/1.jpg", "dog/1.jpg")
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert "cannot be linked into data/photos/ (Invalid cross-device link)" in refusal("--link")


def test_a_broken_link_is_named() -> None:
    write_set("cat/1.jpg")
    Path("set/cat/2.jpg").symlink_to("nowhere")
    assert "set/cat/2.jpg cannot be read (No such file or directory)" in refusal()


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_all_or_nothing(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set("cat/1.jpg", "dog/1.jpg", "dog/2.jpg")
    renamed: list[Path] = []
    rename = Path.rename

    def fail_in_time(path: Path, target: Path) -> Path:
        if len(renamed) == failing:
            raise KeyboardInterrupt
        renamed.append(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_in_time)
    with pytest.raises(KeyboardInterrupt):
        module.import_folder(Path("set"), links=False)
    assert imported() == []
    assert not list(layout.PHOTOS.iterdir())
    assert [path.name for path in layout.PHOTOS.parent.iterdir()] == ["photos"]


def test_labels_of_videos_are_told_of() -> None:
    write_set("cat/1.jpg", "dog/1.jpg")
    write_bytes(layout.VIDEOS / "hammer/1.mp4", b"")
    assert "Labels of data/videos/ are part of the project, too: hammer." in run().stdout
