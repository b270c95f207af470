"""The table of a sweep: what each model gives and costs, by its heads, and what to say of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.choosing.reward import Choice, best_within, reward, sentence
from pipeline.config.choose import Exponents, Targets
from pipeline.config.gate import MICRO_COSTS, MicroLimits
from pipeline.metrics.candidates import MIB, Candidate, as_edit, front
from pipeline.tools.micro_table import micro_cells, micro_columns, told_micro
from pipeline.tools.tables import text_table

OF_HEADS = ("accuracy", "standard_error", "num_test_frames", "num_test_takes")

_LATENCY = (
    "latency: median of one picture in LiteRT on {num_threads} thread(s) of this machine, not of a phone; one sitting"
)


@dataclass(frozen=True)
class Row:
    """One model of the table. Units are in the names; accuracies are shares of test frames and takes, 0..1.

    All is from metrics/ of its experiment, but for the latency (see pipeline.choosing.latency) and for what the model
    takes on a microcontroller, which is measured if `gate` has a limit on it. `heads` has of each further head what
    `of` gives.
    """

    backbone: str
    input_pixels: int
    scheme: str
    accuracy: float
    standard_error: float
    take_accuracy: float
    accuracy_drop: float
    size_bytes: int
    latency_ms_p50: float
    peak_memory_bytes: int
    num_multiply_adds: int | None
    are_multiply_adds_published: bool
    num_threads: int
    num_test_frames: int
    num_test_takes: int
    experiment: str
    heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    micro_costs: Mapping[str, int] = field(default_factory=dict)

    def of(self, head: str | None) -> Mapping[str, Any]:
        """Return accuracy, standard_error, num_test_frames and num_test_takes of a head; None is the first."""
        return {key: getattr(self, key) for key in OF_HEADS} if head is None else self.heads[head]

    def to_columns(self) -> dict[str, Any]:
        """Return what a row of the table holds; of a head called `material` `accuracy_material`, and so on."""
        columns = asdict(self)
        heads, micro = columns.pop("heads"), columns.pop("micro_costs")
        of_heads = {f"{name}_{head}": value for head, one in heads.items() for name, value in one.items()}
        return columns | {cost: micro.get(cost) for cost in MICRO_COSTS} | of_heads


def candidate_of(row: Row, head: str | None = None) -> Candidate:
    """Return a row as something that can be chosen by a head's accuracy; None is the first head."""
    figures = row.of(head)
    return Candidate(
        f"{row.backbone} {row.scheme}",
        figures["accuracy"],
        row.latency_ms_p50,
        row.size_bytes,
        {"backbone": row.backbone, "deploy": row.scheme},
        figures["standard_error"],
        row.micro_costs,
    )


def summary(
    rows: Sequence[Row],
    choice: Choice,
    targets: Targets,
    exponents: Exponents,
    limits: MicroLimits,
    *,
    head: str | None = None,
) -> str:
    """Return the table as text, the best under each budget, and the choice with what makes it real."""
    candidates = [candidate_of(row, head) for row in rows]
    fit = [one for one in candidates if limits.keep(one.micro_costs)]
    on_front = front(fit)
    further, scored = list(rows[0].heads), rows[0].of(head)
    columns = ["backbone", "pixels", "scheme", "accuracy", "by take", "drop", *further, "size", "latency p50", "memory"]
    columns += ["multiply-adds", *micro_columns(limits), "reward"]
    cells = [
        [
            *_cells(row, further),
            *micro_cells(one.micro_costs, limits),
            f"{reward(one, targets, exponents):.3f}",
            "*" if one in on_front else "",
        ]
        for row, one in zip(rows, candidates, strict=True)
    ]
    return "\n".join(
        [
            "",
            f"{len(rows)} models, scored on {scored['num_test_frames']} frames of {scored['num_test_takes']} takes "
            "that were not trained on",
            _LATENCY.format(num_threads=rows[0].num_threads),
            "",
            text_table([*columns, "front"], cells),
            "",
            "* on the Pareto front: no other is at least as good in accuracy, latency and size and better in one",
            *(["~ scaled by the picture's area from the published number"] if _any_scaled(rows) else []),
            *([told_micro(len(fit), len(rows), limits)] if limits else []),
            *(f"Best with {text}" for text in budgets(fit, targets, accuracy_name=accuracy_name(head))),
            "",
            "Chosen: " + sentence(choice, targets, accuracy_name=accuracy_name(head)),
            *([others_to_choose_by(further)] if further and head is None else []),
            *([f"  (by the head {head}; `accuracy`, `by take` and `drop` are the first head's)"] if head else []),
            *([] if targets else ["  (set choose.latency_ms or choose.size_bytes in params.yaml to weigh costs, too)"]),
            f"To use it: {as_edit(choice.candidate.settings)}, then `dvc repro` (all that it needs is cached)",
            "",
        ]
    )


def accuracy_name(head: str | None) -> str:
    """Return what to call the accuracy of a head; None is the first."""
    return "accuracy" if head is None else f"accuracy of {head}"


def others_to_choose_by(further: Iterable[str]) -> str:
    """Tell that the first head's accuracy counted, and by which others one may choose."""
    return f"  (by the first head; --head {' or --head '.join(further)} chooses by another)"


def _cells(row: Row, further: Sequence[str]) -> list[str]:
    about = "" if row.are_multiply_adds_published else "~"
    return [
        row.backbone,
        str(row.input_pixels),
        row.scheme,
        f"{row.accuracy:.3f} ± {row.standard_error:.3f}",
        f"{row.take_accuracy:.3f}",
        f"{row.accuracy_drop:+.3f}",
        *("{accuracy:.3f} ± {standard_error:.3f}".format(**row.heads[head]) for head in further),
        f"{row.size_bytes / MIB:.2f} MiB",
        f"{row.latency_ms_p50:.1f} ms",
        f"{row.peak_memory_bytes / MIB:.1f} MiB",
        "-" if row.num_multiply_adds is None else f"{about}{row.num_multiply_adds / 1e6:,.0f} M",
    ]


def _any_scaled(rows: Sequence[Row]) -> bool:
    return any(row.num_multiply_adds is not None and not row.are_multiply_adds_published for row in rows)


def budgets(candidates: Sequence[Candidate], targets: Targets, *, accuracy_name: str = "accuracy") -> list[str]:
    """Tell which candidate is the most accurate under each target alone, and under both."""
    each = {
        f"at most {targets.latency_ms} ms": Targets(latency_ms=targets.latency_ms),
        f"at most {(targets.size_bytes or 0) / MIB:.2f} MiB": Targets(size_bytes=targets.size_bytes),
    }
    alone = {text: target for text, target in each.items() if target}
    wanted = alone | ({"both": targets} if len(alone) == 2 else {})
    found = {text: best_within(candidates, target) for text, target in wanted.items()}
    return [
        f"{text}: {f'{best.name} ({accuracy_name} {best.accuracy:.3f})' if best else 'none'}"
        for text, best in found.items()
    ]
