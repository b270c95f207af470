"""Tells where the deployed model lies, how good each scheme is, whether the gate let it pass, and what to type next."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.choosing.reward import choose, sentence
from pipeline.config.choose import exponents_of_project, targets_of_project
from pipeline.config.gate import MICRO_COSTS, MicroLimits
from pipeline.files import layout
from pipeline.gate import breaches_of, micro_figures
from pipeline.metrics.candidates import MIB, Candidate, as_edit, candidate_of, front
from pipeline.metrics.classification import CROSSVAL
from pipeline.takes.splits import TEST, TRAIN, read_takes
from pipeline.tools.micro_table import micro_lines
from pipeline.tools.results import Metrics, gate_of, listed_schemes, params_of_project, read_metrics, scored_on
from pipeline.tools.tables import text_table

# Labels of the takes that come with the project (data/make_samples.py).
SAMPLE_LABELS = frozenset({"café cup", "hammer", "measuring tape", "pliers", "scissors", "screwdriver"})

_COLUMNS = ("scheme", "accuracy", "95% interval", "by take", "drop", "test takes", "size", "latency p50")
HEAD_COLUMNS = ("head", "scheme", "accuracy", "95% interval", "by take", "drop", "interval of drop")
_SHOWN = (
    *(
        "scheme",
        "accuracy",
        "baseline_accuracy",
        "standard_error",
        "intervals",
        "take_accuracy",
        "worst_recall",
        "accuracy_drop",
    ),
    *("agreement_with_float32", "test", "size_bytes", "latency_ms"),
)


@dataclass(frozen=True)
class Summary:
    """What there is to tell about the last run.

    Attributes:
        backbone: Of all schemes.
        scored: What the accuracies are of, in words.
        test: What the column of the test takes is of, in words; empty if these give all figures.
        cut_labels: Labels with too few takes, whose figures look better than they are.
        never_predicted: Labels that the scheme that params.yaml wants never says where they are shown.
        unknown: What becomes of pictures that show none of the labels, with the scheme that is wanted; may be empty.
        num_threads: Of the interpreter whose latency was measured.
        busy_percent: Of this machine's processors, that other programs used meanwhile.
        schemes: Some of the metrics of each, in the order of params.yaml.
        wanted: The scheme that params.yaml wants deployed.
        deployed: The scheme in models/deployed/; None if there never was one.
        breaches: Limits in `gate` that `wanted` breaks, in words.
        choice: What the targets in `choose` speak for, and the edit that it takes; empty without targets.
        labels: That the classifier tells apart.
        heads: A row for each further head and scheme, with `HEAD_COLUMNS`.
        micro_limits: In `gate`, on what a model takes on a microcontroller.
    """

    backbone: str
    scored: str
    test: str
    cut_labels: list[str]
    never_predicted: list[str]
    unknown: str
    num_threads: int
    busy_percent: float
    schemes: list[dict[str, Any]]
    wanted: str
    deployed: str | None
    breaches: list[str]
    choice: dict[str, str]
    labels: list[str]
    heads: list[tuple[str, ...]]
    micro_limits: MicroLimits

    def to_json(self) -> dict[str, Any]:
        """Return it as what can be written as JSON."""
        return asdict(self)


def summarized() -> Summary:
    """Gather what there is to tell.

    Raises:
        PipelineError: If there are no metrics yet, or params.yaml does not hold what it should.
    """
    params = params_of_project()
    limits = gate_of(params)
    schemes = {scheme: _known(scheme, limits.micro) for scheme in listed_schemes(params)}
    first, wanted = next(iter(schemes.values())), str(params["deploy"])
    wanted_metrics = schemes[wanted] if wanted in schemes else _known(wanted, limits.micro)
    is_deployed = layout.DEPLOYED_METRICS.exists()
    return Summary(
        backbone=first["backbone"],
        scored=scored_on(first),
        test=_test_in_words(first),
        cut_labels=_cut_labels(),
        never_predicted=[label for label, one in wanted_metrics["per_class"].items() if one.get("recall") == 0],
        unknown=_unknown_in_words(wanted_metrics),
        num_threads=first["num_threads"],
        busy_percent=first["busy_percent"],
        schemes=[_shown(metrics) for metrics in schemes.values()],
        wanted=wanted,
        deployed=read_metrics(layout.DEPLOYED_METRICS)["scheme"] if is_deployed else None,
        breaches=[str(breach) for breach in breaches_of(wanted_metrics, limits)],
        choice=_choice(list(schemes.values()), limits.micro),
        labels=sorted(first["per_class"]),
        heads=_heads(schemes),
        micro_limits=limits.micro,
    )


def _known(scheme: str, limits: MicroLimits) -> dict[str, Any]:
    """Return the metrics of a scheme, and what it takes on a microcontroller, as far as there are limits on it."""
    return dict(read_metrics(layout.metrics(scheme))) | micro_figures(scheme, limits)


def _shown(metrics: Metrics) -> dict[str, Any]:
    return {key: metrics[key] for key in _SHOWN} | {cost: metrics[cost] for cost in MICRO_COSTS if cost in metrics}


def text_of(summary: Summary) -> str:
    """Return the summary for a terminal: a row a scheme, the deployed one marked."""
    return "\n".join(
        [
            "",
            *what_counts(summary),
            "",
            text_table(_COLUMNS, [_row(scheme, summary.deployed) for scheme in summary.schemes]),
            "",
            *([text_table(HEAD_COLUMNS, summary.heads), ""] if summary.heads else []),
            *_outcome(summary),
            *_pictures(),
            *([f"Chosen:   {summary.choice['why']}", f"To use it: {summary.choice['edit']}"] if summary.choice else []),
            "",
            "Next:",
            *(f"  {command:<37}  {what}".rstrip() for command, what in next_steps(summary).items()),
            "",
        ]
    )


def what_counts(summary: Summary) -> list[str]:
    """Return lines that tell what the figures are of, and what to keep in mind."""
    lines = [f"{summary.backbone}. {summary.scored}", *([summary.test] if summary.test else [])]
    busy = f"other programs used {summary.busy_percent:.0f}% of its processors meanwhile"
    lines.append(f"Latency on {summary.num_threads} thread(s) of this machine, all schemes in turns; {busy}")
    if summary.cut_labels:
        names = ", ".join(summary.cut_labels)
        lines.append(f"Better than they are: the figures of {names}, whose few takes were trained on in part")
    lines += [summary.unknown] if summary.unknown else []
    lines += micro_lines(summary.schemes, summary.micro_limits)
    lines += [f"Never recognized: {label}" for label in summary.never_predicted]
    guessing = [one for one in summary.schemes if _low(one) <= one["baseline_accuracy"]]
    if guessing:
        names, share = ", ".join(one["scheme"] for one in guessing), guessing[0]["baseline_accuracy"]
        lines.append(
            f"Perhaps no better than guessing: {names}; always the most frequent label is right on {share:.0%}"
        )
    return lines


def _heads(schemes: Mapping[str, Metrics]) -> list[tuple[str, ...]]:
    """Return a row for each further head and scheme."""
    rows = []
    for head in next(iter(schemes.values())).get("heads", {}):
        for scheme, metrics in schemes.items():
            if head in metrics.get("heads", {}):  # of a scheme that a run has not come to, the head may be new
                one = metrics["heads"][head]
                rows.append((head, scheme, *_accuracies(one), _drop_interval(scheme, one)))
    return rows


def _drop_interval(scheme: str, metrics: Metrics) -> str:
    """Tell between what a head's drop lies, if that is known; float32 is what the others are compared with."""
    interval = metrics["intervals"].get("accuracy_drop") if scheme != layout.REFERENCE_SCHEME else None
    return "{low:+.3f} to {high:+.3f}".format(**interval) if interval else ""


