"""Starts Flower in its environment on a job, and reads what came out."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError
from pipeline.federated.clients import Clients
from pipeline.federated.descent import Floats, Weights
from pipeline.federated.environment import PROJECT, QUIET, set_up
from pipeline.processes.endings import ending, last_lines
from pipeline.processes.progress import Progress
from pipeline.processes.workers import num_workers

_MAIN = "from pipeline.federated.flower_guest import main; main()"
_SECONDS_TO_END = 20


@dataclass(frozen=True)
class Settings:
    """How is learned.

    Attributes:
        rounds: In each of which the server sends the head out and averages what comes back.
        share: Of the clients that a round asks, above 0 to 1.
        drop: Of the clients asked, how many go away, 0 to below 1.
        local_epochs: Steps of gradient descent that a client takes in a round, each on all its rows.
        learning_rate: Of these steps.
        momentum: Of the server, 0 to below 1: how much of its last step it takes again (FedAvgM, T. Hsu et al., 2019,
            https://arxiv.org/abs/1909.06335).
        seed: Of whom a round asks, of noise, and of who goes away.
        clip: Norm that a client's update is cut to; None for as it is.
        noise: Deviation of the noise on the sum of updates, in units of `clip`; 0 for none.
        delta: Of the differential privacy.
    """

    rounds: int
    share: float
    drop: float
    local_epochs: int
    learning_rate: float
    momentum: float
    seed: int
    clip: float | None
    noise: float
    delta: float


class Simulated(NamedTuple):
    """What came out.

    Attributes:
        rounds: For each run the head before the first round, and after each.
        epsilon: Of the differential privacy of the last run; None without noise.
    """

    rounds: list[list[Weights]]
    epsilon: float | None


def simulate(
    clients: Clients,
    runs: Sequence[npt.NDArray[np.float32]],
    settings: Settings,
    *,
    title: str,
) -> Simulated:
    """Simulate federated averaging (B. McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629) on Flower.

    Args:
        clients: With their rows.
        runs: For each run what rows count, float32 [num_rows]; 0 for those that are held out. They run one after the
            other.
        settings: How is learned.
        title: For the progress bar.

    Raises:
        PipelineError: If Flower cannot be set up, or the simulation fails.
    """
    python = set_up()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = clients.rows
        np.savez(
            folder / "job.npz",
            features=rows.features,
            label_indices=rows.label_indices,
            row_weights=np.array(runs, np.float32),
            client_of_row=clients.client_of_row,
        )
        job = asdict(settings) | {"num_clients": len(clients.names), "num_outputs": rows.num_outputs}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run(python, folder, Progress(title, total=len(runs) * (settings.rounds + 1), unit="round"))
        with np.load(folder / "found.npz") as found:
            matrices, biases = found["matrix"], found["bias"]
        epsilon = json.loads((folder / "found.json").read_text(encoding="utf-8"))["epsilon"]
    return Simulated([_heads(*one) for one in zip(matrices, biases, strict=True)], epsilon)


def _heads(matrices: Floats, biases: Floats) -> list[Weights]:
    return [Weights(matrix, bias) for matrix, bias in zip(matrices, biases, strict=True)]


def _run(python: Path, folder: Path, progress: Progress) -> None:
    """Run Flower, with what it prints in a file, and count the dots that it writes to a pipe."""
    reading, writing = os.pipe()
    environment = os.environ | QUIET | {"PYTHONPATH": str(PROJECT), "PYTHONUTF8": "1", "FLWR_HOME": str(folder)}
    command = [str(python), "-c", _MAIN, str(folder), str(writing), str(num_workers())]
    with progress, (folder / "log.txt").open("w+b") as log, os.fdopen(reading, "rb", buffering=0) as dots:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writing],
            )
        finally:
            os.close(writing)
        try:
            while dots.read(1):
                progress.update()
            status = process.wait()
        finally:
            _end(process)
        if status or not (folder / "found.json").is_file():
            log.seek(0)
            raise PipelineError(
                found=f"the simulation {ending(status)}; Flower last printed:\n"
                f"{last_lines(log.read().decode(errors='replace'))}",
                expected="an answer from each client that is asked",
                remedy="by its last lines; if Flower itself is broken, delete .cache/federate, which is set up anew",
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End Flower if it has not, and let it end Ray's processes before."""
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
