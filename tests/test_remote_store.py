"""Machines that share takes by the store of a DVC remote. Here it is a folder; tests/test_remote.py has one in S3."""

from pathlib import Path

import pytest

from pipeline.config import plain
from pipeline.config.cache import cache_config
from pipeline.errors import ConfigurationError, MissingPackageError
from pipeline.files import write_bytes, write_text
from pipeline.takes.cache import TakeCache, project_cache
from pipeline.takes.engines import LocalEngine
from pipeline.takes.remote_store import RemoteStore
from pipeline.takes.runner import map_takes
from tests.test_takes import job

KEY = "ab" * 32


@pytest.fixture
def store(folder: Path) -> Path:
    """Let DVC know the remote `storage`, a folder; return where entries lie in it."""
    write_text(Path(".dvc/config"), f"['remote \"storage\"']\n    url = {folder / 'store'}\n")
    return folder / "store/takes"


def machine(name: str) -> TakeCache:
    """Return the cache of a machine, which shares a store with others but nothing else."""
    return TakeCache(Path(name), store=RemoteStore("storage"))


def test_what_one_machine_computes_the_others_find(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job("cup/1"), job("cup/2")]
    whole = []
    for name, told in (("first", "2 takes computed, 0 reused"), ("second", "0 takes computed, 2 reused")):
        map_takes(jobs, Path("frames"), stage="frames", engine=LocalEngine(1), cache=machine(name))
        assert told in capsys.readouterr().err
        whole.append({path: path.read_bytes() for path in Path("frames").rglob("*.parquet")})
    assert whole[0] == whole[1]
    assert len(whole[0]) == 2
    assert len([path for path in store.rglob("*") if path.is_file()]) == 2


def test_small_results_are_shared_too(store: Path) -> None:
    machine("first").put(KEY, b"content")
    assert machine("second").get(KEY) == b"content"
    assert machine("third").get("cd" * 32) is None
    assert list(Path("third").rglob(".*")) == []


def test_damage_is_found_and_mended(store: Path) -> None:
    machine("first").put(KEY, b"content")
    path = store / KEY[:2] / KEY
    for damaged in (path.read_bytes()[:-1], b"", path.read_bytes() + b"x"):
        write_bytes(path, damaged)
        second = machine("second")
        assert second.get(KEY) is None
        second.put(KEY, b"content")
        assert machine("third").get(KEY) == b"content"
        for name in ("second", "third"):
            (Path(name) / KEY[:2] / KEY).unlink()


def test_what_is_absent_is_asked_for_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()
    monkeypatch.setattr(RemoteStore, "get_file", lambda _, key, __: asked.append(key))
    cache = machine("first")
    cache.fetch([KEY])
    assert cache.get(KEY) is None
    assert asked == [KEY]


def test_a_store_that_is_lost_is_told_once_and_costs_nothing_else(
    folder: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(folder / "store", "no folder")
    jobs = [job("cup/1"), job("cup/2")]
    cache = machine("first")
    map_takes(jobs, Path("frames"), stage="frames", engine=LocalEngine(1), cache=cache)
    told = capsys.readouterr().err
    assert told.count("takes are not shared: the remote `storage` cannot be used (") == 1
    assert "going on without it\n" in told
    assert "frames: 2 takes computed, 0 reused" in told
    cache.put(KEY, b"content")
    assert cache.get(KEY) == b"content"
    assert capsys.readouterr().err == ""


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """Let a text be conf/cache.yaml."""
    write_text(folder / "conf/cache.yaml", text)
    monkeypatch.setattr(plain, "CONF_FOLDER", folder / "conf")


def test_an_older_file_of_settings_shares_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, folder, "max_bytes: 5\n")
    assert (cache_config().max_bytes, cache_config().remote) == (5, "")
    assert project_cache().get(KEY) is None


@pytest.mark.parametrize(("known", "expected"), [(True, "one of storage"), (False, "the name of a DVC remote")])
def test_a_remote_that_dvc_does_not_know(
    store: Path, monkeypatch: pytest.MonkeyPatch, known: bool, expected: str
) -> None:
    if not known:
        Path(".dvc/config").write_text("")
    use(monkeypatch, Path.cwd(), "max_bytes: 5\nremote: storagee\n")
    with pytest.raises(
        ConfigurationError,
        match=f"`remote: storagee`, which DVC does not know\n  expected: {expected}\n.*`dvc remote list` shows",
    ):
        project_cache().get(KEY)


def test_a_package_that_dvc_lacks(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("s3 is supported, but requires 'dvc-s3' to be installed")

    monkeypatch.setattr("dvc.fs.get_cloud_fs", missing)
    with pytest.raises(MissingPackageError, match=r"lacks a package \(s3 is supported(.|\n)*install it with pip"):
        machine("first").get(KEY)
