"""What the generator of the reference pages finds in dvc.yaml, params.yaml and the dataclasses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import ConfigurationError
from pipeline.tools import reference, reruns
from pipeline.tools.markdown import paths, prose, table, value
from tests.conftest import PROJECT

STAGES: dict[str, Any] = yaml.safe_load("""
check:
  cmd: python -m pipeline.check
  deps: [conf]
  params: [params.yaml: ]
split:
  desc: decide
  cmd: python -m pipeline.split
  deps: [build/code/split.json, data/videos]
  params: [split, conf/split.yaml: ]
  outs: [data/splits.csv]
train:
  desc: train the head of ${training.mode}
  matrix: {scheme: "${schemes}"}
  cmd: python -m pipeline.train scheme=${item.scheme} rate=${training.rate}
  deps: ["models/${training.mode}/backbone"]
  params: [training.seed, "conf/schemes/${item.scheme}.yaml": ]
  outs: ["models/${item.scheme}": {cache: false}]
report:
  cmd: python -m pipeline.report
  params: [params.yaml: [schemes], conf/report.yaml: [report.bins]]
  metrics: ["metrics/${deploy}.json"]
""")
NOW = reference.pages()
PARAMS = {
    "schemes": ["int8"],
    "deploy": "int8",
    "split": {"percent": 10},
    "training": {"mode": "head", "rate": 0.1, "seed": 0},
    "engine": "local",
}


def test_an_edit_reruns_what_names_the_key_its_section_or_a_path_made_of_it() -> None:
    assert reruns.reruns(STAGES, PARAMS) == {
        "schemes": {"report"},
        "deploy": {"report"},
        "split.percent": {"split"},
        "training.mode": {"train"},
        "training.rate": {"train"},
        "training.seed": {"train"},
        "engine": set(),
    }


def test_what_reads_all_parameters_runs_always() -> None:
    assert reruns.always(STAGES) == {"check"}


def test_a_list_makes_the_stages_of_its_matrix() -> None:
    assert reruns.made_by(STAGES, "schemes") == ["train"]
    assert reruns.made_by(STAGES, "deploy") == []


@pytest.mark.parametrize(
    ("file", "key", "expected"),
    [
        ("conf/split.yaml", "split.gap", ["split"]),
        ("conf/schemes/int8.yaml", "bits", ["train"]),
        ("conf/schemes/more/int8.yaml", "bits", []),
        ("conf/report.yaml", "report.bins", ["report"]),
        ("conf/report.yaml", "report.bins_2", []),
        ("conf/cache.yaml", "max_bytes", []),
    ],
)
def test_an_edit_in_conf_reruns_what_tracks_it(file: str, key: str, expected: list[str]) -> None:
    assert reruns.trackers(STAGES, file, key) == expected


def test_a_stage_is_a_row_without_its_code() -> None:
    rows = reference.stages_table(STAGES).splitlines()
    assert rows[3] == "| `split` | decide | `data/videos` | `data/splits.csv` |"
    assert rows[4].startswith("| `train@scheme` |")
    assert rows[4].endswith("| `models/<training.mode>/backbone` | `models/<scheme>` |")


@dataclass
class Base:
    """A base.

    Attributes:
        width: Pixels, to
            the last.
    """

    width: int = 0


@dataclass
class More(Base):
    """More.

    Attributes:
        height: Pixels.
    """

    height: int = 0
    depth: int = 0


def test_meanings_are_those_of_a_dataclass_and_what_it_extends() -> None:
    assert reference.meanings(More) == {"width": "Pixels, to the last.", "height": "Pixels."}


def test_a_setting_without_a_meaning_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        reference.meaning("more.depth", More)
    assert caught.value.found == "no meaning of `more.depth` in the docstring of More"
    assert caught.value.remedy.endswith("test_reference.py")


def test_every_setting_of_every_section_has_a_meaning() -> None:
    for section, schema in reference.sections().items():
        for name in schema.__dataclass_fields__:
            assert reference.meaning(f"{section}.{name}", schema)


def test_a_page_without_its_mark_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for page in NOW:
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / page).write_text("# A page\n")
    for name in ("dvc.yaml", "params.yaml"):
        (folder / name).write_bytes((PROJECT / name).read_bytes())
    monkeypatch.setattr(reference, "PROJECT", folder)
    with pytest.raises(ConfigurationError, match=r"stages\.md has lost the line that tells what is generated"):
        reference.pages()


def test_what_is_written_by_hand_stays_and_what_is_behind_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for page, text in NOW.items():
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / page).write_text(f"By hand.\n{reference.MARK}\nstale\n")
        assert text.endswith("\n")
    for name in ("dvc.yaml", "params.yaml"):
        (folder / name).write_bytes((PROJECT / name).read_bytes())
    monkeypatch.setattr(reference, "PROJECT", folder)
    reference.main()
    text = (folder / reference.FOLDER / "stages.md").read_text()
    assert text.startswith(f"By hand.\n{reference.MARK}\n| stage |")
    assert "stale" not in text
    assert len(capsys.readouterr().out.splitlines()) == len(NOW)


def test_values_are_those_of_yaml() -> None:
    assert [value(one) for one in (0.00001, [1e-6, "a"], None, True, "x", "", 0.5)] == [
        "`0.00001`",
        "`[0.000001, a]`",
        "`null`",
        "`true`",
        "`x`",
        "(empty)",
        "`0.5`",
    ]


def test_remarks_show_what_they_say() -> None:
    assert prose("a < b * c, `d < e`, see https://x.org/y.") == r"a &lt; b \* c, `d < e`, see <https://x.org/y>."
    assert prose("[x](https://x.org/*)") == "[x](https://x.org/*)"
    assert table(["a"], [["b | c"]]) == "| a |\n| --- |\n| b \\| c |"
    assert paths(["m/${item.scheme}/x", "n/${deploy}.json"]) == "`m/<scheme>/x`, `n/<deploy>.json`"
