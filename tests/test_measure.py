"""The stage `measure`: all models are timed in one sitting, and each scheme's metrics are gathered in one file."""

import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from pipeline.config.measure import MeasureConfig, MeasureStage, measure_config
from pipeline.errors import ConfigurationError, InputError
from pipeline.files import layout, sha256_of_file, write_text
from pipeline.litert import turns
from pipeline.litert.turns import time_in_turns
from pipeline.measure import measure
from tests import tiny_results

CONFIG = MeasureStage(["float32", "int8"], MeasureConfig(1, 1, 4, 2))


def write_evaluation(scheme: str, **changes: object) -> None:
    tiny_results.write_scheme(scheme)
    found = {"accuracy": 0.9, "scheme": scheme, "model_sha256": sha256_of_file(layout.model(scheme))}
    write_text(layout.evaluation(scheme), json.dumps(found | changes))


def test_each_scheme_gets_one_file_with_what_is_known_of_it_and_no_other_has_one(folder: Path) -> None:
    for scheme in ("float32", "int8"):
        write_evaluation(scheme)
    write_text(layout.metrics("int4"), "{}")
    measure(CONFIG)
    assert sorted(path.name for path in layout.SCHEMES_METRICS.iterdir()) == ["float32.json", "int8.json"]
    found = json.loads(layout.metrics("int8").read_text())
    assert set(found) == {
        *("accuracy", "scheme", "latency_ms", "busy_percent", "num_threads", "peak_memory_bytes"),
    }
    latency = found["latency_ms"]
    assert 0 < latency["low"] <= latency["p50"] <= latency["high"] <= latency["p99"]
    assert latency["p50"] <= latency["p90"] <= latency["p99"]
    assert 0 <= found["busy_percent"] <= 100
    assert (found["accuracy"], found["num_threads"]) == (0.9, 1)
    assert found["peak_memory_bytes"] > 0


def test_a_model_that_was_not_evaluated_is_refused(folder: Path) -> None:
    write_evaluation("float32")
    write_evaluation("int8", model_sha256="ab" * 32)
    with pytest.raises(InputError, match=r"int8/model.tflite is not the model that build/evaluation/int8.json"):
        measure(CONFIG)
    assert json.loads(layout.metrics("int8").read_text())["scored_by"]  # what was there before


def runner(log: list[str], costs_ms: dict[str, float]) -> Callable[[bytes, int], Callable[[], float]]:
    """Return what stands in for `timed_runner`: it notes which model runs, and tells made-up milliseconds."""

    def timed_runner(content: bytes, num_threads: int) -> Callable[[], float]:
        def run() -> float:
            log.append(content.decode())
            return costs_ms[content.decode()] + len(log) / 1000

        return run

    return timed_runner


def test_models_take_turns_and_the_first_runs_of_a_turn_do_not_count() -> None:
    log: list[str] = []
    with mock.patch.object(turns, "timed_runner", runner(log, {"a": 5, "b": 7})):
        found = time_in_turns({"x": b"a", "y": b"b"}, num_threads=1, num_warmup=1, num_turns=2, num_runs=3)
    assert "".join(log) == "ab" + 2 * ("aaaaa" + "bbbbb")
    counted = [5 + number / 1000 for number in (5, 6, 7, 15, 16, 17)]
    assert found.latency_ms["x"]["p50"] == pytest.approx(np.median(counted), abs=1e-3)
    assert (found.latency_ms["x"]["low"], found.latency_ms["x"]["high"]) == (5.006, 5.016)  # one turn, or the other
    assert found.latency_ms["y"]["p50"] > 7


def test_what_others_compute_is_not_what_we_compute() -> None:
    for others, expected in ((1.0, 50.0), (0.0, 0.0)):
        machine = [{"user": 0.0, "idle": 0.0}, {"user": 1 + others, "idle": 1 - others}]
        named = [
            mock.MagicMock(**times, iowait=0.0, __iter__=lambda self: iter((self.user, self.idle))) for times in machine
        ]
        own = [mock.Mock(user=0.0, system=0.0), mock.Mock(user=1.0, system=0.0)]
        with (
            mock.patch("psutil.cpu_times", side_effect=named),
            mock.patch("psutil.Process", return_value=mock.Mock(cpu_times=mock.Mock(side_effect=own))),
            mock.patch.object(turns, "timed_runner", runner([], {"a": 1})),
        ):
            found = time_in_turns({"x": b"a"}, num_threads=1, num_warmup=0, num_turns=1, num_runs=1)
        assert found.busy_percent == expected


def test_tools_take_conf_and_other_values() -> None:
    assert measure_config() == MeasureConfig(1, 10, 20, 5)
    assert measure_config(num_threads=4).num_threads == 4
    with pytest.raises(ConfigurationError, match=r"measure.num_threads: 0\n.*a number from 1 to 64"):
        measure_config(num_threads=0)
