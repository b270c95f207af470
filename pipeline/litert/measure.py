"""Measures what a model costs: how long a picture takes, and how much memory.

It runs in a process of its own (`python -m pipeline.litert.measure MODEL ...`), as memory that something else has used
before would hide the model's.
"""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import ModelError, PipelineError
from pipeline.litert.interpreter import load_interpreter
from pipeline.processes.endings import died, ending

_PROJECT = Path(__file__).resolve().parents[2]
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Measurement:
    """Costs of one picture.

    Attributes:
        latency_ms: Milliseconds of the forward pass alone, keyed `p50`, `p90` and `p99`.
        peak_memory_bytes: Resident memory that loading and running the model added, at its highest; the file's own
            bytes are part of it.
        num_threads: Threads that LiteRT could use.
    """

    latency_ms: dict[str, float]
    peak_memory_bytes: int
    num_threads: int


def measure(path: Path, *, num_threads: int, num_warmup: int, num_runs: int) -> Measurement:
    """Measure a model in a fresh process.

    Args:
        path: A .tflite file that takes one tensor and gives one.
        num_threads: Threads that LiteRT may use.
        num_warmup: Runs that are not counted.
        num_runs: Runs that are, at least 1.

    Raises:
        ModelError: If the process fails; its last line tells why, or its last lines if a signal ended it.
    """
    numbers = (num_threads, num_warmup, num_runs)
    command = [sys.executable, "-m", "pipeline.litert.measure", str(path.resolve()), *map(str, numbers)]
    finished = subprocess.run(command, cwd=_PROJECT, capture_output=True, encoding="utf-8", check=False)
    if finished.returncode < 0:
        raise died(f"the process that measures {path}", ending(finished.returncode), finished.stderr)
    if finished.returncode:
        raise ModelError(
            found=f"{path} cannot be measured: {(finished.stderr.strip().splitlines() or ['no message'])[-1]}",
            expected="a .tflite file that LiteRT can run",
            remedy="see that memory is not short; run `dvc repro` if the model is the project's own",
        )
    return Measurement(**json.loads(finished.stdout))


def measure_here(path: Path, num_threads: int, num_warmup: int, num_runs: int) -> Measurement:
    """Measure a model in this process, which should have done nothing else before."""
    before = _start_watching_memory()
    run = timed_runner(path.read_bytes(), num_threads)
    for _ in range(num_warmup):
        run()
    latencies_ms = [run() for _ in range(num_runs)]
    percentiles = np.percentile(latencies_ms, PERCENTILES)
    return Measurement(
        latency_ms={f"p{rank}": round(float(value), 3) for rank, value in zip(PERCENTILES, percentiles, strict=True)},
        peak_memory_bytes=max(_peak_bytes() - before, 0),
        num_threads=num_threads,
    )


def timed_runner(content: bytes, num_threads: int) -> Callable[[], float]:
    """Return what runs a model once on noise and tells how many milliseconds that took."""
    interpreter = load_interpreter(content, num_threads)
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    noise = np.random.default_rng(0).integers(0, 256, taken["shape"]).astype(taken["dtype"])
    if taken["dtype"] is np.float32:
        noise = noise / np.float32(127.5) - 1

    def run() -> float:
        start = time.perf_counter()
        interpreter.set_tensor(taken["index"], noise)
        interpreter.invoke()
        interpreter.get_tensor(given["index"])
        return (time.perf_counter() - start) * 1000

    return run


def _start_watching_memory() -> int:
    """Return the resident memory in bytes that the peak is to be compared with.

    On Linux the peak so far is forgotten (proc(5), clear_refs), else what Python's imports needed for a moment would
    hide a small model.
    """
    if not sys.platform.startswith("linux"):
        return _peak_bytes()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # some containers forbid it
        return _peak_bytes()
    return _linux_memory_bytes("VmRSS")


def _peak_bytes() -> int:
    """Return the highest resident memory of this process in bytes.

    Not `ru_maxrss` on Linux: it outlives `exec`, so a child of a large process starts with its parent's peak.
    """
    if sys.platform.startswith("linux"):
        return _linux_memory_bytes("VmHWM")
    import resource  # noqa: PLC0415 - not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _linux_memory_bytes(key: str) -> int:
    """Return a line of /proc/self/status (proc(5)), which counts in KiB."""
    found = re.search(rf"^{key}:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    for name in ("num_threads", "num_warmup", "num_runs"):
        parser.add_argument(name, type=int)
    arguments = parser.parse_args()
    try:
        measurement = measure_here(arguments.model, arguments.num_threads, arguments.num_warmup, arguments.num_runs)
    except PipelineError as error:
        sys.exit(error.found)
    sys.stdout.write(json.dumps(dataclasses.asdict(measurement)) + "\n")


if __name__ == "__main__":
    main()
