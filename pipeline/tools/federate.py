"""What `viewfinder federate` does: trains the head as if takes never left their phones, and tells what that costs."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.application import answer_ctrl_c_by_an_exception
from pipeline.config.composing import composed
from pipeline.config.crossval import CrossvalStage
from pipeline.config.train import HEAD
from pipeline.errors import ConfigurationError, InputError
from pipeline.federated.clients import Clients, Indices, clients_of_table, made_up_clients, takes_as_clients
from pipeline.federated.scoring import Alone, alone, central, head_of, out_of_fold, weights_without
from pipeline.federated.simulation import Settings, Simulated, simulate
from pipeline.federated.standardizing import Standardization
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.choosing import threshold_of
from pipeline.heads.classifier import classifier
from pipeline.heads.head_file import Head, to_bytes
from pipeline.heads.inputs import learned_rows
from pipeline.heads.replay import mean_squared_length
from pipeline.metrics.classification import Predictions, take_accuracy
from pipeline.metrics.intervals import Interval, accuracy_difference_interval, share_interval
from pipeline.pictures.rounds import rounds_picture
from pipeline.shipping.manifest import manifest, to_json
from pipeline.takes.staging import staged
from pipeline.tools.results import params_of_project, tell_of_heads_left_out
from pipeline.tools.tables import text_table

_MAX_ASKED = 50  # clients a round, unless --share says otherwise
_MOMENTUM = 0.9  # of the server, unless --momentum says otherwise


@dataclass(frozen=True)
class Request:
    """What is asked for; None is chosen here.

    Attributes:
        scheme: Whose bottlenecks; None for the one of `deploy` in params.yaml.
        table: Who filmed what; None for a client each take.
        num_clients: Of clients that are made up; None for none.
        skew: See `made_up_clients`.
        rounds: See `Settings`, as for all that follows.
        share: None for all clients, but 50 at most.
        drop: Of the clients asked.
        local_epochs: Of a client in a round.
        learning_rate: None for half of what descent bears on any data of such length.
        momentum: None for 0.9, or 0 where updates are clipped.
        num_folds: That are held out one after the other.
        seed: Of all that is drawn.
        clip: Norm of an update.
        noise: In units of it.
    """

    scheme: str | None = None
    table: Path | None = None
    num_clients: int | None = None
    skew: float | None = None
    rounds: int = 30
    share: float | None = None
    drop: float = 0.0
    local_epochs: int = 10
    learning_rate: float | None = None
    momentum: float | None = None
    num_folds: int = 5
    seed: int = 0
    clip: float | None = None
    noise: float = 0.0


def federate(request: Request) -> dict[str, Any]:
    """Simulate, score, and write models/federated/, whole or not at all.

    Returns:
        What is in result.json.

    Raises:
        ConfigurationError: If options do not go together.
        InputError: If there are no bottlenecks, or clients cannot be held out.
        PipelineError: If Flower cannot be set up, or the simulation fails.
    """
    begun = time.monotonic()
    answer_ctrl_c_by_an_exception()
    _refuse_contradictions(request)
    params = params_of_project()
    scheme = request.scheme or str(params.get("deploy"))
    config = composed("crossval", CrossvalStage, params, [f"scheme={scheme}"])
    _refuse_tuned(config)
    _refuse_missing(scheme)
    as_they_are = _clients(request, scheme, config)
    clients, scale = as_they_are.standardized()
    tell_of_heads_left_out("federate", params.get("heads") or {})
    folds = clients.folds(request.num_folds)
    settings = _settings(request, clients)
    balance = config.training.class_balance
    runs = [weights_without(clients.rows, fold, class_balance=balance) for fold in (*folds, np.zeros(0, np.int64))]
    simulated = simulate(clients, runs, settings, title="federate")
    together, own = central(as_they_are.rows, folds, config), alone(clients, settings, class_balance=balance)
    by_round = _by_round(clients, folds, simulated)
    threshold = threshold_of(by_round[-1].probabilities, config.unknown.keep_percent)
    head = head_of(scale.folded(simulated.rounds[-1][-1]), clients.rows, threshold)
    result = {
        "scheme": scheme,
        "clients": _told_clients(clients, len(folds)),
        "settings": vars(settings),
        "privacy": _privacy(simulated, settings),
        **_compared(by_round, together, own),
        "threshold": head.threshold,
        "seconds": round(time.monotonic() - begun, 1),
    }
    _write(result, head, scale, str(params.get("backbone")), str(params.get("resize")))
    return result


def _by_round(clients: Clients, folds: Sequence[Indices], simulated: Simulated) -> list[Predictions]:
    """Return what was said about held-out frames before the first round, and after each."""

    def after(number: int) -> Predictions:
        return out_of_fold(clients.rows, folds, lambda fold: head_of(simulated.rounds[fold][number], clients.rows))

    return [after(number) for number in range(len(simulated.rounds[0]))]


def _compared(by_round: Sequence[Predictions], together: Predictions, own: Alone) -> dict[str, Any]:
    return {
        "federated": _figures(by_round[-1]),
        "central": _figures(together),
        "alone": _figures_alone(own),
        "federated_minus_central": accuracy_difference_interval(together.table(), by_round[-1].table()),
        "accuracy_by_round": [_accuracy(one) for one in by_round],
    }


def table(result: dict[str, Any]) -> str:
    """Return a table for a terminal, and what must be known to read it."""
    clients, settings = result["clients"], result["settings"]
    rows = [
        (name, f"{figures['accuracy']:.1%}", "{low:.1%} to {high:.1%}".format(**figures["interval"]), votes)
        for name, figures, votes in (
            ("federated", result["federated"], f"{result['federated']['take_accuracy']:.1%}"),
            ("central", result["central"], f"{result['central']['take_accuracy']:.1%}"),
            ("a client alone, on average", result["alone"], "-"),
        )
    ]
    lines = [text_table(("head", "accuracy", "95% interval", "takes right"), rows)]
    low, high = (100 * bound for bound in result["federated_minus_central"])
    lines.append(f"  federated minus central, on the same frames: {low:+.1f} to {high:+.1f} points (95% interval)")
    asked = max(1, round(settings["share"] * clients["num"]))
    lines.append(
        f"  {clients['num']} clients, {asked} of them a round, {settings['rounds']} rounds of"
        f" {settings['local_epochs']} steps; {clients['num_folds']} folds of {clients['held_out']}"
    )
    if clients["share_takes"]:
        lines.append(
            "  Frames of one take are with several clients, which real ones are not: this is optimistic. What is scored"
            " is takes that no client held."
        )
    if result["privacy"]:
        lines.append("  epsilon {epsilon:.2f} at delta {delta:.1e}, for each client".format(**result["privacy"]))
    elif settings["clip"] is not None:
        lines.append("  Updates are clipped without noise: that gives no privacy.")
    return "\n".join(lines) + f"\n  {layout.FEDERATED}/ was written after {result['seconds']:.0f} s\n"


def _refuse_contradictions(request: Request) -> None:
    are_made_up, is_clipped = request.num_clients is not None, request.clip is not None
    has_momentum = (request.momentum or 0) > 0
    rules = (
        (request.table is not None and are_made_up, "--clients and --num-clients", "one of the two"),
        (request.skew is not None and not are_made_up, "--skew without --num-clients", "clients that are made up"),
        (request.noise > 0 and not is_clipped, "--noise without --clip", "a norm that noise is measured by"),
        # Flower adds noise to what the server has made of the updates: its momentum would carry them on without noise.
        (has_momentum and is_clipped, "--momentum with --clip", "a server that forgets updates once they are averaged"),
        # Flower's privacy skips a round in which an answer is missing.
        (request.drop > 0 and is_clipped, "--drop with --clip", "an answer from each client that is asked"),
    )
    for is_broken, found, expected in rules:
        if is_broken:
            raise ConfigurationError(
                found=f"options that do not go together: {found}", expected=expected, remedy="leave one out, or add one"
            )


def _refuse_tuned(config: CrossvalStage) -> None:
    if config.training.mode != HEAD:
        raise ConfigurationError(
            found="a backbone that has learned from the takes (training.mode: finetune)",
            expected="`mode: head`: what the backbone has seen cannot be held out, and phones would not train it",
            remedy="set training.mode to head and run `dvc repro`",
        )


def _refuse_missing(scheme: str) -> None:
    if not layout.bottlenecks(scheme).is_dir() or not layout.backbone(scheme).is_file():
        raise InputError(
            found=f"no bottlenecks of the scheme `{scheme}` in {layout.bottlenecks(scheme)}",
            expected="a scheme of `quantization` in params.yaml that was run",
            remedy="run `dvc repro`, or name another with --scheme",
        )


def _clients(request: Request, scheme: str, config: CrossvalStage) -> Clients:
    rows, _ = learned_rows(scheme, config.unknown.mode)
    if request.table is not None:
        return clients_of_table(rows, request.table)
    if request.num_clients is not None:
        return made_up_clients(rows, request.num_clients, request.skew, request.seed)
    return takes_as_clients(rows)


def _settings(request: Request, clients: Clients) -> Settings:
    """Fill in what was left open.

    The curvature of the loss is at most half of the mean of |features|^2 + 1 (see `heads.teaching.recipe_for`); one
    over that is the step. Delta is num_clients^-1.1, after B. McMahan et al., Learning Differentially Private Recurrent
    Language Models, ICLR 2018 (https://arxiv.org/abs/1710.06963).
    """
    num = len(clients.names)
    rate, momentum = request.learning_rate, request.momentum
    if momentum is None:
        momentum = _MOMENTUM if request.clip is None else 0.0
    return Settings(
        rounds=request.rounds,
        share=min(1.0, _MAX_ASKED / num) if request.share is None else request.share,
        drop=request.drop,
        local_epochs=request.local_epochs,
        learning_rate=2 / (mean_squared_length(clients.rows) + 1) if rate is None else rate,
        momentum=momentum,
        seed=request.seed,
        clip=request.clip,
        noise=request.noise,
        delta=float(max(num, 2) ** -1.1),
    )


def _told_clients(clients: Clients, num_folds: int) -> dict[str, object]:
    held_out = "takes" if clients.share_takes else "clients"
    return {
        "num": len(clients.names),
        "share_takes": clients.share_takes,
        "num_folds": num_folds,
        "held_out": held_out,
    }


def _privacy(simulated: Simulated, settings: Settings) -> dict[str, float] | None:
    return None if simulated.epsilon is None else {"epsilon": simulated.epsilon, "delta": settings.delta}


def _accuracy(predictions: Predictions) -> float:
    return float((predictions.predicted == predictions.actual).mean())


def _figures(predictions: Predictions) -> dict[str, Any]:
    interval: Interval = share_interval(predictions.predicted == predictions.actual, predictions.takes)
    found = {"accuracy": _accuracy(predictions), "interval": interval, "take_accuracy": take_accuracy(predictions)}
    return found | {"num_frames": len(predictions.actual), "num_takes": len(set(predictions.takes))}


def _figures_alone(own: Alone) -> dict[str, Any]:
    interval = share_interval(own.is_right, own.takes)
    return {"accuracy": float(own.is_right.mean()), "interval": interval, "num_clients": own.num_clients}


def _write(result: dict[str, Any], head: Head, scale: Standardization, backbone: str, resize: str) -> None:
    scheme = result["scheme"]
    model = classifier(layout.backbone(scheme).read_bytes(), head, name=f"{backbone} {scheme}, federated")
    picture = rounds_picture(
        result["accuracy_by_round"],
        result["federated"]["interval"],
        central=result["central"]["accuracy"],
        alone=result["alone"]["accuracy"],
        asked_of=result["clients"]["held_out"],
        num_clients=result["clients"]["num"],
    )
    with staged(layout.FEDERATED) as folder:
        write_bytes(folder / f"{scheme}.safetensors", to_bytes(head))
        write_bytes(folder / "model.tflite", model)
        write_text(folder / "labels.txt", "".join(f"{label}\n" for label in head.labels))
        write_text(folder / "result.json", to_json(result))
        write_text(folder / "standardization.json", to_json(scale.described()))
        write_bytes(folder / "rounds.png", picture)
        described = manifest(folder, scheme=scheme, backbone=backbone, resize=resize, threshold=head.threshold, more={})
        write_text(folder / "manifest.json", to_json(described))
    sys.stderr.write(f"federate: {len(head.labels)} labels{head.threshold_in_words}\n")
