"""Keys that cannot lie: they change if, and only if, code, settings, bytes or libraries change."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.frames import FramesConfig
from pipeline.errors import ConfigurationError
from pipeline.keys import libraries, usage
from pipeline.keys.digests import digest_of_source
from pipeline.keys.key import hash_of, key_of, module_of, name_of
from pipeline.keys.libraries import NOT_INSTALLED, distribution_of, installed_versions, locked_versions
from pipeline.keys.processor import processor_features
from pipeline.keys.usage import modules, usage_of
from pipeline.per_take.frames import frames_of_photos, frames_of_video
from tests.conftest import PROJECT

SOURCES = sorted((PROJECT / "pipeline").rglob("*.py"))
EVERY_NODE = '''
"""Docstring."""
from __future__ import annotations
import a.b as c, d
from .e import f as g, h
@decorated(1, *x, k=2, **y)
class A(B, metaclass=M):
    """Docstring."""
    n: int = 3
    def m(self, /, p, q: "t" = 1, *args, r, s=None, **kw) -> str | None:
        'docstring'
        nonlocal z
        return f"{p!r:>{q}}{s=} é \\u2028" "joined" + rb"\\x00"[0:1:2]
async def co():
    async with w as v, u: await v
    async for i in j: yield i
    else: yield from k
    return [l async for l in m if n if o], {p: q for p, q in r}, {s for s in t}, (u for u in v)
try:
    assert a, "b"
except (E, F) as e: raise G from e
else: del a[1], b.c
finally: global y
match p:
    case [1, *rest] | {"k": -1.5j, **more} if q: pass
    case Point(x=0) | None | "s" as t: ...
    case _: pass
while not (a := b) < c <= d != e is not f not in g:
    x += 1e300 ** -2 // 3 @ m % 4 << 5 >> 6 | 7 & 8 ^ ~9
    if lambda *a, b=1: (yield): break
    elif a and b or c: continue
'''


def interpreters() -> list[str]:
    """Return other supported Pythons that are installed here, by what they are called on the path or by pyenv."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13)]
    found += [str(path) for minor in (11, 12, 13) for path in root.glob(f"3.{minor}.*/bin/python")]
    return sorted({name for name in found if name and _starts(name)})


def _starts(name: str) -> bool:
    return subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode == 0


def test_the_digest_is_this_one_on_every_python() -> None:
    assert digest_of_source(EVERY_NODE) == "61dcd3948d0ab05238d9e54df8728cfe72ecfbeabc2ce2c2ad51158986debcd6"


