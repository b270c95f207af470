"""The take cache and the runner: results depend on the input alone, and appear whole or not at all."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError, PipelineError
from pipeline.files import sha256_of_bytes
from pipeline.files.main_project import main_project
from pipeline.keys.key import hash_of
from pipeline.takes.cache import CACHE_VARIABLE, TakeCache, cache_folder
from pipeline.takes.engines import LocalEngine
from pipeline.takes.jobs import TakeJob
from pipeline.takes.runner import map_takes
from pipeline.takes.tables import AUGMENTED, FRAMES, read_parquet, read_unchanged, to_parquet
from tests.conftest import PROJECT


def table(name: str) -> pa.Table:
    return pa.table([[name], [0.5], [name.encode()]], schema=FRAMES)


def broken(name: str) -> pa.RecordBatchReader:
    raise PipelineError(found=f"{name} is broken", expected="a video", remedy="film it again")


def made(name: str) -> pa.RecordBatchReader:
    return table(name).to_reader()


def job(name: str, compute: Callable[[str], pa.RecordBatchReader] = made) -> TakeJob:
    return TakeJob(name, Path(f"{name}.parquet"), hash_of({"name": name}), partial(compute, name))


def run(jobs: list[TakeJob], folder: Path, cache: TakeCache) -> dict[str, bytes]:
    map_takes(jobs, folder, stage="frames", engine=LocalEngine(2), cache=cache)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_a_take_that_begins_after_the_folder_is_given_up_does_not_bring_it_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        job("cup/late").write(tmp_path / ".frames.0")
    assert list(tmp_path.iterdir()) == []


def all_of(setting: str) -> list[TakeJob]:
    return [job(f"cup/{setting}{i}") for i in range(4)]


def expected(setting: str) -> dict[str, bytes]:
    return {f"cup/{setting}{i}.parquet": to_parquet(table(f"cup/{setting}{i}")) for i in range(4)}


DAMAGES = {
    "truncate": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "flip": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([b ^ 1 for b in path.read_bytes()[-1:]])),
    "empty": lambda path: path.write_bytes(b""),
    "swap": lambda path: path.write_bytes(TakeCache(path.parents[1]).path_of(all_of("a")[0].key).read_bytes()),
    "folder": lambda path: (path.unlink(), path.mkdir(), (path / "x").touch()),
    "file for a folder": lambda path: (path.unlink(), path.parent.rmdir(), path.parent.touch()),
}


def damage(cache: TakeCache, how: str) -> None:
    for entry in sorted(cache.folder.glob("??/*")):
        try:
            DAMAGES[how](entry)
        except OSError:  # the other process was quicker, or two entries share a folder
            continue


@pytest.fixture(scope="module")
def emptied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TakeCache]:
    """Give a cache that another process empties all the time."""
    cache = TakeCache(tmp_path_factory.mktemp("emptied") / "cache")
    code = "import sys, time, pathlib\nfrom pipeline.takes.cache import TakeCache\n"
    code += "cache = TakeCache(pathlib.Path(sys.argv[1]), 0)\nprint(flush=True)\n"
    code += "while True: cache.make_room(); time.sleep(0.0005)"
    command = [sys.executable, "-c", code, str(cache.folder)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield cache
        assert process.poll() is None
        process.kill()


STEPS = st.lists(st.sampled_from(["run a", "run b", "make room", *DAMAGES]), min_size=1, max_size=8)


@given(STEPS, st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_state_of_the_cache_changes_an_output(
    tmp_path_factory: pytest.TempPathFactory, emptied: TakeCache, steps: list[str], shared: bool
) -> None:
    out = tmp_path_factory.mktemp("out")
    cache = emptied if shared else TakeCache(out / "cache")
    for step in ["run a", *steps, "run b", "run a"]:
        if step.startswith("run"):
            assert run(all_of(step[-1]), out / step, cache) == expected(step[-1])
        elif step == "make room":
            TakeCache(cache.folder, 1000).make_room()
        else:
            damage(cache, step)


@pytest.mark.parametrize("how", list(DAMAGES))
def test_a_damaged_entry_is_missed_once_and_written_anew(tmp_path: Path, how: str) -> None:
    cache = TakeCache(tmp_path / "cache")
    cache.put(all_of("a")[0].key, b"another entry")
    cache.put("ab" * 32, b"content")
    DAMAGES[how](cache.path_of("ab" * 32))
    assert cache.get("ab" * 32) is None
    cache.put("ab" * 32, b"content")
    assert cache.get("ab" * 32) == b"content"


def test_room_is_made_by_last_use_but_not_of_what_is_in_use(tmp_path: Path) -> None:
    cache = TakeCache(tmp_path, max_bytes=150)
    keys = [f"{i:064x}" for i in range(4)]
    for age_seconds, key in enumerate(keys):
        cache.put(key, bytes(18))  # 50 bytes with the digest
        os.utime(cache.path_of(key), (1e9 - age_seconds, 1e9 - age_seconds))
    cache.get(keys[3])
    left = cache.make_room(keep={keys[2]})
    assert (left.num_entries, left.num_bytes, left.num_removed, left.num_removed_bytes) == (3, 150, 1, 50)
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]
    assert TakeCache(tmp_path, max_bytes=0).make_room(keep=keys).num_removed == 0


def test_a_run_makes_room_and_keeps_what_it_used(tmp_path: Path) -> None:
    cache = TakeCache(tmp_path / "cache", max_bytes=0)
    run(all_of("a"), tmp_path / "out", cache)
    run(all_of("b"), tmp_path / "out", cache)
    assert {path.name for path in cache.folder.glob("??/*")} == {job.key for job in all_of("b")}


def test_old_temporary_files_go_and_everything_else_stays(tmp_path: Path) -> None:
    for name in (f"ab/.{'ab' * 32}.old", f"ab/.{'ab' * 32}.new", "ab/notes.txt", "thesis.odt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    yesterday = time.time() - 25 * 3600
    for name in (f"ab/.{'ab' * 32}.old", "ab/notes.txt"):
        os.utime(tmp_path / name, (yesterday, yesterday))
    TakeCache(tmp_path, max_bytes=0).make_room()
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {f".{'ab' * 32}.new", "notes.txt", "thesis.odt"}


def test_an_entry_that_another_process_removes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TakeCache(tmp_path)
    cache.put("ab" * 32, b"content")
    read_bytes = Path.read_bytes

    def read_and_lose(path: Path) -> bytes:
        found = read_bytes(path)
        path.unlink()
        return found

    monkeypatch.setattr(Path, "read_bytes", read_and_lose)
    assert cache.get("ab" * 32) == b"content"
    assert cache.get("ab" * 32) is None


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match=f"cannot be written .*\n.*\n.*{CACHE_VARIABLE}"):
        TakeCache(tmp_path / "file/cache").put("ab" * 32, b"content")


def project_in(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dvc.yaml").touch()
    return folder


def git(*arguments: str, folder: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("below", ["", "vision"])
def test_experiments_and_worktrees_use_the_main_projects_cache(tmp_path: Path, below: str) -> None:
    project = project_in(tmp_path / "main" / below)
    git("init", folder=tmp_path / "main")
    git("add", ".", folder=tmp_path / "main")
    git("commit", "-m", "x", folder=tmp_path / "main")
    git("worktree", "add", "../other", folder=tmp_path / "main")
    worktree = tmp_path / "other" / below
    assert main_project(project) == project
    assert main_project(worktree) == project
    for place in ("tmp1", "standalone/tmp1"):
        assert main_project(project_in(project / ".dvc/tmp/exps" / place / below)) == project
        assert main_project(project_in(worktree / ".dvc/tmp/exps" / place / below)) == project


def test_other_folders_are_their_own_main_project(tmp_path: Path) -> None:
    project = project_in(tmp_path / "sub")
    assert main_project(project) == project
    (project / ".git").write_text("gitdir: ../.git/modules/sub\n")  # a submodule
    assert main_project(project) == project
    lone = project_in(tmp_path / ".dvc/tmp/exps/lone")  # what lies around it is no project
    assert main_project(lone) == lone


def test_where_the_cache_lies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    assert cache_folder() == folder / ".cache/takes"
    monkeypatch.setenv(CACHE_VARIABLE, "~/takes")
    assert cache_folder() == Path.home() / "takes"


def test_only_new_takes_are_computed_and_old_ones_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = TakeCache(tmp_path / "cache")
    run([job("cup/1"), job("cup/2"), job("pen/1")], tmp_path / "out", cache)
    left = run([job("cup/1"), job("cup/3")], tmp_path / "out", cache)
    assert list(left) == ["cup/1.parquet", "cup/3.parquet"]
    assert "frames: 1 takes computed, 1 reused, 1 dropped" in capsys.readouterr().err


def test_a_bad_take_is_named_and_the_old_outputs_stay(tmp_path: Path) -> None:
    cache = TakeCache(tmp_path / "cache")
    before = run([job("cup/1")], tmp_path / "out", cache)
    with pytest.raises(PipelineError, match=r"2 takes cannot be used:\n  - a is broken\n  - b is broken"):
        run([job("b", broken), job("cup/2"), job("a", broken)], tmp_path / "out", cache)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "cache"}
    assert (tmp_path / "out/cup/1.parquet").read_bytes() == before["cup/1.parquet"]
    assert cache.get(hash_of({"name": "cup/2"})) is not None


@given(st.binary(max_size=100), st.integers(0, 200), st.integers(1, 255))
def test_a_flipped_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, at: int, flip: int
) -> None:
    cache = TakeCache(tmp_path_factory.mktemp("cache"))
    cache.put("ab" * 32, content)
    path = cache.path_of("ab" * 32)
    entry = bytearray(path.read_bytes())
    entry[at % len(entry)] ^= flip
    path.write_bytes(entry)
    assert cache.get("ab" * 32) is None
    assert not path.exists()


def test_tables_of_equal_rows_have_equal_bytes_and_read_back(tmp_path: Path) -> None:
    rows = pa.table([["a-0"], [1], [None], [b"jpeg"]], schema=AUGMENTED)
    (tmp_path / "take.parquet").write_bytes(to_parquet(rows))
    assert to_parquet(rows) == (tmp_path / "take.parquet").read_bytes()
    assert read_parquet(tmp_path / "take.parquet").equals(rows)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 but no more"])
def test_a_missing_or_damaged_table(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "take.parquet").write_bytes(content)
    with pytest.raises(PipelineError, match=r"take.parquet cannot be read"):
        read_parquet(tmp_path / "take.parquet")


def test_a_table_that_changed_since_its_key_was_made_is_refused(tmp_path: Path) -> None:
    rows = to_parquet(table("a"))
    (tmp_path / "take.parquet").write_bytes(rows)
    assert list(read_unchanged(tmp_path / "take.parquet", sha256_of_bytes(rows))) == table("a").to_pylist()
    (tmp_path / "take.parquet").write_bytes(to_parquet(table("b")))
    with pytest.raises(InputError, match=r"take\.parquet has changed while the stage ran"):
        next(read_unchanged(tmp_path / "take.parquet", sha256_of_bytes(rows)))
