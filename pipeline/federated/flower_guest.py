"""Runs in Flower's environment: simulates rounds of federated averaging on its engine, with Ray behind it.

Started by `simulation` as `main`, with the folder of a job: job.npz and job.json in, found.npz and found.json out. The
clients run in Ray's workers, which read job.npz themselves; what travels between them and the server is what would over
a network: the head there, and the head and how much it counts back.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg, FedAvgM
from flwr.simulation import run_simulation
from flwr.supercore.privacy_accounting import NeighboringRelation, PrivacyConfig, SamplingMethod
from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant

from pipeline.federated.descent import LocalRows, Weights, descend, rows_of_client

DROPPED = 1000  # code of the error that a client which goes away stands for; Flower's own are below 100
_WEIGHT = "num-examples"  # FedAvg's own word for what an answer counts
_OBJECT_STORE_BYTES = 200_000_000

client_app = ClientApp()


class _Job:
    """A job's folder, read once a process."""

    def __init__(self, folder: Path) -> None:
        self.settings = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        with np.load(folder / "job.npz") as arrays:
            self.features, self.label_indices = arrays["features"], arrays["label_indices"]
            self.row_weights, self.client_of_row = arrays["row_weights"], arrays["client_of_row"]

    def rows_of(self, run: int, client: int) -> LocalRows:
        weights = self.row_weights[run]
        return rows_of_client(self.features, self.label_indices, weights, self.client_of_row, client)

    def clients_of(self, run: int) -> npt.NDArray[np.int64]:
        """Return the clients that have something to learn from."""
        present: npt.NDArray[np.int64] = np.unique(self.client_of_row[self.row_weights[run] > 0])
        return present[present >= 0]


@cache
def _job(folder: str) -> _Job:
    return _Job(Path(folder))


@client_app.train()  # type: ignore[untyped-decorator]
def _train(message: Message, _context: Context) -> Message:
    """Learn from one client's rows, or go away."""
    asked = message.content["config"]
    if asked["goes-away"]:
        return Message(Error(code=DROPPED, reason="the client went away"), reply_to=message)
    job = _job(asked["folder"])
    rows = job.rows_of(asked["run"], asked["client"])
    learned = descend(
        Weights(*message.content["arrays"].to_numpy_ndarrays()),
        rows,
        job.settings["learning_rate"],
        job.settings["local_epochs"],
    )
    counts = 1.0 if job.settings["clip"] is not None else rows.total_weight
    answer = {"arrays": ArrayRecord(list(learned)), "metrics": MetricRecord({_WEIGHT: counts})}
    return Message(content=RecordDict(answer), reply_to=message)


class _Averaging(FedAvg):  # type: ignore[misc]
    """Federated averaging that draws clients by a seed; Flower's own sampling has none."""

    def __init__(self, folder: str, run: int, **more: Any) -> None:
        self._folder, self._run, self._settings = folder, run, _job(folder).settings
        super().__init__(fraction_evaluate=0.0, weighted_by_key=_WEIGHT, **more)
        self._clients = _job(folder).clients_of(run)
        self._generator = np.random.default_rng([self._settings["seed"], run])
        self.num_drawn = max(1, round(self._settings["share"] * len(self._clients)))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask some clients to learn, and let some of them go away."""
        del config
        nodes, num_dropped = list(grid.get_node_ids()), round(self._settings["drop"] * self.num_drawn)
        drawn = self._generator.choice(self._clients, self.num_drawn, replace=False)
        messages = []
        for number, client in enumerate(drawn.tolist()):
            asked = {"folder": self._folder, "run": self._run, "client": client, "server-round": server_round}
            record = ConfigRecord(asked | {"goes-away": number < num_dropped})
            content = RecordDict({"arrays": arrays, "config": record})
            messages.append(Message(content=content, message_type=MessageType.TRAIN, dst_node_id=nodes[client]))
        return messages


class _AveragingWithMomentum(_Averaging, FedAvgM):  # type: ignore[misc]
    """The same whose server takes some of its last step again."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Keep what momentum moves on from, and ask some clients to learn."""
        self.current_arrays = arrays
        return super().configure_train(server_round, arrays, config, grid)