@pytest.mark.slow
@pytest.mark.parametrize("python", interpreters())
def test_the_digests_of_all_modules_are_equal_on_every_python_that_is_here(python: str) -> None:
    code = (
        "import sys, pathlib, hashlib; sys.path.insert(0, sys.argv[1]); from digests import digest_of_source\n"
        "texts = [pathlib.Path(path).read_text(encoding='utf-8') for path in sys.argv[2:]]\n"
        "print(*map(digest_of_source, texts))"
    )
    command = [python, "-c", code, str(PROJECT / "pipeline/keys"), *map(str, SOURCES)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert printed == [digest_of_source(path.read_text(encoding="utf-8")) for path in SOURCES]


@pytest.mark.slow
@given(st.sampled_from(SOURCES), st.data())
def test_comments_docstrings_and_layout_change_no_digest(path: Path, data: st.DataObject) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            remark = ast.Expr(ast.Constant(data.draw(st.text(max_size=5))))
            node.body[:1] = [remark] if has_docstring and len(node.body) > 1 else [remark, *node.body[:1]]
    remarked = f"# a comment\n{ast.unparse(ast.fix_missing_locations(tree))}\n# another\n"
    assert digest_of_source(remarked) == digest_of_source(source)


def mutations(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that `mutate` can change."""
    for node in ast.walk(tree):
        is_number = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
        if is_number or isinstance(node, ast.Name | ast.arg | ast.Attribute | ast.keyword | ast.Compare | ast.BinOp):
            yield node


def mutate(node: ast.AST) -> None:
    """Change one node into something else that parses."""
    match node:
        case ast.Name():
            node.id += "_"
        case ast.arg() | ast.keyword():
            node.arg = f"{node.arg}_" if node.arg else "x"
        case ast.Attribute():
            node.attr += "_"
        case ast.Compare():
            node.ops[0] = ast.Is() if not isinstance(node.ops[0], ast.Is) else ast.In()
        case ast.BinOp():
            node.op = ast.Mod() if not isinstance(node.op, ast.Mod) else ast.Add()
        case ast.Constant():
            node.value = 7 if node.value != 7 else 8


@pytest.mark.slow
@given(st.sampled_from([path for path in SOURCES if list(mutations(ast.parse(path.read_text())))]), st.data())
def test_any_change_of_a_name_a_number_or_an_operator_changes_the_digest(path: Path, data: st.DataObject) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    mutate(data.draw(st.sampled_from(list(mutations(tree)))))
    assert digest_of_source(ast.unparse(tree)) != digest_of_source(source)


def test_texts_that_are_values_count() -> None:
    assert digest_of_source("x = 'a'") != digest_of_source("x = 'b'")
    assert digest_of_source("f('a')") != digest_of_source("f('b')")
    assert digest_of_source("x = True") != digest_of_source("x = 1")
    assert digest_of_source("x = 1.0") != digest_of_source("x = 1")


def test_what_a_module_uses_is_found_wherever_the_import_stands() -> None:
    used = dict(usage_of("pipeline.quantize").modules)
    assert "pipeline.litert.quantizer" in used  # imported within a function
    assert {"pipeline", "pipeline.litert", "pipeline.takes.cache"} <= set(used)  # the packages above, too
    assert "pipeline.report" not in used
    assert {"numpy", "hydra", "litert_quantizer"} <= set(usage_of("pipeline.quantize").libraries)
    assert not {"json", "pathlib", "tensorflow"} & set(usage_of("pipeline.quantize").libraries)


def test_modules_that_are_named_at_run_time_count() -> None:
    used = dict(usage_of("pipeline.check").modules)
    assert {name for name in modules() if name.startswith("pipeline.config.")} <= set(used)


def test_a_module_that_is_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def (:")
    monkeypatch.setattr(usage, "_path_of", lambda _name: broken)
    with pytest.raises(ConfigurationError, match=r"broken\.py cannot be read as Python(.|\n)*git checkout pipeline/"):
        usage._module.__wrapped__("pipeline.broken")


CONFIG = FramesConfig(per_second=4, width=64, jpeg_quality=95)
JOB = (partial(frames_of_video, Path("a.mp4"), "ab", CONFIG), {"take": "ab", "settings": {"width": 64}})


def test_a_key_names_the_function_that_computes() -> None:
    assert (module_of(JOB[0]), name_of(JOB[0])) == ("pipeline.per_take.frames", "frames_of_video")
    assert key_of(*JOB) == key_of(*JOB)
    assert key_of(*JOB) != key_of(partial(frames_of_photos, Path("a.mp4"), [], "ab", CONFIG), JOB[1])


@pytest.mark.parametrize(
    "other", [{"take": "ac", "settings": {"width": 64}}, {"take": "ab", "settings": {"width": 65}}]
)
def test_other_bytes_and_other_settings_make_another_key(other: dict[str, object]) -> None:
    assert key_of(JOB[0], other) != key_of(*JOB)


@pytest.mark.parametrize(("library", "is_used"), [("pillow", True), ("av", True), ("numpy", True), ("optuna", False)])
def test_another_version_of_a_library_that_is_used_makes_another_key(
    monkeypatch: pytest.MonkeyPatch, library: str, is_used: bool
) -> None:
    before = key_of(*JOB)
    monkeypatch.setattr(libraries, "version", lambda name: "0.0" if name == library else version(name))
    assert (key_of(*JOB) != before) == is_used


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("images/codec.py", "quality=quality", "quality=quality - 1", True),
        ("video/convert.py", "import", "import math\nimport", True),
        ("__init__.py", "130", "131", True),
        ("images/codec.py", '"""', '"""Another docstring. ', False),
        ("images/codec.py", "\nimport", "\n# a comment\nimport", False),
        ("pictures/canvas.py", "import", "import math\nimport", False),
        ("augment.py", "import", "import math\nimport", False),
    ],
)
def test_an_edit_of_code_that_computes_makes_another_key_and_no_other_edit_does(
    tmp_path: Path, file: str, old: str, new: str, changes: bool
) -> None:
    shutil.copytree(PROJECT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    edited = tmp_path / "pipeline" / file
    text = edited.read_text()
    assert old in text
    edited.write_text(text.replace(old, new, 1))
    code = (
        "from pipeline.keys.key import key_of; from pipeline.per_take.frames import frames_of_video\n"
        f"print(key_of(frames_of_video, {JOB[1]}))"
    )
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": ""}, capture_output=True, text=True, check=True)
    assert (printed.stdout.strip() != key_of(*JOB)) == changes


def test_every_library_that_the_code_imports_is_in_a_lock() -> None:
    imported = {library for name in modules() for library in usage_of(name).libraries}
    locks = [PROJECT / f"requirements{name}.lock" for name in ("", "-dev", "-federate")]
    assert sorted(map(distribution_of, imported)) == sorted(locked_versions(imported, locks))
    installed = packages_distributions()
    wrong = {name for name in imported & set(installed) if distribution_of(name) not in map(_normal, installed[name])}
    assert wrong == set()


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def test_locked_versions_with_their_conditions(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:ab\n"
        "numpy==2.5.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:cd\n"
        "pillow==12.1.0 \\\n    --hash=sha256:ef\n    # via numpy==1\n"
    )
    assert locked_versions(["numpy", "PIL", "ray"], [lock]) == {
        "numpy": ["2.4.6 ; python_full_version < '3.12'", "2.5.5 ; python_full_version >= '3.12'"],
        "pillow": ["12.1.0"],
    }


def test_a_library_that_is_not_installed_has_a_version_of_its_own() -> None:
    assert installed_versions(["no_such_library"]) == {"no-such-library": NOT_INSTALLED}


def test_a_library_that_another_one_writes_over_tells_both(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"opencv-python-headless": "5.0", "opencv-contrib-python": "5.1"}

    def found(name: str) -> str:
        if name not in there:
            raise PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(libraries, "version", found)
    assert installed_versions(["cv2"]) == {"opencv-python-headless": "5.0 and opencv-contrib-python 5.1"}
    del there["opencv-contrib-python"]
    assert installed_versions(["cv2"]) == {"opencv-python-headless": "5.0"}


def test_features_of_processors(tmp_path: Path) -> None:
    texts = {
        "x86": "processor\t: 0\nflags\t\t: fpu sse4_2 avx2 hypervisor avx512f fma\nbugs\t: none\n",
        "arm": "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n",
        "none": "",
    }
    found = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        found[name] = processor_features(tmp_path / name).partition(" ")[2]
    assert found == {"x86": "avx2 avx512f fma sse4_2", "arm": "asimd asimddp fp i8mm", "none": ""}
    assert processor_features(tmp_path / "missing") == processor_features(tmp_path / "none")


def test_hashes_do_not_depend_on_the_order_of_names() -> None:
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1}) != hash_of({"a": 1, "b": 3})
