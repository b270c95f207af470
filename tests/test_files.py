"""Files appear whole or not at all, and with the rights that a person's other files have."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import FullDiskError, InputError, PipelineError, combine
from pipeline.files import write_bytes, write_text
from pipeline.files.os_errors import telling_os_errors
from pipeline.takes.staging import staged


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_and_folders_keep_the_umask(folder: Path, umask: int) -> None:
    write_text(Path("a/file"), "text")
    with staged(Path("out")) as staging:
        write_bytes(staging / "b", b"")
    modes = {name: stat.S_IMODE(Path(name).stat().st_mode) for name in ("a/file", "out", "out/b")}
    assert modes == {"a/file": 0o666 & ~umask, "out": 0o777 & ~umask, "out/b": 0o666 & ~umask}


def test_a_name_of_the_greatest_length_can_be_written(folder: Path) -> None:
    write_text(Path("x" * 255), "text")
    assert [path.name for path in folder.iterdir()] == ["x" * 255]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "data/a.mp4"), r"the system refused data/a\.mp4: Permission denied"),
        (FileNotFoundError(2, "No such file or directory", b"models/x"), "the system refused models/x: No such file"),
        (OSError(24, "Too many open files"), r"the system refused: Too many open files \(error 24\)"),
    ],
)
def test_what_the_system_refuses_is_told(error: OSError, message: str) -> None:
    with pytest.raises(PipelineError, match=message), telling_os_errors(Path()):
        raise error


def test_a_full_disk_has_a_kind_of_its_own() -> None:
    with pytest.raises(FullDiskError, match="no space left"), telling_os_errors(Path()):
        raise OSError(28, "No space left on device")


def test_errors_of_one_kind_stay_of_that_kind() -> None:
    one, other = (InputError(found=name, expected="e", remedy="r") for name in "ab")
    assert combine([one], "takes") is one
    assert isinstance(combine([one, other], "takes"), InputError)
    mixed = combine([one, FullDiskError(found="c", expected="e", remedy="r")], "takes")
    assert type(mixed) is PipelineError
    assert str(mixed).startswith("2 takes cannot be used:\n  - a\n  - c\n  expected: e\n")


def test_every_kind_has_a_status_of_its_own() -> None:
    kinds: list[type[PipelineError]] = [PipelineError, *PipelineError.__subclasses__()]
    assert len({kind.exit_status for kind in kinds}) == len(kinds) > 5
