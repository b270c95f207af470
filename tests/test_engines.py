"""Engines: wherever a take is computed, its bytes are the same; what fails there is told by the take's name."""

import importlib.util
import io
import json
import logging
import os
import pickle
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
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
from pipeline.heads.crossvalidation import cross_validate
from pipeline.heads.fold_heads import FoldSettings, FoldTraining
from pipeline.images.codec import encode_jpeg
from pipeline.keys.processor import PROCESSOR, processor_features
from pipeline.per_take.bottlenecks import FeatureExtractor
from pipeline.per_take.frames import frames_of_video
from pipeline.processes.workers import map_frames, num_workers
from pipeline.takes import ray_engine
from pipeline.takes.cache import cache_folder
from pipeline.takes.engines import Engine, LocalEngine, Outcome, engine_of
from pipeline.takes.folds import deal
from pipeline.takes.jobs import TakeJob
from pipeline.takes.ray_engine import RayEngine, compute_sent
from pipeline.takes.tables import to_parquet
from tests import kill_stages, tiny_models, tiny_project
from tests.conftest import PROJECT
from tests.test_takes import broken, job, made, table
from tests.test_train import blobs

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


def sent(one: TakeJob, *contents: bytes) -> Any:
    """Return what a worker makes of a job, and of what is sent with it."""
    parts = list[bytes]()
    file = io.BytesIO()
    ray_engine._Pickler(file, parts).dump(one)
    return compute_sent(file.getvalue(), len(parts), *parts, *(np.frombuffer(one, np.uint8) for one in contents))


def test_a_worker_has_what_was_sent_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = layout.VIDEOS / "cup/1.mp4"
    one = replace(job("cup/1", partial(kill_stages.named_after, path)), reads=(path,))
    assert sent(one, b"content").tobytes() == to_parquet(table("content"))
    outcome = pickle.loads(pickle.dumps(sent(job("a", broken))))  # as it comes back
    assert isinstance(outcome, PipelineError)
    assert (outcome.found, outcome.expected, outcome.remedy) == ("a is broken", "a video", "film it again")
    assert list(tmp_path.iterdir()) == []
    assert Path.cwd() == tmp_path


def test_what_is_large_is_put_into_the_store_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        put = staticmethod(len)

    monkeypatch.setattr(ray_engine, "ray", Ray)
    store, backbone = ray_engine._Store(), bytes(range(256)) * 8192
    features = FeatureExtractor(backbone, "stretch")
    jobs = [TakeJob(name, Path(name), "", partial(features.table, Path(name), "")) for name in ("a", "b")]
    packed = [store.packed(one) for one in jobs]
    assert [shared for _, shared in packed] == [[len(backbone)], [len(backbone)]]
    assert len(store._put) == 1
    assert max(len(pickled) for pickled, _ in packed) < 2000


def test_the_rows_of_all_folds_are_put_into_the_store_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        put = staticmethod(len)

    monkeypatch.setattr(ray_engine, "ray", Ray)
    monkeypatch.setattr(ray_engine, "_LARGE_BYTES", 4096)
    rows, store = blobs((40, 30)), ray_engine._Store()
    settings = FoldSettings(tiny_project.TRAINING, (50,), 95, says_yes_or_no=False, title="")
    training = FoldTraining(rows, deal(rows.units, range(8), 4), settings)
    packed = [store.packed(one) for one in training.jobs()]
    assert len(packed) == 4
    assert len(store._put) == 1
    assert {len(shared) for _, shared in packed} == {1}
    assert max(len(pickled) for pickled, _ in packed) < 4096


def test_a_fold_that_cannot_be_computed_is_told() -> None:
    class Broken(LocalEngine):
        def run(self, jobs: Iterable[TakeJob], folder: Path) -> Generator[Outcome, None, None]:
            assert not list(folder.iterdir())
            for one in jobs:
                yield one, PipelineError(found=f"{one.name} is broken", expected="a worker", remedy="mend it")

    with pytest.raises(PipelineError, match="crossval, fold 1 is broken"):
        cross_validate(
            blobs((40, 30)), tiny_project.TRAINING, num_folds=4, percents=[], title="crossval", engine=Broken(1)
        )


def keyed() -> TakeJob:
    """Return a job of the pipeline's own."""
    compute = partial(frames_of_video, Path("1.mp4"), "", kill_stages.FRAMES)
    return TakeJob.of("cup/1", Path("cup/1.parquet"), compute, {PROCESSOR: processor_features()}, reads=[Path("1.mp4")])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"versions": {"pillow": "1.0"}}, rf"pillow {version('pillow')} instead of 1.0\n"),
        ({"versions": {"nothing": "1.0"}}, r"nothing not installed instead of 1.0\n"),
        ({"depends_on": {PROCESSOR: "another"}}, r"a processor of another kind, on which"),
        ({"key": "0" * 64}, r"other code of the pipeline\n"),
    ],
)
def test_a_machine_that_would_give_other_bytes_is_refused(change: dict[str, Any], found: str) -> None:
    """Its results would be kept, here and everywhere, under a key that says otherwise."""
    outcome = sent(replace(keyed(), **change), b"")
    assert isinstance(outcome, ConfigurationError)
    assert re.search(rf"the machine \S+ of the cluster has {found}", str(outcome))
    unchanged = sent(keyed(), b"")
    assert not isinstance(unchanged, ConfigurationError)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Start a Ray cluster of two worker processes, which `RayEngine` finds connected."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def every_stage(engine: EngineConfig) -> kill_stages.Stages:
    """Return all stages that leave work to an engine."""
    return kill_stages.long_stages(engine) | kill_stages.head_stages(engine)


