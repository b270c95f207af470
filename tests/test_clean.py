"""The command `viewfinder clean`, in a repository of Git and DVC."""

import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from pipeline.files import layout, write_text
from pipeline.tools.cli import viewfinder
from tests.conftest import PROJECT

KEPT = ("data/videos/cup/1.mp4", "weights/mine.keras", "metrics/float32.json", "models/backbone/architecture.yaml")
BROUGHT_BACK = ("data/frames/cup/1.parquet", "models/float32/model.tflite", "plots/pictures/a.png")
ON_REQUEST = (
    f"{layout.DEPLOYED}/model.tflite",
    "models/int4/model.tflite",  # of a scheme that is off the list
    ".cache/search/study.sqlite3",
    ".tensorboard/events",
    "plots/search/table.csv",
)


@pytest.fixture(autouse=True)
def project(folder: Path) -> None:
    """A project with a file of each kind; Git tracks what the real one's .gitignore leaves to it."""
    outs = ["data/frames", "models/float32/model.tflite", "plots/pictures", str(layout.DEPLOYED)]
    uncached = [{name: {"cache": False}} for name in KEPT[2:]]
    write_text(Path("dvc.yaml"), yaml.safe_dump({"stages": {"all": {"cmd": "true", "outs": [*outs, *uncached]}}}))
    write_text(Path(".gitignore"), (PROJECT / ".gitignore").read_text(encoding="utf-8"))
    for name in ("params.yaml", *KEPT, *BROUGHT_BACK, *ON_REQUEST):
        write_text(Path(name), "{}")
    commands = (
        ["git", "init", "-q"],
        ["dvc", "init", "-q"],
        ["git", "add", "-A"],
        ["git", "add", "-f", "plots/search"],
    )
    for command in commands[:3]:
        subprocess.run(command, check=True)


def clean(*options: str, answer: str = "") -> Result:
    done = CliRunner().invoke(viewfinder, ["clean", *options], input=answer)
    assert not done.exception or isinstance(done.exception, SystemExit), done.exception
    return done


def there(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if Path(name).exists()]


def test_only_what_dvc_brings_back_goes() -> None:
    told = clean().stdout
    assert there(BROUGHT_BACK) == []
    assert there(KEPT + ON_REQUEST) == [*KEPT, *ON_REQUEST]
    assert "data/frames: 0.0 MB, `dvc repro` brings it back" in told
    assert not Path("data/frames").exists()
    assert clean().stdout == "nothing to remove\n"


def test_a_file_that_git_tracks_stays_wherever_it_lies() -> None:
    tracked = Path("data/frames/readme.txt")
    write_text(tracked, "mine")
    subprocess.run(["git", "add", "-f", str(tracked)], check=True)
    clean("--all", "--yes")
    assert tracked.read_text() == "mine"
    assert there(BROUGHT_BACK + ON_REQUEST) == []


def test_all_lists_and_asks_first() -> None:
    refused = clean("--all", answer="n\n")
    assert there(KEPT + BROUGHT_BACK + ON_REQUEST) == [*KEPT, *BROUGHT_BACK, *ON_REQUEST]
    assert f"{layout.DEPLOYED}: 0.0 MB, the model for your app" in refused.stdout
    assert ".cache: 0.0 MB, the take cache, the search's trials" in refused.stdout
    assert "Remove these 0.0 MB? [y/N]" in refused.stderr
    clean("--all", answer="y\n")
    assert there(BROUGHT_BACK + ON_REQUEST) == []
    assert there(KEPT) == list(KEPT)


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "file"
    elsewhere.write_text("mine")
    Path("data/frames/link").symlink_to(elsewhere.parent)
    clean()
    assert not Path("data/frames").exists()
    assert elsewhere.read_text() == "mine"


def test_without_git_metrics_stay(folder: Path) -> None:
    subprocess.run(["rm", "-rf", ".git", ".dvc"], check=True)
    subprocess.run(["dvc", "init", "-q", "--no-scm"], check=True)
    clean("--all", "--yes")
    assert there(KEPT) == list(KEPT)
