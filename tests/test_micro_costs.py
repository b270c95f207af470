"""Limits on what a model takes on a microcontroller: in the gate, in choices, and in the command."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pipeline.choosing.reward import fitting
from pipeline.choosing.workshop import Workshop
from pipeline.config.gate import GateConfig, GateStage, MicroLimits
from pipeline.config.sweep import SearchConfig
from pipeline.errors import ConfigurationError, InputError, LimitError, MissingPackageError, ModelError
from pipeline.files import layout, write_bytes, write_text
from pipeline.gate import gate
from pipeline.litert import micro_costs as module
from pipeline.litert.head import append_head
from pipeline.litert.micro import micro_classifier
from pipeline.litert.micro_costs import blank_micro_classifier, micro_costs
from pipeline.litert.micro_measure import Footprint
from pipeline.metrics.candidates import Candidate
from pipeline.tools import sweep
from pipeline.tools.search_table import Costs, tell
from pipeline.tools.summary import next_steps, summarized, text_of
from pipeline.tools.sweep_table import Row
from tests import tiny_results, tiny_run
from tests.test_gate import NAMES, SCHEMES
from tests.test_mcu import RANGE, int8_backbone, needs_tflm
from tests.test_search import PARAMS, AnyLatency, FakeWorkshop
from tests.test_search import run as run_study
from tests.tiny_models import backbone, head

FLASH = MicroLimits(max_flash_bytes=1e6)
BOTH = MicroLimits(1e6, 1e6)


def classifier(num_outputs: int = 3, num_labels: int | None = None) -> bytes:
    weights, bias = head(num_outputs)
    return append_head(int8_backbone(), weights, bias, num_labels)


def limits(**given: object) -> GateConfig:
    every: dict[str, Any] = {"judge_by": "figure"} | dict.fromkeys(NAMES) | given
    return GateConfig(**every)


@pytest.mark.parametrize(("num_outputs", "num_labels"), [(3, None), (3, 2)])
def test_a_head_of_zeros_costs_what_a_trained_one_costs(num_outputs: int, num_labels: int | None) -> None:
    blank = blank_micro_classifier(classifier(num_outputs, num_labels))
    trained = micro_classifier(
        int8_backbone(), *head(num_outputs), num_labels=num_labels or num_outputs, logit_range=RANGE
    )
    assert len(blank) == len(trained)
    further = append_head(classifier(num_outputs, num_labels), *head(5), name="warm")
    assert len(blank_micro_classifier(further)) == len(trained)


@needs_tflm
def test_costs_are_those_that_the_command_tells() -> None:
    trained = micro_classifier(int8_backbone(), *head(3), num_labels=2, logit_range=RANGE)
    found = Footprint.of(trained)
    costs = micro_costs(classifier(3, 2), "int8", BOTH)
    assert costs == {"flash_bytes": found.flash_bytes, "arena_bytes": found.arena_bytes}


def test_only_what_a_limit_asks_for_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    assert micro_costs(classifier(), "int8", FLASH).keys() == {"flash_bytes"}
    assert micro_costs(b"not looked at", "int8", MicroLimits()) == {}
    assert micro_costs(b"not looked at", "float32", BOTH) == {}
    with pytest.raises(MissingPackageError, match="tflite-micro is not installed"):
        micro_costs(classifier(), "int8", BOTH)
    with pytest.raises(ModelError, match="a backbone whose pixels go into MUL"):
        micro_costs(append_head(backbone(), *head(3)), "int8", FLASH)


def test_a_model_without_costs_keeps_no_limit() -> None:
    assert MicroLimits(100, 200).keep({"flash_bytes": 100, "arena_bytes": 200})
    assert not MicroLimits(100, 200).keep({"flash_bytes": 100, "arena_bytes": 201})
    assert not MicroLimits(100, 200).keep({})
    assert MicroLimits().keep({})
    assert str(MicroLimits(1000, None)) == "gate.max_flash_bytes: 1,000"


@pytest.fixture
def results(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave float32 and int8, which takes 1,000 bytes of flash and 5,000 of arena."""
    tiny_run.make()
    costs = {"flash_bytes": 1000, "arena_bytes": 5000}
    monkeypatch.setattr(module, "blank_micro_classifier", lambda _: bytes(costs["flash_bytes"]))
    monkeypatch.setattr(module, "smallest_arena_bytes", lambda _: costs["arena_bytes"])
    return folder