def _accuracies(metrics: Metrics) -> tuple[str, ...]:
    """Return accuracy, its interval, accuracy by take, and what it lost, as text."""
    interval = metrics["intervals"].get("accuracy")
    return (
        f"{metrics['accuracy']:.3f}",
        "{low:.3f} to {high:.3f}".format(**interval) if interval else "",
        f"{metrics['take_accuracy']:.3f}",
        f"{metrics['accuracy_drop']:+.3f}",
    )


def _unknown_in_words(metrics: Metrics) -> str:
    """Tell what becomes of what is none of the labels; nothing if the model always names one."""
    unknown = metrics.get("unknown", {})
    if "strangers" not in unknown:
        return ""
    strangers, kept = unknown["strangers"], unknown["kept"]
    return (
        f"None of the labels: {strangers['refused']:.0%} of {strangers['num_frames']} pictures of other things are "
        f"refused, where {kept:.0%} of the labels' frames are named ({metrics['scheme']})"
    )


def _low(metrics: Metrics) -> float:
    """Return the lower end of an accuracy's interval, or the accuracy where one take has none."""
    return float(metrics["intervals"]["accuracy"]["low"] if metrics["intervals"] else metrics["accuracy"])


def _test_in_words(metrics: Metrics) -> str:
    """Tell what the figures of the test takes are of, if others lead."""
    if metrics["scored_by"] != CROSSVAL:
        return ""
    test = metrics["test"]
    counts = f"{test['num_test_frames']} frames of {test['num_test_takes']}"
    return f"Test takes: {counts}, from pixels to label, a head without them behind the same backbone"


