"""Engines: wherever a take is computed, its bytes are the same; what fails there is told by the take's name."""

import importlib.util
import io
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.config import plain
from pipeline.config.cache import cache_config
from pipeline.config.composing import composed
from pipeline.config.engine import EngineConfig
from pipeline.config.frames import FramesStage
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.files import layout, write_bytes
from pipeline.images.codec import encode_jpeg
from pipeline.per_take.bottlenecks import FeatureExtractor
from pipeline.processes.workers import map_frames, num_workers
from pipeline.takes import ray_engine
from pipeline.takes.cache import cache_folder
from pipeline.takes.engines import Engine, engine_of
from pipeline.takes.jobs import TakeJob
from pipeline.takes.ray_engine import RayEngine, compute_in
from pipeline.takes.tables import to_parquet
from tests import kill_stages, tiny_models, tiny_project
from tests.conftest import PROJECT
from tests.test_takes import broken, job, made, table

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="the optional package ray is not installed")

HOW_NOT_WHAT = ("engine", "params.yaml", "conf", "conf/cache.yaml")  # or what holds such

RAY = EngineConfig(kind="ray", num_workers=2, address="", max_retries=2)


def contents(engine: Engine, jobs: list[TakeJob], folder: Path) -> dict[str, bytes | PipelineError]:
    return {job.name: error or (folder / job.output).read_bytes() for job, error in engine.run(jobs, folder)}


def composed_engine(params: dict[str, Any], *arguments: str) -> EngineConfig:
    """Return the engine that a stage gets."""
    frames = {"frames": {"per_second": 1, "width": 64}}
    return composed("frames", FramesStage, frames | params, arguments).engine


def test_the_choice_is_read_from_params() -> None:
    assert composed_engine({"engine": "ray"}) == EngineConfig("ray", 0, "", 3)
    assert composed_engine({"engine": "local"}) == EngineConfig("local", 0)
    assert composed_engine({"engine": "local"}, "engine=ray").kind == "ray"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("engine.num_workers=-1", "engine.num_workers: -1\n  expected: a number of at least 0"),
        ("engine.max_retries=-1", "engine.max_retries: -1\n  expected: a number of at least 0"),
        ("engine.kind=spark", "engine.kind: spark\n  expected: one of local, ray"),
        ("engine.num_workers=many", "command line: (.|\n)*a value of type int"),
        ("engine.memory=3", "command line: unknown key `engine.memory`\n  expected: one of kind, num_workers"),
    ],
)
def test_values_that_an_engine_cannot_have(argument: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        composed_engine({"engine": "ray"}, argument)


def test_the_size_of_the_cache_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_config().max_bytes > 1e9
    monkeypatch.setattr(plain, "CONF_FOLDER", tmp_path)
    for text, message in [
        ("max_bytes: -1", "max_bytes: -1\n  expected: a number of at least 0"),
        ("max_bytes: 20 GB", "conf/cache.yaml: Value '20 GB'"),
        ("", r"cache.yaml holds NoneType"),
    ]:
        (tmp_path / "cache.yaml").write_text(text)
        with pytest.raises(PipelineError, match=message):
            cache_config()


def test_no_stage_but_check_depends_on_engine_and_cache() -> None:
    for name, stage in yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"].items():
        tracked = [key for entry in stage.get("params", []) for key in ([entry] if isinstance(entry, str) else entry)]
        inputs = {*tracked, *stage["deps"], *re.findall(r"[\w./]+", stage["cmd"])}
        found = {text for text in inputs if text in HOW_NOT_WHAT or text.startswith("conf/engine")}
        assert found == ({"params.yaml", "conf"} if name == "check" else set()), name


def test_zero_workers_means_one_for_each_processor(tmp_path: Path) -> None:
    engine = engine_of(EngineConfig("local", 0))
    barrier = threading.Barrier(num_workers())  # broken unless as many takes are computed at once

    def meet() -> pa.RecordBatchReader:
        barrier.wait(60)
        return made("x")

    jobs = [TakeJob(str(i), Path(str(i)), "", meet) for i in range(num_workers())]
    assert all(isinstance(outcome, bytes) for outcome in contents(engine, jobs, tmp_path).values())


def test_the_frames_of_a_single_take_are_worked_on_at_the_same_time(tmp_path: Path) -> None:
    barrier = threading.Barrier(num_workers())

    def meet() -> pa.RecordBatchReader:
        numbers = map_frames(lambda number: number + 0 * barrier.wait(60), range(2 * num_workers()))
        return pa.table({"number": list(numbers)}).to_reader()

    jobs = [TakeJob("cup/1", Path("1"), "", meet)]
    (content,) = contents(engine_of(EngineConfig("local", 0)), jobs, tmp_path).values()
    assert isinstance(content, bytes)
    assert pq.read_table(io.BytesIO(content))["number"].to_pylist() == list(range(2 * num_workers()))


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "ray", None)
    with pytest.raises(PipelineError, match=r"Ray is not installed\n.*\n.*pip install .\[ray\]"):
        engine_of(RAY)


