"""Maps takes to takes: by whichever engine, cached, with a progress bar, and with all bad takes told at once."""

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pipeline.errors import PipelineError, combine
from pipeline.files import write_text
from pipeline.files.os_errors import telling_full_disk
from pipeline.processes.progress import Progress
from pipeline.takes.cache import TakeCache
from pipeline.takes.engines import Engine
from pipeline.takes.jobs import TakeJob
from pipeline.takes.last_run import LastRun
from pipeline.takes.staging import staged


def map_takes(
    jobs: Sequence[TakeJob], folder: Path, *, stage: str, engine: Engine, cache: TakeCache, keys: Path | None = None
) -> None:
    """Fill a folder with the results of all jobs, and nothing else; the folder appears whole or stays as it was.

    Args:
        jobs: What to compute, in any order.
        folder: The stage's output folder.
        stage: Name for the progress bar and the closing line.
        engine: Computes what the cache does not have.
        cache: Where results are looked up before and kept after they are computed. Room is made in it at the end.
        keys: Another output of the stage, which names the key of each result, so that results are found in DVC's cache
            if the take cache does not have them (see `last_run`); None if the folder is no output of DVC's.

    Raises:
        PipelineError: If a take cannot be computed; all such takes are named. What the others gave stays in the cache.
        PipelineError: If the disk is full.
    """
    num_before = _num_files(folder)
    with telling_full_disk(folder), staged(folder) as staging:
        missing = _fill_from_caches(staging, jobs, cache, folder, keys)
        _fill(staging, missing, num_found=len(jobs) - len(missing), stage=stage, engine=engine, cache=cache)
    if keys:
        write_text(keys, json.dumps({str(job.output): job.key for job in jobs}, indent=0, sort_keys=True) + "\n")
    num_dropped = f", {num_before - len(jobs)} dropped" if num_before > len(jobs) else ""
    num_computed, num_reused = len(missing), len(jobs) - len(missing)
    sys.stderr.write(f"{stage}: {num_computed} takes computed, {num_reused} reused{num_dropped}\n")
    cache.make_room(keep={job.key for job in jobs})


def _fill_from_caches(
    staging: Path, jobs: Sequence[TakeJob], cache: TakeCache, folder: Path, keys: Path | None
) -> list[TakeJob]:
    """Copy what the take cache or DVC's cache has into `staging`, to become `folder`; return the jobs that are left."""
    cache.fetch(job.key for job in jobs)
    missing = [job for job in jobs if not cache.get_file(job.key, staging / job.output)]
    if not missing or not keys:
        return missing
    last_run, left = LastRun.of(folder, keys), list[TakeJob]()
    for job in missing:
        if last_run.get_file(job.key, staging / job.output):
            cache.put_file(job.key, staging / job.output)
        else:
            left.append(job)
    return left


def _fill(
    staging: Path, jobs: Sequence[TakeJob], *, num_found: int, stage: str, engine: Engine, cache: TakeCache
) -> None:
    """Compute results into a folder that others are in already."""
    errors, num_takes = list[PipelineError](), num_found + len(jobs)
    with (
        Progress(stage, total=num_takes, unit="take", initial=num_found) as progress,
        closing(engine.run(jobs, staging)) as outcomes,
    ):
        for job, error in outcomes if jobs else ():
            if error:
                errors.append(error)
            else:
                cache.put_file(job.key, staging / job.output)
            progress.update()
    if errors:
        raise combine(sorted(errors, key=str), "takes")


def _num_files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*.parquet")) if folder.exists() else 0