@pytest.mark.slow
@needs_ray
@pytest.mark.usefixtures("cluster")
def test_both_engines_give_the_same_bytes_in_every_stage(folder: Path) -> None:
    kill_stages.make_clips(num_frames=10)
    kill_stages.name_parts()
    write_bytes(layout.backbone("float32"), tiny_models.backbone())
    found: dict[str, dict[Path, str | None]] = {}
    for name in ("local", "ray"):
        stages = every_stage(EngineConfig(name, 2))
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
def test_a_fold_is_begun_again_when_its_worker_is_killed() -> None:
    rows = blobs((400, 300), num_copies=1)
    expected = cross_validate(rows, tiny_project.TRAINING, num_folds=4, percents=[50], title="")
    killed = kill_one_worker()
    found = cross_validate(rows, tiny_project.TRAINING, num_folds=4, percents=[50], title="", engine=RayEngine(RAY))
    assert killed.result(60)
    assert found.predictions.probabilities.tobytes() == expected.predictions.probabilities.tobytes()
    assert found.learning.equals(expected.learning)


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


@contextmanager
def cluster_without_the_project(environment: dict[str, str], *hidden: Path) -> Iterator[str]:
    """Start a cluster whose workers run where folders are hidden: another root, as on another machine.

    The first node has no processor to lend; the second lives in a mount namespace in which these folders are empty.
    """
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces need root")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    ray = str(Path(sys.executable).parent / "ray")
    usual = ["--disable-usage-stats", "--block"]
    head = [ray, "start", "--head", f"--port={address.split(':')[1]}", "--num-cpus=0", "--include-dashboard=false"]
    mounts = " && ".join(f"mount -t tmpfs none '{path}'" for path in hidden)
    node = f"cd / && {mounts} && exec '{ray}' start --address={address} --num-cpus=2 {' '.join(usual)}"
    started = list[subprocess.Popen[bytes]]()
    try:
        for command in ([*head, *usual], ["unshare", "--mount", "sh", "-c", node]):
            started.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            time.sleep(5)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(60)


@pytest.mark.slow
@needs_ray
def test_the_work_travels_to_machines_without_the_project(folder: Path) -> None:
    """Two nodes, one of them amid a take when its worker is killed; not even the code lies where the takes are made."""
    kill_stages.make_clips(num_frames=60)
    kill_stages.name_parts()
    write_bytes(layout.backbone("float32"), tiny_models.backbone())
    here = every_stage(EngineConfig("local", 2))
    hidden = [folder, *(PROJECT / name for name in ("pipeline", "conf", "tests"))]
    outputs = [path for _, paths in here.values() for path in paths]
    for run, _ in here.values():
        run()
    expected = {path: kill_stages.digest(path) for path in outputs}
    for path in (*outputs, cache_folder()):
        kill_stages.remove(path)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 64, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with cluster_without_the_project(environment, *hidden) as address:
        killed = kill_one_worker()
        stages = f"every_stage(EngineConfig('ray', 2, '{address}', 3))"
        imports = "from pipeline.config.engine import EngineConfig; from tests.test_engines import every_stage"
        done = subprocess.run(
            [sys.executable, "-c", f"{imports}; [run() for run, _ in {stages}.values()]"],
            env=environment | {"PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert killed.result(60)
    assert "frames: 4 takes computed, 0 reused" in done.stderr
    assert {path: kill_stages.digest(path) for path in outputs} == expected
    assert None not in expected.values()


def kill_one_worker() -> Future[bool]:
    """Wait in a thread for a worker that is amid a take, and kill it."""

    def kill() -> bool:
        for _ in range(6000):
            for process in psutil.process_iter(["cmdline"]):
                if (process.info["cmdline"] or [""])[0].startswith("ray::compute_sent"):
                    process.kill()
                    return True
            time.sleep(0.01)
        return False

    return ThreadPoolExecutor(1).submit(kill)


@needs_ray
def test_the_cluster_of_the_docs_is_one_that_ray_takes() -> None:
    cluster = yaml.safe_load((PROJECT / "examples/ray/aws.yaml").read_text())
    schema = Path(str(importlib.util.find_spec("ray").origin)).parent / "autoscaler/ray-schema.json"  # type: ignore[union-attr]
    jsonschema.validate(cluster, json.loads(schema.read_text()))
    assert set(cluster["available_node_types"]) == {cluster["head_node_type"], "worker"}
    for text in (str(cluster["setup_commands"]), (PROJECT / "docs/pages/grow.md").read_text()):
        assert f'"ray[default]=={version("ray")}"' in text


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
