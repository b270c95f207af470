import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.errors import ConfigurationError, InputError
from pipeline.files import layout
from pipeline.takes.splits import Block, write_splits
from pipeline.tools.cli import viewfinder
from pipeline.tools.summary import SAMPLE_LABELS, next_steps, summarized, text_of
from tests import tiny_run
from tests.conftest import PROJECT


@pytest.fixture
def run(folder: Path) -> Path:
    tiny_run.make()
    return folder


def test_a_row_a_scheme_with_the_deployed_one_marked(run: Path) -> None:
    lines = [" ".join(line.split()) for line in text_of(summarized()).splitlines()]
    assert "float32 * 1.000 0.900 to 1.000 1.000 +0.000 1.000 0.00 MiB 9.0 ms" in lines
    assert "int8 0.800 0.700 to 0.800 0.800 +0.200 0.800 0.00 MiB 3.0 ms" in lines


def test_it_says_what_the_figures_are_of(run: Path) -> None:
    told = text_of(summarized())
    assert "tiny. Cross-validated: 10 frames of 2 takes, each by a head without its take\n" in told
    assert "Test takes: 10 frames of 2, from pixels to label, a head without them behind the same backbone\n" in told
    for scheme in ("float32", "int8"):
        tiny_run.change_metrics(scheme, scored_by="test")
    told = text_of(summarized())
    assert "tiny. Scored on 10 frames of 2 takes that were not trained on\n" in told
    assert "Test takes:" not in told


def test_a_label_that_is_never_recognized_is_told(run: Path) -> None:
    assert "Never recognized" not in text_of(summarized())
    tiny_run.change_metrics("float32", per_class={"cup": {"recall": 0.0}, "rote Möhre": {"recall": 0.9}})
    assert "\nNever recognized: cup\n" in text_of(summarized())


def test_a_model_that_may_be_guessing_is_told(run: Path) -> None:
    assert "guessing" not in text_of(summarized())
    tiny_run.change_metrics("int8", baseline_accuracy=0.75)  # its interval begins at 0.7
    expected = "Perhaps no better than guessing: int8; always the most frequent label is right on 75%\n"
    assert expected in text_of(summarized())
    tiny_run.change_metrics("int8", intervals={}, baseline_accuracy=0.81)
    assert "guessing: int8" in text_of(summarized())


def test_metrics_of_an_earlier_version_are_told(run: Path) -> None:
    layout.metrics("int8").write_text('{"accuracy": 1}')
    with pytest.raises(InputError, match=r"int8\.json was written by an earlier version of Viewfinder"):
        summarized()


def test_it_chooses_only_if_there_are_targets(run: Path) -> None:
    assert "Chosen:" not in text_of(summarized())
    tiny_run.write_params(["float32", "int8"], choose={"latency_ms": 0.1})
    told = text_of(summarized())
    assert "Chosen:   float32: accuracy 1.000 at 9.0 ms (target 0.1 ms)" in told
    assert "To use it: `deploy: float32` in params.yaml" in told


def test_a_refused_model_is_told_with_the_limits_that_it_breaks(run: Path) -> None:
    tiny_run.write_params(["float32", "int8"], deploy="int8", gate={"min_accuracy": 0.9, "max_size_bytes": None})
    told = text_of(summarized())
    assert "Refused:  int8 breaks 1 of the limits in `gate`:\n  - min_accuracy: 0.9; it has 0.8, 0.1 too little" in told
    assert "Deployed: float32, in models/deployed/" in told
    assert "of a run before" in told
    assert "edit `deploy" not in told


def test_nothing_deployed_yet_is_no_error(run: Path) -> None:
    layout.DEPLOYED_METRICS.unlink()
    tiny_run.write_params(["float32", "int8"], gate={"max_size_bytes": 10})
    assert "Deployed: nothing yet" in text_of(summarized())


def test_another_scheme_than_the_deployed_one_is_wanted(run: Path) -> None:
    tiny_run.write_params(["float32", "int8"], deploy="int8")
    assert "Wanted:   int8 (`deploy` in params.yaml): run `dvc repro`" in text_of(summarized())


def test_the_next_scheme_is_the_best_of_the_others_not_the_last(run: Path) -> None:
    tiny_run.write_scheme("float16", size_bytes=2000)
    tiny_run.write_scheme("int4", wrong=[0, 1, 2, 3], size_bytes=500)
    tiny_run.write_params(["float32", "float16", "int8", "int4"])
    assert "edit `deploy: float16`" in next_steps(summarized())


