from pathlib import Path

import pytest

from pipeline.choosing.reward import best_within, choose, keeps, reward, sentence
from pipeline.config.choose import Exponents, Targets, exponents_of_project, read_targets, targets_of_project
from pipeline.errors import PipelineError
from pipeline.files import write_text
from pipeline.metrics.candidates import Candidate, as_edit, front, short_names

SOFT, HARD = Exponents(-0.07, -0.07), Exponents(0, -1)
MIB = 2**20
BIG = Candidate("net_big float32", 0.92, 20.0, 12 * MIB)
SMALL = Candidate("net_small float32", 0.90, 9.0, 8 * MIB)
INT8 = Candidate("net_small int8", 0.89, 4.0, 2 * MIB, {"backbone": "net_small", "deploy": "int8"})
WORSE = Candidate("net_small float16", 0.89, 9.1, 4 * MIB)
ALL = [BIG, SMALL, INT8, WORSE]


def test_reward_is_mnasnets_equation_worked_out_by_hand() -> None:
    assert reward(SMALL, Targets(), SOFT) == 0.90
    assert reward(SMALL, Targets(latency_ms=4.5), SOFT) == pytest.approx(0.90 * 0.95264, abs=1e-5)  # 2 ^ -0.07
    assert reward(SMALL, Targets(latency_ms=18), SOFT) == pytest.approx(0.90 * 1.04972, abs=1e-5)  # 0.5 ^ -0.07
    assert reward(SMALL, Targets(size_bytes=4 * MIB), SOFT) == pytest.approx(0.90 * 0.95264, abs=1e-5)


def test_the_hard_form_ignores_what_keeps_the_target_and_halves_what_is_twice_as_slow() -> None:
    assert reward(SMALL, Targets(latency_ms=9), HARD) == 0.90
    assert reward(SMALL, Targets(latency_ms=4.5), HARD) == pytest.approx(0.45)


def test_both_targets_multiply() -> None:
    both = reward(SMALL, Targets(4.5, 4 * MIB), SOFT)
    assert both == pytest.approx(0.90 * 0.95264**2, abs=1e-5)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [(Targets(), BIG), (Targets(latency_ms=5), INT8), (Targets(size_bytes=2 * MIB), INT8)],
)
def test_the_choice_has_the_highest_reward(targets: Targets, expected: Candidate) -> None:
    assert choose(ALL, targets, SOFT).candidate == expected


def test_among_equals_the_faster_then_the_smaller_one_is_chosen() -> None:
    slow, fast, as_fast = (
        Candidate(name, 0.9, ms, size) for name, ms, size in [("a", 9, 1), ("b", 4, 9), ("c", 4.1, 3)]
    )
    assert choose([slow, fast, as_fast], Targets(), SOFT).candidate == as_fast


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(PipelineError, match="nothing to choose from"):
        choose([], Targets(), SOFT)


def test_the_sentence_tells_what_why_and_what_is_next() -> None:
    targets = Targets(latency_ms=5, size_bytes=4 * MIB)
    assert sentence(choose(ALL, targets, SOFT), targets) == (
        "net_small int8: accuracy 0.890 at 4.0 ms (target 5 ms) and 2.00 MiB (target 4.00 MiB) has the highest reward,"
        " 0.949; next is net_small float16 with 0.853."
    )
    assert "highest accuracy; next" in sentence(choose(ALL, Targets(), SOFT), Targets())


def test_the_sentence_admits_that_a_target_is_missed() -> None:
    targets = Targets(latency_ms=1)
    assert "costs more than a target" in sentence(choose(ALL, targets, SOFT), targets)


def test_the_front_has_what_no_other_beats() -> None:
    assert front(ALL) == [BIG, SMALL, INT8]


def test_noise_of_latency_puts_nothing_on_the_front() -> None:
    smaller = Candidate("half the size", 0.9, 9.2, 4 * MIB)
    assert front([SMALL, smaller]) == [smaller]
    assert front([SMALL, SMALL]) == [SMALL, SMALL]  # equals do not beat each other


def test_the_best_within_a_budget() -> None:
    assert best_within(ALL, Targets(latency_ms=10)) == SMALL
    assert best_within(ALL, Targets(latency_ms=10, size_bytes=3 * MIB)) == INT8
    assert best_within(ALL, Targets(latency_ms=1)) is None
    assert keeps(INT8, Targets(4.0, 2 * MIB))


def test_names_lose_what_all_begin_with() -> None:
    names = ["efficientnet_lite0 int8", "efficientnet_lite0_192 int8", "efficientnet_lite1 int8"]
    assert short_names(names) == ["lite0 int8", "lite0_192 int8", "lite1 int8"]
    assert short_names(["mobilenet_v1 int8", "resnet50 int8"]) == ["mobilenet_v1 int8", "resnet50 int8"]
    assert short_names(["efficientnet_lite0 int8", "efficientnet_lite0 float32"]) == ["lite0 int8", "lite0 float32"]
    assert short_names(["alone"]) == ["alone"]


def test_settings_are_told_with_the_file_to_edit() -> None:
    told = as_edit({"backbone": "a", "conf/backbone/a.yaml:input_pixels": 192, "deploy": "int8"})
    assert told == "`backbone: a` and `deploy: int8` in params.yaml; `input_pixels: 192` in conf/backbone/a.yaml"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (5, "`choose: 5`"),
        ({"latency": 5}, "unknown key `choose.latency`\n  expected: one of latency_ms, size_bytes"),
        ({"latency_ms": "fast"}, "`choose.latency_ms: fast`\n  expected: a number above 0, or null"),
        ({"latency_ms": 0}, "`choose.latency_ms: 0`"),
        ({"size_bytes": True}, "`choose.size_bytes: True`"),
    ],
)
def test_targets_that_are_none_are_refused(section: object, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        read_targets({"choose": section})
    assert message in str(caught.value)


def test_targets_come_from_params_yaml(folder: Path) -> None:
    write_text(Path("params.yaml"), "choose:\n  latency_ms: 5\n  size_bytes: null\n")
    assert targets_of_project() == Targets(5, None)
    assert not Targets()


def test_the_projects_exponents_are_the_papers() -> None:
    assert exponents_of_project() == SOFT


def test_exponents_out_of_range_are_refused() -> None:
    with pytest.raises(PipelineError, match=r"beyond_target: 0\.07"):
        Exponents(0, 0.07)