class _InOrder:
    """Flower's grid, with nodes and answers in the order of clients, so that sums are the same each time.

    An answer that should have come and did not is no client that goes away: it ends the simulation.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def get_node_ids(self) -> list[int]:
        return sorted(self._grid.get_node_ids())

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        sent = list(messages)
        answers = list(self._grid.send_and_receive(sent, timeout=timeout))
        failed = [answer.error for answer in answers if answer.has_error() and answer.error.code != DROPPED]
        if failed or len(answers) != len(sent):
            why = failed[0].reason if failed else "no answer in time"
            raise RuntimeError(f"{len(failed) or len(sent) - len(answers)} of {len(sent)} clients failed: {why}")
        return sorted(answers, key=lambda answer: answer.metadata.src_node_id)


def _strategy(folder: str, run: int) -> tuple[Any, RdpAccountant | None]:
    """Return federated averaging, with Flower's central differential privacy around it if updates are clipped."""
    settings = _job(folder).settings
    if settings["clip"] is None:
        return _AveragingWithMomentum(folder, run, server_momentum=settings["momentum"]), None
    averaging = _Averaging(folder, run)
    accountant = None
    if settings["noise"] > 0:
        privacy = PrivacyConfig(
            target_delta=settings["delta"],
            population_size=len(_job(folder).clients_of(run)),
            neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
            sampling_method=SamplingMethod.NO_AMPLIFICATION,
        )
        accountant = RdpAccountant(privacy)
    np.random.seed([settings["seed"], run])  # Flower's noise is drawn from NumPy's global generator
    private = DifferentialPrivacyServerSideFixedClipping(
        averaging, settings["noise"], settings["clip"], averaging.num_drawn, accountant=accountant
    )
    return private, accountant


def _simulate(folder: str, grid: Grid, progress: int) -> None:
    """Run all runs of a job one after the other, and write the heads after each of their rounds."""
    job, heads, epsilon = _job(folder), [], None
    for run in range(len(job.row_weights)):
        strategy, accountant = _strategy(folder, run)
        rounds: list[list[npt.NDArray[np.float32]]] = []

        def keep(_round: int, arrays: ArrayRecord, rounds: list[Any] = rounds) -> None:
            rounds.append(arrays.to_numpy_ndarrays())
            os.write(progress, b".")

        start = Weights.zeros(job.features.shape[1], job.settings["num_outputs"])
        strategy.start(
            grid=_InOrder(grid),
            initial_arrays=ArrayRecord(list(start)),
            num_rounds=job.settings["rounds"],
            evaluate_fn=keep,
        )
        heads.append(rounds)
        epsilon = accountant.get_privacy_spent().epsilon if accountant else None
    matrices, biases = (np.array([[one[part] for one in rounds] for rounds in heads]) for part in (0, 1))
    np.savez(Path(folder) / "found.npz", matrix=matrices, bias=biases)
    (Path(folder) / "found.json").write_text(json.dumps({"epsilon": epsilon}), encoding="utf-8")


def main() -> None:
    """Simulate the job whose folder is the first argument; a dot for each round goes to the second, a descriptor."""
    folder, progress, num_workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.set_inheritable(progress, False)
    server_app = ServerApp()

    @server_app.main()  # type: ignore[untyped-decorator]
    def serve(grid: Grid, _context: Context) -> None:
        _simulate(folder, grid, progress)

    # "local": else Ray would join another program's cluster on this machine, if one runs.
    ray = {"address": "local", "num_cpus": num_workers, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        run_simulation(
            server_app,
            client_app,
            num_supernodes=_job(folder).settings["num_clients"],
            backend_config={"init_args": ray, "client_resources": {"num_cpus": 1}},
        )
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # a thread of Flower's may go on waiting for answers
