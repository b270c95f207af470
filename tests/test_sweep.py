"""A sweep in a fresh clone, as the README has it. DVC's queue, templating and caches are real, and so are params.yaml,
conf/ and dvc.yaml. Only the stages are not (tests/stub_stages.py).
"""

import csv
import io
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo  # type: ignore[import-untyped]

from pipeline.files import layout
from tests import stub_stages
from tests.sandbox import Sandbox
from tests.stub_stages import SCHEME

pytestmark = pytest.mark.slow

MAX_WAIT_SECONDS = 600  # after that the queue is taken for dead


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A clone with a finished sweep over two resolutions, as the README has it."""
    made = stub_stages.make(tmp_path_factory.mktemp("sweep") / "project").clone("clone")
    made.run("dvc", "exp", "run", "--queue", "-S", "backbone=efficientnet_lite0,efficientnet_lite0_192")
    made.run("dvc", "queue", "start")
    try:
        wait_for_queue(made.folder, num_tasks=2)
        yield made
    finally:
        made.run("dvc", "queue", "stop", "--kill")


def wait_for_queue(folder: Path, num_tasks: int) -> None:
    """Wait until all tasks have ended (`dvc queue status`, without the time that a new process takes).

    A task that a worker has just taken is neither queued nor running for a moment, so those that ended are counted.
    """
    end = time.monotonic() + MAX_WAIT_SECONDS
    while True:
        with Repo(str(folder)) as repo:
            statuses = [task["status"] for task in repo.experiments.celery_queue.status()]
        if sum(status not in ("Queued", "Running") for status in statuses) == num_tasks:
            return
        assert time.monotonic() < end, statuses
        time.sleep(0.5)


def test_a_sweep_repeats_nothing_reads_well_and_leaves_to_git_only_what_is_gits(clone: Sandbox) -> None:
    counted = Counter(line.split()[0] for line in stub_stages.ran(clone))
    assert [counted[stage] for stage in ("split", "frames", "augment")] == [1, 1, 1]
    twice = ("architecture", "backbone", "bottlenecks", "train", "deploy")
    assert {stage: counted[stage] for stage in twice} == dict.fromkeys(twice, 2)

    rows = csv.DictReader(io.StringIO(clone.output("dvc", "exp", "show", "--csv").replace("params.yaml:", "")))
    tried = {row["backbone"]: row for row in rows if row["Experiment"]}
    assert {name: row["State"] for name, row in tried.items()} == {
        "efficientnet_lite0": "Success",
        "efficientnet_lite0_192": "Success",
    }
    assert len({float(row["metrics/deployed.json:accuracy"]) for row in tried.values()}) == 2

    clone.run("dvc", "exp", "apply", tried["efficientnet_lite0_192"]["Experiment"])
    assert (clone.folder / "models/deployed").is_dir()
    status = clone.run("git", "status", "--porcelain", "--untracked-files")
    changed = {line[3:] for line in status.splitlines()}
    written = {str(path) for path in (layout.ARCHITECTURE, layout.metrics(SCHEME), layout.DEPLOYED_METRICS)}
    assert changed == {"dvc.lock", "params.yaml", *written}