def test_a_worker_process_works_in_the_projects_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    (folder / "out").mkdir()
    assert compute_in(str(folder), job("cup/1"), Path("out")) is None
    assert Path.cwd() == folder
    assert Path("out/cup/1.parquet").read_bytes() == to_parquet(table("cup/1"))
    outcome = pickle.loads(pickle.dumps(compute_in(str(folder), job("a", broken), Path("out"))))  # as it comes back
    assert isinstance(outcome, PipelineError)
    assert (outcome.found, outcome.expected, outcome.remedy) == ("a is broken", "a video", "film it again")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Start a Ray cluster of two worker processes, which `RayEngine` finds connected."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("cluster")
def test_both_engines_give_the_same_bytes_in_every_stage(folder: Path) -> None:
    kill_stages.make_clips(num_frames=10)
    write_bytes(layout.backbone("float32"), tiny_models.backbone())
    found: dict[str, dict[Path, str | None]] = {}
    for name in ("local", "ray"):
        stages = kill_stages.long_stages(EngineConfig(name, 2))
        kill_stages.remove(cache_folder())
        for run, _ in stages.values():
            run()
        outputs = [path for _, paths in stages.values() for path in paths]
        found[name] = {path: kill_stages.digest(path) for path in outputs}
        for path in outputs:
            kill_stages.remove(path)
    assert found["local"] == found["ray"]
    assert None not in found["ray"].values()


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("cluster")
def test_bad_takes_are_told_from_other_processes(tmp_path: Path) -> None:
    outcomes = contents(RayEngine(RAY), [job("a", broken), job("cup/2")], tmp_path)
    assert str(outcomes["a"]) == "a is broken\n  expected: a video\n  to mend:  film it again"
    assert outcomes["cup/2"] == to_parquet(table("cup/2"))


def mortal(name: str, marker: Path, num_deaths: int) -> TakeJob:
    return TakeJob(name, Path(name), "", partial(kill_stages.die, marker, num_deaths, name))


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("cluster")
def test_a_take_is_begun_again_when_its_worker_dies(tmp_path: Path) -> None:
    jobs = [mortal("cup/1", tmp_path / "marker", 2), job("cup/2")]
    assert contents(RayEngine(RAY), jobs, tmp_path) == {j.name: to_parquet(table(j.name)) for j in jobs}


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("cluster")
def test_a_take_that_kills_every_worker_is_named(tmp_path: Path) -> None:
    outcomes = contents(RayEngine(RAY), [mortal("cup/1", tmp_path / "marker", 100), job("cup/2")], tmp_path)
    assert "cup/1: its worker process died 3 times" in str(outcomes["cup/1"])
    assert outcomes["cup/2"] == to_parquet(table("cup/2"))
    assert len((tmp_path / "marker").read_text()) == 3


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("cluster")
def test_our_own_faults_are_raised_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        contents(RayEngine(RAY), [TakeJob("a", Path("a"), "", partial(divmod, 1, 0))], tmp_path)


@pytest.mark.slow
@needs_ray
def test_a_stage_from_the_command_line_starts_its_own_cluster(folder: Path) -> None:
    kill_stages.make_clips(num_frames=10)
    settings = ["frames.per_second=20", "frames.width=200", "engine=ray", "engine.num_workers=2"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.frames", *settings],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "frames: 4 takes computed, 0 reused" in done.stderr
    on_ray = kill_stages.digest(layout.FRAMES)
    kill_stages.remove(cache_folder())
    kill_stages.STAGES["frames"][0]()
    assert kill_stages.digest(layout.FRAMES) == on_ray


def test_a_cluster_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(**settings: object) -> None:
            raise ConnectionError(f"nobody at {settings['address']}\nmore")

    monkeypatch.setattr(ray_engine, "ray", Ray)
    with pytest.raises(PipelineError, match=r"`address: host:1` \(nobody at host:1\)\n.*\n.*ray start --head"):
        contents(RayEngine(EngineConfig("ray", 0, "host:1", 0)), [job("a")], tmp_path)


@pytest.mark.slow
def test_interpreters_stay_with_their_threads() -> None:
    first, second = (FeatureExtractor(tiny_models.backbone(depth=depth), "stretch") for depth in (1, 2))
    image = encode_jpeg(tiny_project.picture(0, 0), quality=95)
    expected = [first.features(image), second.features(image), first.features(image)]
    assert (expected[0] == expected[2]).all()
    assert (expected[0] != expected[1]).any()
    assert (pickle.loads(pickle.dumps(second)).features(image) == expected[1]).all()
