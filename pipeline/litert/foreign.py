"""What there is to ask of a classifier that the project did not make: its labels, what its outputs are, its costs.

`python -m pipeline.litert.foreign MODEL ...` measures the costs, in a process of its own like `measure`, whose method
it shares; `measure` itself insists on the project's kind of model.
"""

import argparse
import dataclasses
import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.errors import PipelineError
from pipeline.litert.flatbuffer import operator_name, read_model
from pipeline.litert.interpreter import load_interpreter
from pipeline.litert.measure import _PERCENTILES, _PROJECT, Measurement, _peak_bytes, _start_watching_memory
from pipeline.litert.runtimes import Signature, signature

_CHANGES_NO_VALUE = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE")


def read_classifier(path: Path) -> tuple[bytes, Signature]:
    """Read a .tflite file, and what it takes and gives.

    Raises:
        PipelineError: If it cannot be read, is no TensorFlow Lite model, or no picture classifier that LiteRT runs.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror})", "check the path") from error
    if content[4:8] != b"TFL3":
        remedy = "convert the model to TensorFlow Lite first"
        raise _unreadable(path, f"is no TensorFlow Lite model: it begins with {content[:8]!r}", remedy)
    try:
        load_interpreter(content, 1)
    except PipelineError as error:
        remedy = "convert it again with built-in operators only, or fetch the file again"
        raise _unreadable(path, f"does not load: {error.found}", remedy) from error
    return content, signature(content)


def embedded_labels(content: bytes) -> list[str] | None:
    """Return the labels in a model's metadata, whatever their file is called; None if there is not one such file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".txt")]
            return archive.read(names[0]).decode().splitlines() if len(names) == 1 else None
    except zipfile.BadZipFile:
        return None


def output_operator(content: bytes) -> str:
    """Return the name of the operator that makes the output's values, such as `SOFTMAX`.

    Operators that only store values in another way are passed over. Empty for a model of several graphs.
    """
    try:
        model = read_model(content)
    except PipelineError:
        return ""
    graph = model.subgraphs[0]
    makers = {int(output): operator for operator in graph.operators for output in operator.outputs}
    operator = makers.get(int(graph.outputs[0]))
    while operator is not None and operator_name(model, operator) in _CHANGES_NO_VALUE:
        operator = makers.get(int(operator.inputs[0]))
    return "" if operator is None else operator_name(model, operator)


def measure_foreign(path: Path, *, num_threads: int, num_warmup: int, num_runs: int) -> Measurement:
    """Measure a classifier in a fresh process; see `measure.measure`.

    Raises:
        PipelineError: If the process fails; its last line tells why.
    """
    numbers = (num_threads, num_warmup, num_runs)
    command = [sys.executable, "-m", "pipeline.litert.foreign", str(path.resolve()), *map(str, numbers)]
    finished = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True, check=False)
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["no message"])[-1]
        raise _unreadable(path, f"cannot be measured: {reason}", "see that memory is not short")
    return Measurement(**json.loads(finished.stdout))


def measure_here(path: Path, num_threads: int, num_warmup: int, num_runs: int) -> Measurement:
    """Measure a classifier in this process, which should have done nothing else before."""
    before = _start_watching_memory()
    run = _runner(path.read_bytes(), num_threads)
    for _ in range(num_warmup):
        run()
    latencies_ms = [run() for _ in range(num_runs)]
    percentiles = np.percentile(latencies_ms, _PERCENTILES)
    return Measurement(
        latency_ms={f"p{rank}": round(float(value), 3) for rank, value in zip(_PERCENTILES, percentiles, strict=True)},
        peak_memory_bytes=max(_peak_bytes() - before, 0),
        num_threads=num_threads,
    )


def _runner(content: bytes, num_threads: int) -> Callable[[], float]:
    """Return what runs the model once on noise and tells how many milliseconds that took."""
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


def _unreadable(path: Path, what: str, remedy: str) -> PipelineError:
    return PipelineError(found=f"{path} {what}", expected="a .tflite file that LiteRT can run", remedy=remedy)


def main() -> None:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    for name in ("num_threads", "num_warmup", "num_runs"):
        parser.add_argument(name, type=int)
    arguments = parser.parse_args()
    measurement = measure_here(arguments.model, arguments.num_threads, arguments.num_warmup, arguments.num_runs)
    sys.stdout.write(json.dumps(dataclasses.asdict(measurement)) + "\n")


if __name__ == "__main__":
    main()