def next_steps(summary: Summary) -> dict[str, str]:
    """Return what to type, each something that works as it stands, and what it is good for."""
    better = None
    if summary.deployed and not summary.breaches:
        better = better_scheme(summary.schemes, summary.deployed, summary.micro_limits)
    switch = {f"edit `deploy: {better.name}`": f"{_gain(summary, better)}; then: dvc repro"} if better else {}
    has_samples = set(summary.labels) >= SAMPLE_LABELS
    own = (
        "remove the sample labels, then: dvc repro"
        if has_samples
        else "a new label, or more takes of one, then: dvc repro"
    )
    return {
        "source .venv/bin/activate": "so that `dvc` and `viewfinder` are the project's own",
        **switch,
        "viewfinder compare": "against float32; viewfinder compare HEAD: against the last commit",
        "viewfinder report": "everything as a page that opens without a network",
        "viewfinder try": "the deployed model through your camera, in one page",
        "viewfinder film --lan": "more takes, by phone, straight into the right folder",
        "put videos into data/videos/<label>/": own,
    }


def better_scheme(schemes: Sequence[Metrics], deployed: str, limits: MicroLimits) -> Candidate | None:
    """Return the scheme that would be chosen if the deployed one were not there; None if it is no gain in anything."""
    candidates = _fitting(schemes, limits)
    others = [one for one in front(candidates) if one.name != deployed]
    return choose(others, targets_of_project(), exponents_of_project()).candidate if others else None


def _cut_labels() -> list[str]:
    """Return the labels with takes of which some blocks were trained on and others are tested on."""
    takes = read_takes(layout.SPLITS) if layout.SPLITS.exists() else []
    return sorted({take.label for take in takes if take.has_part(TRAIN) and take.has_part(TEST)})


def _row(metrics: Metrics, deployed: str | None) -> tuple[str, ...]:
    return (
        metrics["scheme"] + (" *" if metrics["scheme"] == deployed else ""),
        *_accuracies(metrics),
        f"{metrics['test']['accuracy']:.3f}",
        f"{metrics['size_bytes'] / MIB:.2f} MiB",
        f"{metrics['latency_ms']['p50']:.1f} ms",
    )


def _outcome(summary: Summary) -> list[str]:
    """Return lines that tell what is deployed, and why not what params.yaml wants."""
    where = f"in {layout.DEPLOYED}/ (model.tflite, labels.txt, manifest.json, golden/)"
    held = f"{summary.deployed}, {where}" if summary.deployed else "nothing yet"
    if summary.breaches:
        return [
            f"Refused:  {summary.wanted} breaks {len(summary.breaches)} of the limits in `gate`:",
            *(f"  - {breach}" for breach in summary.breaches),
            f"Deployed: {held}{', of a run before' if summary.deployed else ''}",
        ]
    if summary.deployed != summary.wanted:
        return [f"Deployed: {held}", f"Wanted:   {summary.wanted} (`deploy` in params.yaml): run `dvc repro`"]
    return [f"Deployed: {held}"]


def _fitting(schemes: Sequence[Metrics], limits: MicroLimits) -> list[Candidate]:
    """Return the schemes that a microcontroller has room for; all if there are no limits."""
    return [one for one in map(candidate_of, schemes) if limits.keep(one.micro_costs)]


def _choice(schemes: Sequence[Metrics], limits: MicroLimits) -> dict[str, str]:
    """Return which scheme the targets in `choose` speak for, if there are any, and the edit."""
    targets, candidates = targets_of_project(), _fitting(schemes, limits)
    if not targets or not candidates:
        return {}
    choice = choose(candidates, targets, exponents_of_project())
    name = _accuracy_name(bool(schemes[0].get("heads")))
    return {"why": sentence(choice, targets, accuracy_name=name), "edit": as_edit(choice.candidate.settings)}


def _accuracy_name(has_further_heads: bool) -> str:
    """Return what to call the accuracy that speaks for a scheme: the first head's, of several."""
    return "accuracy of the first head" if has_further_heads else "accuracy"


def _pictures() -> list[str]:
    """Return lines that tell which pictures there are to look at."""
    names = sorted(path.stem.replace("_", " ") for path in layout.PICTURES.glob("*.png"))
    return [f"Pictures: in {layout.PICTURES}/ ({', '.join(names)})"] if names else []


def _gain(summary: Summary, better: Candidate) -> str:
    """Tell what another scheme has instead of what the deployed one has."""
    now = next(metrics for metrics in summary.schemes if metrics["scheme"] == summary.deployed)
    return (
        f"{better.size_bytes / MIB:.2f} MiB instead of {now['size_bytes'] / MIB:.2f}, "
        f"{_accuracy_name(bool(summary.heads))} {better.accuracy - now['accuracy']:+.3f}"
    )
