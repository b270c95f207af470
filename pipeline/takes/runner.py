"""Maps takes to takes: by whichever engine, cached, with a progress bar, and with all bad takes told at once."""

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from pipeline.errors import PipelineError, combine
from pipeline.files.os_errors import telling_full_disk
from pipeline.takes.cache import TakeCache
from pipeline.takes.engines import Engine
from pipeline.takes.jobs import TakeJob
from pipeline.takes.staging import staged


def map_takes(jobs: Sequence[TakeJob], folder: Path, *, stage: str, engine: Engine, cache: TakeCache) -> None:
    """Fill a folder with the results of all jobs, and nothing else; the folder appears whole or stays as it was.

    Args:
        jobs: What to compute, in any order.
        folder: The stage's output folder.
        stage: Name for the progress bar and the closing line.
        engine: Computes what the cache does not have.
        cache: Where results are looked up before and kept after they are computed. Room is made in it at the end.

    Raises:
        PipelineError: If a take cannot be computed; all such takes are named. What the others gave stays in the cache.
        PipelineError: If the disk is full.
    """
    num_before = _num_files(folder)
    with telling_full_disk(folder), staged(folder) as staging:
        num_computed = _fill(staging, jobs, folder, stage=stage, engine=engine, cache=cache)
    num_dropped = f", {num_before - len(jobs)} dropped" if num_before > len(jobs) else ""
    sys.stderr.write(f"{stage}: {num_computed} takes computed, {len(jobs) - num_computed} reused{num_dropped}\n")
    cache.make_room(keep={job.key for job in jobs})


def _fill(staging: Path, jobs: Sequence[TakeJob], folder: Path, *, stage: str, engine: Engine, cache: TakeCache) -> int:
    """Write all results into `staging`, to become `folder`; return how many were not in the cache."""
    errors, missing = list[PipelineError](), list[TakeJob]()
    with tqdm(total=len(jobs), desc=stage, unit="take", disable=None) as progress:
        for job in jobs:
            content = cache.get(job.key)
            if content is None:
                missing.append(job)
            else:
                _write(staging, folder, job, content)
                progress.update()
        with closing(engine.run(missing)) as outcomes:
            for job, outcome in outcomes if missing else ():
                if isinstance(outcome, PipelineError):
                    errors.append(outcome)
                else:
                    cache.put(job.key, outcome)
                    _write(staging, folder, job, outcome)
                progress.update()
    if errors:
        raise combine(sorted(errors, key=str), "takes")
    return len(missing)


def _write(staging: Path, folder: Path, job: TakeJob, content: bytes) -> None:
    with telling_full_disk(folder / job.output, len(content)):
        output = staging / job.output
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(content)


def _num_files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*.parquet")) if folder.exists() else 0
