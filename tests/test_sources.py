"""Whatever lies in the data folders is a take, is known to be none, or is named in one error with all the rest."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from pipeline.errors import InputError
from pipeline.files import layout, write_bytes
from pipeline.files.suffixes import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from pipeline.takes.sources import SIDECAR_SUFFIXES, find_sources, hidden_pictures, sources_below

CUP, PEN = layout.VIDEOS / "cup", layout.PHOTOS / "pen"


@pytest.fixture(autouse=True)
def takes(folder: Path) -> None:
    """Two labels with a good take each, and a third that tests fill."""
    for path in (CUP / "1.mp4", PEN / "1.jpg", PEN / "desk/1.jpg"):
        write(path)


def write(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() or os.fsencode(path))
    return path


def names() -> list[str]:
    return [f"{source.label}/{source.name}" for source in find_sources(layout.VIDEOS, layout.PHOTOS)]


def refusal() -> str:
    with pytest.raises(InputError) as caught:
        find_sources(layout.VIDEOS, layout.PHOTOS)
    return str(caught.value)


def test_a_take_knows_its_files() -> None:
    write(PEN / "desk/0.jpg")
    write(PEN / "desk/0.aae")
    files = {source.name: source.files for source in find_sources(layout.VIDEOS, layout.PHOTOS)}
    expected = {"1.mp4": [CUP / "1.mp4"], "1.jpg": [PEN / "1.jpg"], "desk": [PEN / "desk/0.jpg", PEN / "desk/1.jpg"]}
    assert files == expected


@pytest.mark.parametrize("suffix", [*SIDECAR_SUFFIXES, ".AAE", ".MOV.json"])
def test_what_phones_and_dvc_lay_beside_takes_is_ignored(suffix: str) -> None:
    for place in (layout.VIDEOS, CUP, layout.PHOTOS, PEN, PEN / "desk"):
        write(place / f"1{suffix}")
    write(CUP / ".gitignore")
    assert names() == ["cup/1.mp4", "pen/1.jpg", "pen/desk"]


def test_links_to_files_are_takes_and_a_data_folder_may_be_a_link() -> None:
    target = write(Path("elsewhere/2.mp4"))
    (CUP / "2.mp4").symlink_to(target.absolute())
    layout.VIDEOS.rename("elsewhere/videos")
    layout.VIDEOS.symlink_to(Path("elsewhere/videos").absolute())
    assert names() == ["cup/1.mp4", "cup/2.mp4", "pen/1.jpg", "pen/desk"]


@pytest.mark.parametrize("place", [layout.VIDEOS, CUP, PEN, PEN / "desk"])
@pytest.mark.parametrize("name", ["2.mp4", "2.jpg", ".hidden", "2.aae"])
def test_what_nobody_can_read_is_named_wherever_it_lies(place: Path, name: str) -> None:
    (place / name).symlink_to("nowhere")
    assert f"{place / name} is a link to nowhere, which is not there" in refusal()
    (place / name).unlink()
    os.mkfifo(place / name)
    assert f"{place / name} is a named pipe" in refusal()


def test_a_name_that_is_not_utf8() -> None:
    try:
        write(PEN / os.fsdecode(b"desk/\xff.jpg"))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert "the name of data/photos/pen/desk/\\xff.jpg is not UTF-8" in refusal()


@pytest.mark.parametrize("path", [CUP / "2.mp4", PEN / "2.jpg", PEN / "desk/2.jpg"])
def test_an_empty_file(path: Path) -> None:
    path.touch()
    assert f"{path} is empty (0 bytes)\n  expected: files with a picture in them" in refusal()


@pytest.mark.parametrize("place", [layout.VIDEOS, CUP, PEN, PEN / "desk"])
def test_what_icloud_has_not_downloaded(place: Path) -> None:
    write(place / ".IMG_4.mov.icloud")
    message = refusal()
    assert f"{place}/IMG_4.mov is not downloaded yet: iCloud left .IMG_4.mov.icloud there" in message
    assert "Download Now" in message


def test_a_label_or_a_take_that_is_a_link_to_a_folder() -> None:
    write(Path("elsewhere/1.jpg"))
    target = Path("elsewhere").absolute()
    for link in (layout.PHOTOS / "mug", PEN / "floor"):
        link.symlink_to(target)
    message = refusal()
    assert f"data/photos/mug is a link to the folder {target}" in message
    assert f"data/photos/pen/floor is a link to the folder {target}" in message
    assert "DVC does not look behind" in message
    assert len(sources_below(layout.PHOTOS, PHOTO_SUFFIXES)) == 4  # where no DVC watches, links are followed


def test_a_folder_named_like_a_video() -> None:
    write(CUP / "2.mp4/1.mp4")
    message = refusal()
    assert "data/videos/cup/2.mp4 is a folder" in message
    assert "move the files in it to data/videos/cup/" in message


def test_a_folder_in_a_folder_of_photos() -> None:
    write(PEN / "desk/old/1.jpg")
    assert "data/photos/pen/desk/old is a folder" in refusal()


def test_pictures_in_the_other_kinds_folder() -> None:
    for path in (CUP / "2.JPG", PEN / "2.mov", PEN / "desk/3.mov"):
        write(path)
    message = refusal()
    assert "data/videos/cup/2.JPG is a photo by its name" in message
    assert "move photos to data/photos/cup/" in message
    assert "data/photos/pen/2.mov is a video by its name" in message
    assert "data/photos/pen/desk/3.mov is a video by its name" in message
    assert "move videos to data/videos/pen/" in message


def test_pictures_outside_a_label() -> None:
    for name in ("1.jpg", "2.jpg", "1.mp4"):
        write(layout.VIDEOS / name)
    message = refusal()
    assert "data/videos/1.jpg, data/videos/2.jpg lie directly under data/videos/" in message
    assert "data/videos/1.mp4 lies directly under data/videos/" in message
    assert "data/videos/<label>/1.mp4; data/photos/<label>/1.jpg" in message


def test_empty_folders() -> None:
    write(PEN / "floor/1.aae")
    write(layout.VIDEOS / "mug/.DS_Store")
    message = refusal()
    assert "data/photos/pen/floor/ holds no photos" in message
    assert "label folder data/videos/mug/ holds no takes" in message


def test_a_data_folder_that_is_none() -> None:
    write(Path("elsewhere"))
    layout.VIDEOS.rename("videos")
    layout.VIDEOS.symlink_to("videos")
    assert "data/videos is a link to videos, which is not there" in refusal()
    layout.VIDEOS.unlink()
    write(layout.VIDEOS)
    assert "data/videos is a file\n  expected: a folder" in refusal()


def test_a_folder_that_one_may_not_list(monkeypatch: pytest.MonkeyPatch) -> None:
    iterdir = Path.iterdir

    def refusing(path: Path) -> Iterator[Path]:
        if path == PEN / "desk":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    assert "data/photos/pen/desk cannot be read (Permission denied)" in refusal()


def test_all_is_told_at_once() -> None:
    write(CUP / "notes.txt")
    write(PEN / "1.JPG")
    write(layout.VIDEOS / "Pen/1.mp4")
    (PEN / "2.jpg").touch()
    message = refusal()
    assert message.startswith("4 files or folders cannot be used:")
    neither = "data/videos/cup/notes.txt is neither video nor photo by its name"
    for part in (neither, "2.jpg is empty", "labels that differ only in case", "takes of label 'pen'"):
        assert part in message


def test_a_folder_of_any_kind_tells_all_at_once() -> None:
    for name in ("mug/1.txt", "mug/2.txt", "mug/3.jpg"):
        write(Path("any") / name)
    with pytest.raises(
        InputError, match=r"2 files or folders cannot be used:\n.*1.txt is neither .*\n.*2.txt is neither"
    ):
        sources_below(Path("any"), VIDEO_SUFFIXES + PHOTO_SUFFIXES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\nb", r"the name 'a\\nb' holds a line break or a control character"),
        ("a\u2028b", r"the name 'a\\u2028b' holds a line break"),
        ("a\x07", r"the name 'a\\x07' holds a line break or a control character"),
        ("\u00e4" * 125, r"has 250 bytes\n  expected: at most 240"),
    ],
)
def test_names_that_fit_in_no_line_or_no_file_name_are_refused(folder: Path, name: str, message: str) -> None:
    for label in (name, "cup"):
        write_bytes(Path("videos") / label / "take.mp4", label.encode())
    with pytest.raises(InputError, match=message):
        find_sources(Path("videos"), Path("photos"))


def test_two_forms_of_one_accent_are_two_folders_that_look_alike() -> None:
    forms: list[tuple[Literal["NFC", "NFD"], int]] = [("NFC", 1), ("NFD", 2)]
    for form, number in forms:
        write(layout.VIDEOS / unicodedata.normalize("NFC", "pêche") / f"{unicodedata.normalize(form, 'é')}.mp4", form)
        write(layout.VIDEOS / unicodedata.normalize(form, "café") / f"{number}.mp4", form)
    message = refusal()
    assert "two folders look like 'café': 'cafe\\u0301' and 'caf\\xe9', with accents encoded otherwise" in message
    assert "takes of label 'pêche' that differ only in how accents are encoded: two called 'é.mp4'" in message


def test_one_label_may_be_encoded_in_two_ways_in_two_data_folders() -> None:
    write(layout.VIDEOS / unicodedata.normalize("NFC", "café/1.mp4"))
    write(layout.PHOTOS / unicodedata.normalize("NFD", "café/2.jpg"))
    assert [name for name in names() if name.startswith("café")] == ["café/1.mp4", "café/2.jpg"]


def test_what_is_hidden_and_may_be_meant_is_listed() -> None:
    meant = [layout.VIDEOS / ".bird/1.mp4", layout.VIDEOS / "cup/.2.mov", layout.PHOTOS / "cup/.desk/a.jpg"]
    others = ["cup/._1.mp4", ".git/config", ".AppleDouble/1.mp4", "cup/.DS_Store", "cup/1.mp4", ".empty/.x"]
    for path in (*meant, *(layout.VIDEOS / name for name in others)):
        write(path)
    assert hidden_pictures(layout.VIDEOS, layout.PHOTOS, Path("none")) == [meant[0].parent, meant[1], meant[2].parent]
