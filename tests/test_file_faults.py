"""What cannot be read is named, and nobody waits for it."""

import os
import socket
import stat
from pathlib import Path

import pytest

from pipeline.files.faults import fault_of


def fault(path: Path) -> str:
    return str(fault_of(path))


def test_files_folders_links_and_missing_files_are_no_faults(folder: Path) -> None:
    Path("a").touch()
    Path("b").symlink_to("a")
    Path("c").symlink_to(folder)
    assert [fault_of(Path(name)) for name in (".", "a", "b", "c", "missing")] == [None] * 5


@pytest.mark.parametrize("target", ["nowhere", "link", "file/below"])
def test_a_link_that_leads_nowhere(folder: Path, target: str) -> None:
    Path("file").touch()
    Path("link").symlink_to(target)
    assert fault(Path("link")).startswith(f"link is a link to {target}, which is not there\n")


def test_a_named_pipe(folder: Path) -> None:
    os.mkfifo("pipe")
    assert fault(Path("pipe")).startswith("pipe is a named pipe\n")


def test_a_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket")
        assert fault(Path("socket")).startswith("socket is a socket\n")


def test_a_device_behind_a_link(folder: Path) -> None:
    Path("zero").symlink_to("/dev/zero")
    assert stat.S_ISCHR(Path("zero").stat().st_mode)
    assert fault(Path("zero")).startswith("zero is a device\n")


def test_a_file_and_a_folder_that_one_may_not_read(folder: Path) -> None:
    Path("a").touch(mode=0o200)
    Path("b").mkdir(mode=0o300)
    if os.access("a", os.R_OK):
        pytest.skip("root may read everything")
    assert fault(Path("a")).startswith("a cannot be read (Permission denied)\n")
    assert fault(Path("b")).startswith("b cannot be read (Permission denied)\n")


def test_a_file_that_the_system_keeps_from_us(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert fault(Path("a")).startswith("a cannot be read (Permission denied)\n")


def test_a_file_that_one_may_not_even_look_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat_of(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", stat_of)
    assert fault(Path("a")).startswith("a cannot be read (Permission denied)\n")


def test_a_name_that_is_not_utf8(folder: Path) -> None:
    path = Path(os.fsdecode(b"caf\xe9.jpg"))
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert fault(path).startswith("the name of caf\\xe9.jpg is not UTF-8\n")