def test_a_model_within_the_limits_passes(results: Path) -> None:
    gate(GateStage("int8", SCHEMES, limits(max_flash_bytes=1000, max_arena_bytes=5000)))
    told = json.loads(layout.GATE.read_text())
    assert told == {"scheme": "int8", "limits": {"max_flash_bytes": 1000, "max_arena_bytes": 5000}}


def test_a_model_beyond_them_is_refused_with_both_numbers(results: Path) -> None:
    with pytest.raises(LimitError) as caught:
        gate(GateStage("int8", SCHEMES, limits(max_flash_bytes=800, max_arena_bytes=4000)))
    assert "max_flash_bytes: 800; it has 1,000, 200 (25%) too much" in str(caught.value)
    assert "max_arena_bytes: 4,000; it has 5,000, 1,000 (25%) too much" in str(caught.value)
    assert "this holds for none" in str(caught.value)
    assert not layout.GATE.exists()


def test_other_schemes_are_refused_with_the_one_that_would_pass(results: Path) -> None:
    with pytest.raises(LimitError) as caught:
        gate(GateStage("float32", SCHEMES, limits(max_arena_bytes=5000)))
    assert "max_arena_bytes: 5,000; this scheme runs on no microcontroller, int8 alone does" in str(caught.value)
    assert "this holds for int8" in str(caught.value)
    assert "set `deploy: int8`" in str(caught.value)


def test_without_such_a_limit_no_model_is_opened(results: Path) -> None:
    layout.model("int8").unlink()
    gate(GateStage("int8", SCHEMES, limits(max_size_bytes=1000)))
    with pytest.raises(InputError, match=r"no models/classifiers/int8/model.tflite, of which gate.max_flash_bytes: 9"):
        gate(GateStage("int8", SCHEMES, limits(max_flash_bytes=9)))


@pytest.mark.parametrize("name", ["max_flash_bytes", "max_arena_bytes"])
def test_a_limit_below_one_byte_makes_no_sense(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"gate.{name}: 0\n  expected: a number of at least 1"):
        limits(**{name: 0})


def test_the_summary_tells_costs_and_chooses_what_fits(results: Path) -> None:
    given = {"choose": {"size_bytes": 4000}, "gate": {"max_flash_bytes": 1000, "max_arena_bytes": 6000}}
    tiny_run.write_params(["float32", "int8"], deploy="int8", **given)
    told = text_of(summarized())
    assert (
        "On a microcontroller: int8 takes 1,000 bytes of flash and 5,000 bytes of arena (gate.max_flash_bytes: 1,000"
        " and gate.max_arena_bytes: 6,000)\n" in told
    )
    assert "Chosen:   int8" in told  # float32 is more accurate, and would be chosen without the limits
    json.dumps(summarized().to_json(), allow_nan=False)
    tiny_run.write_params(["float32", "int8"], deploy="int8", **given | {"gate": {"max_flash_bytes": 999}})
    told = text_of(summarized())
    assert "Refused:  int8 breaks 1 of the limits in `gate`:\n  - max_flash_bytes: 999; it has 1,000" in told
    assert "Chosen:" not in told
    tiny_run.write_params(["float32", "int8"], **given | {"gate": {}})
    assert "Chosen:   float32" in text_of(summarized())


def test_the_summary_suggests_no_scheme_that_does_not_fit(results: Path) -> None:
    tiny_results.write_scheme("float16", size_bytes=500, p50=1)
    tiny_run.change_metrics("float16", backbone="tiny", latency_ms={"p50": 1, "p90": 1, "high": 2})
    write_text(layout.DEPLOYED_METRICS, layout.metrics("int8").read_text())
    schemes = ["float32", "float16", "int8"]
    tiny_run.write_params(schemes, deploy="int8", gate={"max_flash_bytes": 1000})
    assert not any("deploy:" in step for step in next_steps(summarized()))
    tiny_run.write_params(schemes, deploy="int8")
    assert "edit `deploy: float16`" in next_steps(summarized())


SMALL = Candidate("small int8", 0.8, 5.0, 1000, {}, 0.0, {"flash_bytes": 900})
LARGE = Candidate("large int8", 0.9, 9.0, 2000, {}, 0.0, {"flash_bytes": 1900})


