"""No content stands in two takes, and a take's hash is what it always was."""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.takes import contents as contents_module
from pipeline.takes.contents import Content, files_of, read_contents, refuse_twins, sha256_of_source
from pipeline.takes.sources import Source


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def write(root: Path, tree: dict[str, str]) -> list[Source]:
    """Write files and return their takes: "<label>/<file>" or "<label>/<folder>/<file>"."""
    for name, content in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    names = sorted({"/".join(name.split("/")[:2]) for name in tree})
    return [Source(name.split("/")[0], root / name) for name in names]


def refusal(root: Path, tree: dict[str, str]) -> str:
    with pytest.raises(InputError) as caught:
        refuse_twins(read_contents(files_of(write(root, tree))))
    return str(caught.value).replace(f"{root}/", "")


def test_the_hash_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    for source in write(tmp_path, {"cup/1.mp4": "a", "cup/desk/b.jpg": "b", "cup/desk/c.jpg": "c"}):
        expected = sha256("a") if source.name == "1.mp4" else sha256(sha256("b") + sha256("c"))
        assert sha256_of_source(source.path) == expected


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Counter[str]()

    def counting(path: Path) -> str:
        reads[path.name] += 1
        return sha256(path.read_text())

    monkeypatch.setattr(contents_module, "sha256_of_file", counting)
    contents = read_contents(
        files_of(write(tmp_path, {"cup/1.mp4": "a", "cup/desk/b.jpg": "b", "cup/desk/c.jpg": "c"}))
    )
    refuse_twins(contents)
    assert len({content.sha256 for content in contents.values()}) == 2
    assert reads == {"1.mp4": 1, "b.jpg": 1, "c.jpg": 1}


@pytest.mark.parametrize(
    "names",
    [
        ["mug/a.jpg", "mug/b.jpg"],
        ["mug/a.jpg", "mug/desk/a.jpg", "mug/floor/a.jpg"],
        ["cup/desk/a.jpg", "mug/a.jpg"],
        ["cup/desk/a.jpg", "cup/floor/b.jpg"],
        ["cup/1.mp4", "mug/a.jpg"],
    ],
)
def test_one_content_in_several_takes(tmp_path: Path, names: list[str]) -> None:
    message = refusal(tmp_path, dict.fromkeys(names, "same") | {"cup/other.jpg": "other", "cup/desk/other.jpg": "more"})
    assert message.startswith(f"the same content more than once: {', '.join(names)}\n")


def test_takes_that_share_much_are_told_once_and_others_beside_them(tmp_path: Path) -> None:
    tree = {f"cup/{take}/{i}.jpg": str(i) for take in ("desk", "floor") for i in range(4)}
    message = refusal(tmp_path, tree | {"cup/a.jpg": "x", "mug/a.jpg": "x"})
    assert message.startswith("2 groups of takes cannot be used:\n")
    assert "- the same content more than once: cup/desk/0.jpg, cup/floor/0.jpg, and 3 more that they share\n" in message
    assert "- the same content more than once: cup/a.jpg, mug/a.jpg\n" in message


FILES = st.sampled_from(
    [f"{label}/{take}" for label in "ab" for take in ("1.mp4", "x.jpg", "d/1.jpg", "d/2.jpg", "e/1.jpg")]
)


@given(st.dictionaries(FILES, st.sampled_from("uvwxyz"), min_size=1, max_size=10))
def test_refused_exactly_if_a_content_is_in_two_takes(tree: dict[str, str]) -> None:
    held = {("/".join(name.split("/")[:2]), content) for name, content in tree.items()}
    is_twin = max(Counter(content for _, content in held).values()) > 1
    with tempfile.TemporaryDirectory() as folder:
        contents = read_contents(files_of(write(Path(folder), tree)))
    if is_twin:
        with pytest.raises(InputError, match="the same content more than once"):
            refuse_twins(contents)
    else:
        refuse_twins(contents)


def test_files_that_cannot_be_read_are_all_named(tmp_path: Path) -> None:
    sources = write(tmp_path, {"cup/1.mp4": "a", "cup/2.mp4": "b", "cup/3.mp4": "c"})
    files = files_of(sources)
    for name in ("1.mp4", "3.mp4"):
        (tmp_path / "cup" / name).unlink()
    with pytest.raises(
        InputError, match=r"2 files cannot be used:\n.*1.mp4 cannot be read \(No such.*\n.*3.mp4 cannot"
    ):
        read_contents(files)


def test_a_content_knows_what_it_repeats() -> None:
    files = {Path("a.jpg"): "1", Path("b.jpg"): "2", Path("c.jpg"): "1"}
    assert Content(files, is_folder=True).repeated == [[Path("a.jpg"), Path("c.jpg")]]
