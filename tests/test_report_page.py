"""The command `viewfinder report`: one page that needs nothing but itself."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from pipeline.errors import InputError
from pipeline.files import layout
from pipeline.pictures.curves import training_curves
from pipeline.takes.splits import Block, write_splits
from pipeline.tools.cli import viewfinder
from pipeline.tools.page import folded, listing, page, paragraph, picture, section, table
from pipeline.tools.report import PAGE, report
from tests import tiny_run

BAD = "<b>&\"'"


class Reader(HTMLParser):
    """Gathers a page's text and its elements, and counts what is open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.elements, self._open = "", set[str](), list[str]()
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.elements.add(tag)
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def html(folder: Path) -> str:
    tiny_run.make()
    return report().read_text(encoding="utf-8")


def test_everything_is_on_the_page(html: str) -> None:
    text = Reader(html).text
    titles = ("Results", "The worst errors", "Takes", "Settings")
    assert [title for title in titles if title in text] == list(titles)
    assert "backbone: efficientnet_lite0" in text  # of params.yaml
    assert "Deployed: float32" in text
    assert re.search(r"rote Möhre\s*test\.mp4\s*test\s*100%", re.sub("<[^>]*>", " ", html))


def test_the_page_asks_no_network(html: str) -> None:
    assert "http" not in html
    sources = re.findall(r"(?:src|href|url|@import)\W+([^\"' )>]{1,30})", html)
    assert len(sources) == 1  # the worst errors
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not Reader(html).elements & {"script", "link", "iframe"}
    assert "prefers-color-scheme: dark" in html


def test_names_are_text(folder: Path) -> None:
    tiny_run.make()
    tiny_run.change_metrics("float32", per_class={BAD: {}, "cup": {}})
    write_splits(layout.SPLITS, [Block(BAD, "<i>.mp4", "data/videos/x", "0", "train", 0.0, 1.0)])
    with Path("params.yaml").open("a", encoding="utf-8") as file:
        file.write("# <script>\n")
    found = Reader(report().read_text(encoding="utf-8"))
    assert not found.elements & {"b", "i", "script"}
    for name in (BAD, "<i>.mp4", "# <script>"):
        assert name in found.text


def test_every_piece_takes_any_text() -> None:
    parts = [paragraph(BAD, kind="warning"), listing(BAD), table([BAD], [[BAD]], marked=0), folded(BAD, "")]
    found = Reader(page(BAD, [section(BAD, *parts, picture(b"", BAD))]))
    assert found.text.count(BAD) == 8
    assert "b" not in found.elements


def test_what_the_gate_refuses_and_what_the_targets_choose_is_told(folder: Path) -> None:
    tiny_run.make()
    tiny_run.write_params(["float32", "int8"], deploy="int8", gate={"min_accuracy": 0.9}, choose={"latency_ms": 5})
    text = Reader(report().read_text(encoding="utf-8")).text
    assert "The gate refuses int8:min_accuracy: 0.9; it has 0.8" in text
    assert "Chosen by the targets: float32" in text


def test_a_cut_take_shows_its_blocks_and_many_takes_are_folded(folder: Path) -> None:
    tiny_run.make()
    cut = [
        Block("cup", "a.mp4", "a", "0", part, start, end) for part, start, end in [("train", 0, 0.8), ("test", 0.9, 1)]
    ]
    whole = [Block("cup", f"b{number}.mp4", "b", "0", "train", 0, 1) for number in range(40)]
    write_splits(layout.SPLITS, cut + whole)
    found = Reader(report().read_text(encoding="utf-8"))
    assert "train 0% to 80%, test 90% to 100%" in found.text
    assert "41 takes" in found.text


def test_without_a_run_there_is_no_page(folder: Path) -> None:
    tiny_run.make()
    layout.metrics("float32").unlink()
    done = CliRunner().invoke(viewfinder, ["report"])
    assert done.exit_code == InputError.exit_status
    assert "the metrics of a finished run" in done.stderr
    assert not PAGE.exists()


def test_it_opens_only_on_demand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("click.launch", opened.append)
    tiny_run.make()
    for options in ([], ["--no-open"], ["--open"]):
        assert CliRunner().invoke(viewfinder, ["report", *options]).stdout == f"{PAGE}\n"
    assert opened == [str(PAGE)]


def test_curves_of_many_schemes_are_a_picture() -> None:
    curve = pd.DataFrame({"step": [0, 10], "train_loss": [1.0, 0.5], "validation_loss": [1.0, 0.6]})
    tables = {f"scheme {number}": curve for number in range(7)}
    assert training_curves(tables, over="step", figures=["loss"]).startswith(b"\x89PNG")