def test_of_several_heads_the_first_speaks_for_a_scheme(run: Path) -> None:
    tiny_run.write_params(["float32", "int8"], choose={"latency_ms": 0.1})
    assert "of the first head" not in text_of(summarized())
    head = {"accuracy": 0.9, "take_accuracy": 1.0, "accuracy_drop": 0.0}
    for scheme in ("float32", "int8"):
        intervals = {"accuracy": {"low": 0.8, "high": 1.0}, "accuracy_drop": {"low": -0.002, "high": 0.011}}
        tiny_run.change_metrics(scheme, heads={"material": head | {"intervals": intervals}})
    told = text_of(summarized())
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "head scheme accuracy 95% interval by take drop interval of drop" in lines
    assert "material float32 0.900 0.800 to 1.000 1.000 +0.000" in lines
    assert "material int8 0.900 0.800 to 1.000 1.000 +0.000 -0.002 to +0.011" in lines
    assert "Chosen:   float32: accuracy of the first head 1.000 at 9.0 ms" in told
    assert "accuracy of the first head -0.200; then: dvc repro" in told


def test_a_scheme_that_is_better_in_nothing_is_not_suggested(run: Path) -> None:
    tiny_run.write_scheme("int8", wrong=[0], size_bytes=5000, p50=20.0)
    assert not any("deploy:" in step for step in next_steps(summarized()))


def test_sample_labels_are_told_of_while_they_are_there(run: Path) -> None:
    assert "sample labels" not in text_of(summarized())
    tiny_run.change_metrics("float32", per_class={label: {} for label in SAMPLE_LABELS})
    assert "remove the sample labels" in text_of(summarized())


def test_the_sample_labels_are_those_of_the_sample_takes() -> None:
    script = (PROJECT / "data/make_samples.py").read_text(encoding="utf-8")
    takes = script.split("\nTAKES = [")[1].split("\n]")[0]
    assert {line.split('"')[1] for line in takes.splitlines() if line.startswith("    Take(")} == SAMPLE_LABELS


def test_every_command_that_it_suggests_exists(run: Path) -> None:
    suggested = [step.split()[1:] for step in next_steps(summarized()) if step.startswith("viewfinder ")]
    assert len(suggested) == 4
    for command in suggested:
        assert CliRunner().invoke(viewfinder, [*command, "--help"]).exit_code == 0


def test_takes_that_were_cut_are_not_called_unseen(run: Path) -> None:
    assert "Better than they are" not in text_of(summarized())
    spans = [("train", 0.0, 0.8), ("test", 0.9, 1.0)]
    write_splits(layout.SPLITS, [Block("cup", "a.mp4", "data/videos/cup/a.mp4", "0", *span) for span in spans])
    assert "Better than they are: the figures of cup, whose few takes were trained on in part" in text_of(summarized())


def test_without_metrics_it_says_what_to_run(run: Path) -> None:
    layout.metrics("int8").unlink()
    with pytest.raises(InputError, match=r"int8\.json is missing or damaged\n.*\n  to mend:  run `make repro`"):
        summarized()


@pytest.mark.parametrize("gate", ["strict", {"min_beauty": 1}, {"min_accuracy": "high"}])
def test_a_gate_that_is_none(run: Path, gate: object) -> None:
    tiny_run.write_params(["float32", "int8"], gate=gate)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"`gate: (.|\n)*numbers or null under judge_by, min_accuracy, "):
        summarized()


@pytest.mark.parametrize("schemes", ["int8", [], [8]])
def test_schemes_that_are_no_list_of_names(run: Path, schemes: object) -> None:
    Path("params.yaml").write_text(f"deploy: float32\nquantization: {schemes}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"`quantization: .*\n.*a list of schemes, such as"):
        summarized()


def test_as_json(run: Path) -> None:
    done = CliRunner().invoke(viewfinder, ["summary", "--json"])
    found = json.loads(done.stdout)
    assert (found["deployed"], found["breaches"], found["labels"]) == ("float32", [], ["cup", "rote Möhre"])
    assert [scheme["accuracy"] for scheme in found["schemes"]] == [1.0, 0.8]


def test_it_says_what_becomes_of_other_things(run: Path) -> None:
    assert "None of the labels" not in text_of(summarized())
    strangers = {"refused": 0.994, "num_frames": 175}
    tiny_run.change_metrics(summarized().wanted, unknown={"kept": 0.97, "strangers": strangers})
    expected = (
        "None of the labels: 99% of 175 pictures of other things are refused, where 97% of the labels' frames are"
    )
    assert expected in text_of(summarized())
