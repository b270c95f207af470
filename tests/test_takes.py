"""The take cache and the runner: results depend on the input alone, and appear whole or not at all."""

from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.takes.cache import TakeCache, key_of
from pipeline.takes.runner import TakeJob, map_takes
from pipeline.takes.tables import AUGMENTED, FRAMES, read_parquet, to_parquet


def table(name: str) -> pa.Table:
    return pa.table([[name], [0.5], [name.encode()]], schema=FRAMES)


def broken(name: str) -> pa.Table:
    raise PipelineError(found=f"{name} is broken", expected="a video", remedy="film it again")


def job(name: str, compute: object = table) -> TakeJob:
    return TakeJob(name, Path(f"{name}.parquet"), key_of({"name": name}), partial(compute, name))  # type: ignore[arg-type]


def run(jobs: list[TakeJob], folder: Path, cache: TakeCache) -> dict[str, bytes]:
    map_takes(jobs, folder, stage="frames", num_workers=2, cache=cache)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_outputs_are_equal_with_the_cache_cold_warm_and_damaged(tmp_path: Path) -> None:
    jobs = [job(f"cup/{i}") for i in range(6)]
    cold = run(jobs, tmp_path / "out", TakeCache(tmp_path / "cache"))
    warm = run(jobs, tmp_path / "out", TakeCache(tmp_path / "cache"))
    for index, entry in enumerate(sorted((tmp_path / "cache").rglob("*/*"))):
        damage = [b"", entry.read_bytes()[:-1], entry.read_bytes() + b"x", b"x" * 40][index % 4]
        entry.write_bytes(damage)
    damaged = run(jobs, tmp_path / "out", TakeCache(tmp_path / "cache"))
    without = run(jobs, tmp_path / "out", TakeCache(tmp_path / "another"))
    assert cold == warm == damaged == without == {f"cup/{i}.parquet": to_parquet(table(f"cup/{i}")) for i in range(6)}


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
    assert cache.get(key_of({"name": "cup/2"})) is not None


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
