"""Maps takes to takes: parallel, cached, with a progress bar, and with all bad takes told at once."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from pipeline.errors import PipelineError, combine
from pipeline.takes.cache import TakeCache
from pipeline.takes.tables import to_parquet


@dataclass(frozen=True)
class TakeJob:
    """One take to make from one take.

    Attributes:
        name: What people know it by, "<label>/<take>".
        output: File to write, relative to the stage's output folder.
        key: Hash of all that the result depends on (`cache.key_of`).
        compute: Computes the result. Must depend on nothing that the key does not name. Runs in a thread: what takes
            time in it (decoding, resampling, inference) releases Python's lock.
    """

    name: str
    output: Path
    key: str
    compute: Callable[[], pa.Table]


def map_takes(jobs: Sequence[TakeJob], folder: Path, *, stage: str, num_workers: int, cache: TakeCache) -> None:
    """Fill a folder with the results of all jobs, and nothing else; the folder appears whole or stays as it was.

    Args:
        jobs: What to compute, in any order.
        folder: The stage's output folder.
        stage: Name for the progress bar and the closing line.
        num_workers: Takes computed at the same time.
        cache: Where results are looked up before and kept after they are computed.

    Raises:
        PipelineError: If a take cannot be computed; all such takes are named. What the others gave stays in the cache.
    """
    num_before = _num_files(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        num_computed = _compute_all(jobs, staging, stage=stage, num_workers=num_workers, cache=cache)
        _replace_folder(folder, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    num_dropped = f", {num_before - len(jobs)} dropped" if num_before > len(jobs) else ""
    sys.stderr.write(f"{stage}: {num_computed} takes computed, {len(jobs) - num_computed} reused{num_dropped}\n")


def _compute_all(jobs: Sequence[TakeJob], folder: Path, *, stage: str, num_workers: int, cache: TakeCache) -> int:
    """Run all jobs and return how many were not in the cache."""
    errors: list[PipelineError] = []
    num_computed = 0
    with (
        ThreadPoolExecutor(num_workers) as executor,
        tqdm(total=len(jobs), desc=stage, unit="take", disable=None) as progress,
    ):
        futures: list[Future[bool]] = [executor.submit(_run, job, folder, cache) for job in jobs]
        try:
            for future in as_completed(futures):
                try:
                    num_computed += future.result()
                except PipelineError as error:
                    errors.append(error)
                progress.update()
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    if errors:
        raise combine(sorted(errors, key=str), "takes")
    return num_computed


def _run(job: TakeJob, folder: Path, cache: TakeCache) -> bool:
    """Write one result and tell whether it had to be computed."""
    content = cache.get(job.key)
    is_new = content is None
    if content is None:
        content = to_parquet(job.compute())
        cache.put(job.key, content)
    output = folder / job.output
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    return is_new


def _replace_folder(folder: Path, staging: Path) -> None:
    """Put the finished folder in the old one's place."""
    if folder.exists():
        shutil.rmtree(folder)
    staging.chmod(0o755)
    staging.rename(folder)


def _num_files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*.parquet")) if folder.exists() else 0
