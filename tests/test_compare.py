"""The command `viewfinder compare`, and how sure its differences are."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from pipeline.errors import ConfigurationError
from pipeline.metrics.intervals import accuracy_difference_interval
from pipeline.tools.cli import viewfinder
from pipeline.tools.compare import text_of, with_float32, with_revision
from tests import tiny_run
from tests.sandbox import Sandbox


@pytest.fixture
def run(folder: Path) -> Path:
    tiny_run.make()
    return folder


@pytest.fixture
def committed(run: Path) -> Path:
    Sandbox(run).begin()
    return run


def test_schemes_are_compared_with_float32(run: Path) -> None:
    lines = [" ".join(line.split()) for line in text_of(with_float32()).splitlines()]
    assert lines[2] == "float32 1.000 1.000 0.00 MiB 9.0 ms"
    assert lines[3].startswith("int8 0.800 (-0.200) -")
    assert lines[3].endswith(" 0.800 (-0.200) 0.00 MiB (-75%) 3.0 ms (-67%)")


def test_it_fits_100_columns_whatever_a_scheme_is_called(run: Path) -> None:
    name = "a_scheme_with_a_name_that_does_not_end_soon"
    tiny_run.write_scheme("float32", size_bytes=400_000_000, p50=987.6)
    tiny_run.write_scheme(name, wrong=[0, 7], size_bytes=300_000_000, p50=1987.6)
    tiny_run.write_params(["float32", name])
    told = text_of(with_float32())
    assert "a_scheme_…" in told
    assert max(map(len, told.splitlines())) <= 100


def test_the_interval_holds_what_other_takes_would_have_given() -> None:
    truth = [("a", 10, 0), ("b", 10, 2), ("c", 10, 0), ("d", 10, 4)]
    takes = [take for take, count, _ in truth for _ in range(count)]
    ids = [str(number) for number in range(len(takes))]
    right = pd.DataFrame({"take": takes, "frame_id": ids, "is_right": True})
    lost = [number < num_wrong for _, count, num_wrong in truth for number in range(count)]
    low, high = accuracy_difference_interval(right, right.assign(is_right=[not one for one in lost])) or (0, 0)
    assert -0.4 <= low < -0.15 < high <= 0  # -0.15 all in all; a take lost 0.4 at most
    assert accuracy_difference_interval(right, right) == (0.0, 0.0)


def test_there_is_no_interval_of_other_frames_or_of_one_take() -> None:
    table = pd.DataFrame({"take": ["a", "b"], "frame_id": ["1", "2"], "is_right": [True, False]})
    assert accuracy_difference_interval(table, table.head(1)) is None
    assert accuracy_difference_interval(table.head(1), table.head(1)) is None


def test_of_one_take_there_is_no_interval(run: Path) -> None:
    tiny_run.change_metrics("int8", intervals={})
    assert "interval" not in text_of(with_float32())


def test_as_json(run: Path) -> None:
    found = json.loads(CliRunner().invoke(viewfinder, ["compare", "--json"]).stdout)
    assert found["against"] == "float32"
    assert found["schemes"]["float32"]["difference"] is None
    assert found["schemes"]["int8"]["difference"]["size_bytes"] == -3000
    low, high = found["schemes"]["int8"]["accuracy_difference_interval"]
    assert (low, high) == (pytest.approx(-0.3), pytest.approx(-0.2))


def write_heads(scheme: str, *, drop: float, **heads: float) -> None:
    intervals = {"accuracy_drop": {"low": drop - 0.02, "high": drop + 0.03}}
    figures = {name: {"accuracy": value, "take_accuracy": 1.0, "intervals": intervals} for name, value in heads.items()}
    tiny_run.change_metrics(scheme, heads=figures)


def test_every_head_is_compared(run: Path) -> None:
    write_heads("float32", drop=0, material=0.9, parts=0.7)
    write_heads("int8", drop=0.1, material=0.8, parts=0.72)
    lines = [" ".join(line.split()) for line in text_of(with_float32()).splitlines()]
    assert lines[5:10] == [
        "head scheme accuracy interval by take",
        "material float32 0.900 1.000",
        "material int8 0.800 (-0.100) -0.130 to -0.080 1.000 (+0.000)",
        "parts float32 0.700 1.000",
        "parts int8 0.720 (+0.020) -0.130 to -0.080 1.000 (+0.000)",
    ]
    found = with_float32().to_json()["heads"]["material"]
    assert found["float32"] == {
        **{"accuracy": 0.9, "take_accuracy": 1.0, "difference": None, "accuracy_difference_interval": None}
    }
    assert found["int8"]["difference"]["accuracy"] == pytest.approx(-0.1)
    assert found["int8"]["accuracy_difference_interval"] == pytest.approx((-0.13, -0.08))


def test_a_head_that_is_new_since_a_revision_has_no_difference(run: Path) -> None:
    write_heads("float32", drop=0, material=0.9)
    Sandbox(run).begin()
    write_heads("float32", drop=0, material=0.95, parts=0.7)
    lines = [" ".join(line.split()) for line in text_of(with_revision("HEAD")).splitlines()]
    assert lines[5:8] == [
        "head scheme accuracy by take",
        "material float32 0.950 (+0.050) 1.000 (+0.000)",
        "parts float32 0.700 1.000",
    ]


def test_with_a_revision(committed: Path) -> None:
    tiny_run.write_scheme("int8", wrong=[0], size_bytes=500, p50=1.5)
    tiny_run.change_metrics("int8", backbone="other", num_test_takes=3)
    tiny_run.write_params(["int8"])
    told = text_of(with_revision("HEAD"))
    line = " ".join(told.splitlines()[2].split())
    assert line == "int8 0.900 (+0.100) 0.900 (+0.100) 0.00 MiB (-50%) 1.5 ms (-50%)"
    assert "In brackets: the difference from HEAD." in told
    assert "Scored on other takes: 10 frames of 2 takes then, 10 of 3 now." in told
    assert "Another backbone: tiny then, other now." in told
    assert "There and not here: float32." in told


def test_a_scheme_that_is_new_has_no_difference(committed: Path) -> None:
    tiny_run.write_scheme("int4", size_bytes=500)
    tiny_run.write_params(["float32", "int4"])
    found = with_revision("HEAD").to_json()["schemes"]
    assert found["int4"]["difference"] is None
    assert found["float32"]["difference"]["accuracy"] == 0


def test_a_revision_without_these_schemes(committed: Path) -> None:
    tiny_run.write_scheme("int4")
    tiny_run.write_params(["int4"])
    with pytest.raises(ConfigurationError, match="no metrics of int4 at HEAD"):
        with_revision("HEAD")


def test_a_revision_that_is_none(committed: Path) -> None:
    done = CliRunner().invoke(viewfinder, ["compare", "no-such-branch"])
    assert done.exit_code == ConfigurationError.exit_status
    assert "no metrics can be read at no-such-branch (unknown Git revision" in done.stderr
