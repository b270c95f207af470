"""After `dvc pull` in a clone there is nothing to do, whatever schemes were on the list before."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.files import layout
from tests import stub_stages

pytestmark = pytest.mark.slow

TWO, THREE = ["float32", "int8"], ["float32", "int8", "int4"]


@pytest.mark.parametrize("lists", [[THREE, TWO], [TWO, THREE, TWO]])
def test_what_was_pulled_is_up_to_date(tmp_path: Path, lists: Sequence[Sequence[str]]) -> None:
    project = stub_stages.make(tmp_path / "project")
    project.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    for schemes in lists:
        project.set(quantization=schemes)
        project.repro()
        project.commit()
    project.run("dvc", "push")
    assert not (project.folder / layout.metrics("int4")).exists()

    clone = project.clone("clone")
    assert "deploy" in clone.json("dvc", "status", "--json")
    clone.run("dvc", "pull")
    assert clone.json("dvc", "status", "--json") == {}
    assert clone.repro()[0] == []
    assert clone.output("git", "status", "--porcelain") == ""