def test_what_does_not_fit_is_not_chosen_from() -> None:
    assert fitting([SMALL, LARGE], MicroLimits(max_flash_bytes=1000), "a table") == [SMALL]
    assert fitting([SMALL, LARGE], MicroLimits(), "a table") == [SMALL, LARGE]
    with pytest.raises(LimitError, match=r"none of 2 models keeps gate.max_flash_bytes: 10\n(.|\n)*a table tells what"):
        fitting([SMALL, LARGE], MicroLimits(max_flash_bytes=10), "a table")


ROW = Row(
    backbone="net",
    input_pixels=96,
    scheme="float32",
    accuracy=0.9,
    standard_error=0.01,
    take_accuracy=1.0,
    accuracy_drop=0.0,
    size_bytes=4000,
    latency_ms_p50=9.0,
    peak_memory_bytes=1 << 20,
    num_multiply_adds=None,
    are_multiply_adds_published=False,
    num_threads=1,
    num_test_frames=10,
    num_test_takes=2,
    experiment="net-1",
)
ROWS = [
    ROW,
    replace(ROW, backbone="wide", scheme="int8", accuracy=0.85, micro_costs={"flash_bytes": 3000, "arena_bytes": 9000}),
    replace(
        ROW,
        scheme="int8",
        accuracy=0.8,
        latency_ms_p50=8.0,
        size_bytes=1000,
        micro_costs={"flash_bytes": 1000, "arena_bytes": 5000},
    ),
]


def test_a_sweep_shows_what_models_take_and_chooses_what_fits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(Path("params.yaml"), yaml.safe_dump(PARAMS))
    sweep.tell(ROWS, MicroLimits(2000, 6000), as_json=False)
    told = capsys.readouterr().out
    assert "multiply-adds  flash, bytes  arena, bytes  reward  front\n" in told
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "net 96 int8 0.800 ± 0.010 1.000 +0.000 0.00 MiB 8.0 ms 1.0 MiB - 1,000 5,000 0.800 *" in lines
    assert "net 96 float32 0.900 ± 0.010 1.000 +0.000 0.00 MiB 9.0 ms 1.0 MiB - - - 0.900" in lines
    assert "1 of 3 keep gate.max_flash_bytes: 2,000 and gate.max_arena_bytes: 6,000: no other is on the front" in told
    assert "Chosen: net int8" in told
    table = pd.read_csv("plots/sweep/table.csv")
    assert table["arena_bytes"].tolist()[1:] == [9000, 5000]
    sweep.tell(ROWS, MicroLimits(), as_json=False)
    told = capsys.readouterr().out
    assert "Chosen: net float32" in told
    assert "flash" not in told


def test_a_sweep_of_which_nothing_fits_leaves_its_table(folder: Path) -> None:
    write_text(Path("params.yaml"), yaml.safe_dump(PARAMS))
    with pytest.raises(LimitError, match=r"none of 3 models keeps gate.max_flash_bytes: 9(.|\n)*plots/sweep/table.csv"):
        sweep.tell(ROWS, MicroLimits(max_flash_bytes=9), as_json=False)
    assert pd.read_csv("plots/sweep/table.csv")["flash_bytes"].max() == 3000


def test_a_search_shows_what_models_take_and_chooses_what_fits(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = PARAMS | {"gate": {"max_flash_bytes": 2000}}
    write_text(Path("params.yaml"), yaml.safe_dump(params))
    space = SearchConfig(["efficientnet_lite0", "efficientnet_lite1"], [None], ["float32", "int8"], 4, 0)
    study = run_study(space, FakeWorkshop())
    capsys.readouterr()
    micro = {("efficientnet_lite0", "int8"): {"flash_bytes": 2500}, ("efficientnet_lite1", "int8"): {"flash_bytes": 9}}
    tell(study, params, Costs(AnyLatency(), micro), 6)
    told = capsys.readouterr().out
    assert "Chosen: efficientnet_lite1 int8" in told
    assert "1 of 4 keep gate.max_flash_bytes: 2,000" in told
    assert "flash, bytes" in told
    assert pd.read_csv("plots/search/table.csv").set_index(["backbone", "scheme"])["flash_bytes"].max() == 2500


def test_a_workshop_measures_what_was_tried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIEWFINDER_CACHE", str(folder / "cache"))  # a workshop sets it for its process
    shop = Workshop(Path("study"), "stretch", Path.cwd())
    write_bytes(Path("study/net") / layout.model("int8"), classifier())
    found = shop.micro_costs("net", "int8", FLASH)
    assert found == {"flash_bytes": len(blank_micro_classifier(classifier()))}
