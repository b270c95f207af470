"""README and docs/ say what is so: pages are current, links lead somewhere, commands and packages exist."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.tools import reference
from pipeline.tools.cli import viewfinder
from tests.conftest import PROJECT

DOCS = PROJECT / "docs/pages"
PAGES = [PROJECT / "README.md", *sorted(DOCS.rglob("*.md"))]
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
MAX_README_LINES = 150


def page_name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize(
    ("path", "expected"), [pytest.param(*page, id=page[0].name) for page in reference.pages().items()]
)
def test_a_generated_page_is_current(path: Path, expected: str) -> None:
    found = (PROJECT / path).read_text(encoding="utf-8")
    assert found == expected, f"{path} is stale: python -m pipeline.tools.reference writes it again"


def test_the_readme_is_a_page() -> None:
    assert len(TEXTS[PROJECT / "README.md"].splitlines()) <= MAX_README_LINES


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages as `make check` does: a warning is an error."""
    pytest.importorskip("mkdocs", reason="make setup-dev installs it")
    folder = tmp_path_factory.mktemp("site")
    config = ["--strict", "--config-file", "docs/mkdocs.yml", "--site-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *config],
        cwd=PROJECT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    built = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    assert built - {Path("404.md")} == {path.relative_to(DOCS) for path in DOCS.rglob("*.md")}


def test_a_built_page_fetches_nothing_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    assert fetched.search('<script src="//cdn.example/x.js">')
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert pages
    assert {path.name: fetched.findall(text) for path, text in pages.items() if fetched.search(text)} == {}
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert [style for style in styles if re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style)] == []


def without_code(text: str) -> str:
    """Leave out blocks of code and code between backticks."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def code_in(text: str) -> list[str]:
    """Return the lines of blocks of code, and what stands between backticks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", text)


def anchors(path: Path) -> set[str]:
    """Return what the headings of a page can be linked to as."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)) for heading in headings)
    return {re.sub(r"[-\s]+", "-", word.strip().lower()) for word in words}


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_every_link_leads_somewhere(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(TEXTS[path])):
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        if not link.startswith("https://") and not (target.exists() and (not anchor or anchor in anchors(target))):
            broken.append(link)
    assert broken == []


def named(pattern: str) -> set[str]:
    """Return what the pages name in code, such as `make repro`."""
    return {found for text in TEXTS.values() for line in code_in(text) for found in re.findall(pattern, line)}


def targets() -> set[str]:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    return {f"make {name}" for name in re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)}


def commands() -> set[str]:
    return {f"viewfinder {name}" for name in viewfinder.commands}


def test_every_make_target_and_viewfinder_command_exists() -> None:
    found = named(r"(?:^|[^-\w/])((?:make|viewfinder) [a-z][a-z-]*)\b")
    assert {"make repro", "make test", "viewfinder score"} <= found
    assert found - targets() - commands() == set()


def test_every_module_exists() -> None:
    found = named(r"python -m ([\w.]+)")
    assert "pipeline.tools.reference" in found
    assert {name for name in found if importlib.util.find_spec(name.rstrip(".")) is None} == set()


def test_every_file_of_the_project_exists() -> None:
    found = named(r"^((?:bench|conf|data|docs|pipeline|tests)/[\w./-]+\.(?:py|yaml|yml|md))$")
    assert "pipeline/files/layout.py" in found
    assert {name for name in found if not (PROJECT / name).is_file()} == set()


def test_every_dependency_is_described() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [name for names in project["optional-dependencies"].values() for name in names]
    text = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    names = [name.split(";")[0] for name in project["dependencies"] + optional]
    assert [name for name in names if f"`{name}`" not in text] == []
