"""The command `make search`: its study with a stand-in for training, and the workshop with tiny models."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import yaml

from pipeline.choosing.duration import SECONDS_OF_A_HEAD, SECONDS_OF_A_NEW_MODEL, Estimate, Past, estimated
from pipeline.choosing.question import Question
from pipeline.choosing.workshop import Outcome, Workshop
from pipeline.config.sweep import SearchConfig
from pipeline.errors import InputError, PipelineError
from pipeline.files import layout, write_bytes, write_text
from pipeline.metrics.further import HeadScore
from pipeline.takes.rows import read_rows
from pipeline.takes.splits import read_takes
from pipeline.tools import search as module
from pipeline.tools.search import run_trials, tell_duration
from pipeline.tools.search_study import Settings, failed, finished, open_study, to_try
from pipeline.tools.search_table import Costs, tell
from tests import tiny_models, tiny_project
from tests.conftest import PROJECT

PARAMS: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())
TAKES = [f"{label}/{part}.mp4" for label in tiny_project.LABELS for part in ("train", "validation", "test")]
LITE0, LITE1 = "efficientnet_lite0", "efficientnet_lite1"


def space(num_trials: int = 4) -> SearchConfig:
    return SearchConfig(
        backbones=[LITE0, LITE1],
        input_pixels=[192, None],
        quantization=["float32", "int8", "int4"],
        num_trials=num_trials,
        seed=0,
    )


class FakeWorkshop:
    """Gives figures that follow from the settings, and does what a test wants in a trial."""

    def __init__(self, events: Mapping[int, Exception | KeyboardInterrupt] | None = None) -> None:
        self.tried: list[tuple[str, str, Mapping[str, Any]]] = []
        self._events = events or {}

    def try_out(self, architecture: str, scheme: str, training: Mapping[str, Any], **_: str) -> Outcome:
        self.tried.append((architecture, scheme, training))
        if event := self._events.get(len(self.tried)):
            raise event
        latency_ms = 9.0 if architecture.startswith(LITE0) else 14.0
        size_bytes = {"float32": 12, "int8": 4, "int4": 2}[scheme] * 2**20
        return Outcome({"float32": 0.6, "int8": 0.58, "int4": 0.5}[scheme], 0.01, 1.0, latency_ms, size_bytes)


class AnyLatency(dict[tuple[str, str], float]):
    """Gives every model the same latency."""

    def __missing__(self, _: tuple[str, str]) -> float:
        return 7.0


def run(config: SearchConfig, shop: FakeWorkshop) -> optuna.Study:
    study = open_study(config, "inputs", PARAMS)
    run_trials(study, config, shop, PARAMS["training"])  # type: ignore[arg-type]
    return study


def test_a_study_begins_with_the_present_settings_and_gets_as_many_trials_as_wanted(folder: Path) -> None:
    shop = FakeWorkshop()
    study = run(space(), shop)
    assert len(finished(study)) == len(shop.tried) == 4
    assert shop.tried[0] == (LITE0, PARAMS["deploy"], PARAMS["training"])
    assert len({(backbone, scheme) for backbone, scheme, _ in shop.tried}) == 4  # nothing is tried twice


def test_a_study_goes_on_where_it_was(folder: Path) -> None:
    run(space(3), FakeWorkshop())
    again, more = FakeWorkshop(), FakeWorkshop()
    run(space(3), again)
    study = run(space(5), more)
    assert (len(again.tried), len(more.tried), len(finished(study))) == (0, 2, 5)


def test_other_data_or_another_space_is_another_study(folder: Path) -> None:
    first = open_study(space(), "inputs", PARAMS).study_name
    assert open_study(space(9), "inputs", PARAMS).study_name == first  # more of the same
    assert open_study(space(), "other inputs", PARAMS).study_name != first
    other = space()
    other.quantization = ["float32", "int8"]
    assert open_study(other, "inputs", PARAMS).study_name != first
    assert open_study(space(), "inputs", PARAMS, "material").study_name != first  # nor do heads share figures


def test_a_trial_that_fails_names_its_settings_and_costs_no_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = PipelineError(found="no weights", expected="weights", remedy="get some")
    study = run(space(), FakeWorkshop({2: refusal, 3: ValueError("odd")}))
    assert (len(finished(study)), len(failed(study))) == (2, 2)
    told = capsys.readouterr().err
    assert "trial 2 failed (efficientnet_lite" in told
    assert "no weights\n  expected: weights\n  to mend:  get some" in told
    assert "ValueError: odd" in told


def test_an_interrupted_trial_and_a_killed_one_are_made_up_for(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(space(), FakeWorkshop({3: KeyboardInterrupt()}))
    open_study(space(), "inputs", PARAMS).ask()  # as a process that is killed amid a trial leaves it
    study = run(space(), FakeWorkshop())
    assert (len(finished(study)), len(failed(study))) == (4, 0)


def test_a_study_tries_no_more_than_there_is(folder: Path) -> None:
    assert len(finished(run(space(100), FakeWorkshop()))) == 2 * 2 * 3


def test_present_settings_outside_the_space_are_not_tried(folder: Path) -> None:
    study = open_study(space(100), "inputs", PARAMS | {"backbone": "efficientnet_lite2"})
    assert all(settings.backbone != "efficientnet_lite2" for settings in to_try(study, space(100), PARAMS))


@pytest.mark.slow
def test_the_result_says_how_to_make_it_real(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(Path("params.yaml"), yaml.safe_dump(PARAMS | {"choose": {"size_bytes": 2 * 2**20}}))
    study = run(space(12), FakeWorkshop())
    capsys.readouterr()
    tell(study, PARAMS | {"quantization": ["float32"]}, Costs(AnyLatency(), {}), 6)
    table = pd.read_csv("plots/search/table.csv")
    assert len(table) == 12
    assert set(table["latency_ms_p50"]) == {7.0}  # from the last sitting, not from the trials
    assert table["reward"].is_monotonic_decreasing
    told = capsys.readouterr().out
    assert "Chosen: efficientnet_lite" in told
    assert "accuracy by cross-validation over the 6 takes that are not for testing" in told
    assert "-S 'quantization=[float32,int8]' -S deploy=int8\n" in told
    assert Path("plots/search/tradeoff.png").read_bytes().startswith(b"\x89PNG")


def test_a_choice_that_params_yaml_has_already_is_called_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(Path("params.yaml"), yaml.safe_dump(PARAMS))
    study = run(space(1), FakeWorkshop())  # the only trial is of the settings that params.yaml has
    capsys.readouterr()
    tell(study, PARAMS, Costs(AnyLatency(), {}), 6)
    told = capsys.readouterr().out
    assert "That is what params.yaml says already" in told
    assert "To make it real" not in told


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (
            None,
            ": accuracy 0.6(.|\n)*\n  \\(by the first head; --head material or --head parts chooses by another\\)\n",
        ),
        ("material", ": accuracy of material 0.6"),
    ],
)
def test_it_is_told_by_which_head_models_are_compared(
    folder: Path, capsys: pytest.CaptureFixture[str], head: str | None, told: str
) -> None:
    write_text(Path("params.yaml"), yaml.safe_dump(PARAMS))
    study = run(space(1), FakeWorkshop())
    capsys.readouterr()
    tell(study, PARAMS | {"heads": {"material": "one", "parts": "many"}}, Costs(AnyLatency(), {}), 6, head)
    said = capsys.readouterr().out
    assert re.search(f"Chosen: .*{told}", said)
    assert ("by the first head" in said) == (head is None)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "num_answers_per_frame"), [("one", 1), ("many", 2)])
def test_a_head_is_cross_validated_on_takes_that_are_not_for_testing(
    folder: Path, kind: str, num_answers_per_frame: int
) -> None:
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["float32"])
    rows = read_rows(layout.bottlenecks("float32"), read_takes(layout.SPLITS), strangers=layout.STRANGERS)
    rows = rows.only(rows.are_for_training)
    answers = {take: ("dark",) if take.startswith("cup") else ("light",) for take in TAKES}
    found = Question("shade", kind, answers).cross_validated(rows, tiny_project.TRAINING, title="")
    score = HeadScore.of(found, num_bins=5)
    assert score.figures["accuracy"] == 1
    assert set(score.right_answers) == {take for take in TAKES if not take.endswith("test.mp4")}
    num_answers = {count for _, count in score.right_answers.values()}
    assert num_answers == {num_answers_per_frame * tiny_project.NUM_FRAMES}


@pytest.mark.slow
def test_a_label_that_only_test_takes_show_is_told(folder: Path) -> None:
    tiny_project.make()
    tiny_project.make_bottlenecks(tiny_models.SCHEMES["float32"])
    rows = read_rows(layout.bottlenecks("float32"), read_takes(layout.SPLITS), strangers=layout.STRANGERS)
    rows = rows.only(rows.are_for_training)
    answers = {take: ("light",) if take.endswith("/test.mp4") else ("dark",) for take in TAKES}
    for kind in ("one", "many"):
        question = Question("shade", kind, answers)
        with pytest.raises(InputError, match="label 'light' without a"):
            question.cross_validated(rows, tiny_project.TRAINING, title="")


def test_a_search_says_how_long_it_may_take(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_project.make()
    study = open_study(space(4), "inputs", PARAMS)
    tell_duration(study, space(4))
    assert "search: 4 trials to run: about 3 min (a guess, as no trial ran here before" in capsys.readouterr().err
    run(space(4), FakeWorkshop())
    capsys.readouterr()
    tell_duration(study, space(6))
    assert "search: 2 trials to run: about 1 min (as 4 trials before took" in capsys.readouterr().err
    tell_duration(study, space(4))
    assert capsys.readouterr().err == ""


def test_durations_come_from_trials_before() -> None:
    past = [Past(("a", "int8"), 100.0), Past(("a", "int8"), 10.0), Past(("b", "int8"), 60.0)]
    known = estimated(5, 2, past, num_pictures=0, latency_ms=1, num_workers=1)
    assert known == Estimate(seconds=5 * 10.0, num_new_models=0, num_past=3)
    guessed = estimated(1, 1, [], num_pictures=1000, latency_ms=10, num_workers=2)
    assert guessed == Estimate(SECONDS_OF_A_NEW_MODEL + SECONDS_OF_A_HEAD + 5, num_new_models=1, num_past=0)


def test_no_result_at_all_is_an_error(folder: Path) -> None:
    study = run(space(1), FakeWorkshop({1: ValueError("odd")}))
    with pytest.raises(PipelineError, match="none of 1 trials gave a result"):
        tell(study, PARAMS, Costs({}, {}), 6)


def test_two_searches_at_once_are_refused(folder: Path) -> None:
    with module._only_one(), pytest.raises(PipelineError, match="another search is running"), module._only_one():
        pass


def test_settings_as_keys_of_params_yaml() -> None:
    settings = Settings(f"{LITE0}_192", "int8")
    assert settings.of_params(PARAMS) == {"backbone": f"{LITE0}_192", "deploy": "int8"}
    other = PARAMS | {"quantization": ["float32"], "training": PARAMS["training"] | {"mode": "finetune"}}
    more = settings.of_params(other)
    assert (more["quantization"], more["training.mode"]) == (["float32", "int8"], "head")
    assert str(settings) == f"{LITE0}_192 int8"


@pytest.fixture
def shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Outcome]]:
    """A workshop on the tiny project, whose backbone is the tiny one."""
    tiny_project.make()
    unknown = {"mode": "learned", "keep_percent": 95}
    write_text(
        Path("params.yaml"),
        yaml.safe_dump({"engine": "local", "unknown": unknown, "training": vars(tiny_project.TRAINING)}),
    )
    monkeypatch.setenv("VIEWFINDER_CACHE", str(folder / "cache"))
    made = lambda _: write_bytes(layout.CONVERTED_BACKBONE, tiny_models.backbone())  # noqa: E731
    monkeypatch.setattr("pipeline.choosing.workshop.backbone", made)
    workshop = Workshop(Path("study"), "stretch", Path.cwd())
    training = vars(tiny_project.TRAINING)

    def try_out(scheme: str, question: Question | None = None) -> Outcome:
        shop = workshop if question is None else Workshop(Path("study"), "stretch", Path.cwd(), question)
        return shop.try_out(f"{LITE0}_32", scheme, training, title="trial 1")

    yield try_out
    monkeypatch.setattr("pipeline.choosing.latency.measure_in_turns", lambda models: dict.fromkeys(models, 3.0))
    assert workshop.latencies([(f"{LITE0}_32", "float32")]) == {(f"{LITE0}_32", "float32"): 3.0}
    assert Path.cwd() == folder


@pytest.mark.slow
def test_a_workshop_gives_figures_and_makes_things_once(
    shop: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(Path("data").rglob("*"))
    first = shop("float32")
    assert first.accuracy == 1  # dark red and light blue are easily told apart
    assert first.latency_ms > 0
    assert first.size_bytes == (Path("study") / f"{LITE0}_32" / layout.model("float32")).stat().st_size
    for stage in ("backbone", "bottlenecks", "quantize", "assemble", "measure_in_turns"):
        monkeypatch.setattr(f"pipeline.choosing.workshop.{stage}", None)  # would fail if it were called
    assert shop("float32") == first
    question = Question("again", "one", {take: (take.partition("/")[0],) for take in TAKES})
    assert shop("float32", question) == first  # the first head's own question
    halves = {take: ("a",) if take.endswith("train.mp4") else ("b",) for take in TAKES}
    assert shop("float32", Question("halves", "one", halves)).accuracy < 1
    assert set(Path("data").rglob("*")) == before  # the project's own folders stay as they were
