"""The fixed pictures of other things are there, and are what data/README.md says."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.conftest import PROJECT

FOLDER = PROJECT / "data" / "strangers"
FILES = sorted(FOLDER.iterdir())
_NEAR = 8  # of 64 bits


def test_there_are_enough_and_they_are_small() -> None:
    assert len(FILES) >= 150
    assert sum(path.stat().st_size for path in FILES) <= 6_000_000


def test_each_is_a_picture_of_a_phones_shape() -> None:
    for path in FILES:
        with Image.open(path) as picture:
            assert picture.size in ((320, 240), (240, 320)), path


def test_the_provenance_of_each_is_written_down() -> None:
    section = (PROJECT / "data" / "README.md").read_text(encoding="utf-8").split("### `strangers/`")[1]
    rows = [line for line in section.split("\n### ")[0].splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+\.jpg)`", row.split("|")[1])]
    assert sorted(named) == [path.name for path in FILES]
    assert all(cell.strip() for row in rows for cell in row.strip("|").split("|"))


def test_none_is_a_calibration_picture() -> None:
    calibration = {path.name: _hash(path) for path in (PROJECT / "data" / "calibration").glob("*.jpg")}
    strangers = {path.name: _hash(path) for path in FILES}
    near = [
        (name, other)
        for name, found in strangers.items()
        for other, known in calibration.items()
        if np.count_nonzero(found != known) < _NEAR
    ]
    assert not near


def _hash(path: Path) -> npt.NDArray[np.bool_]:
    """Return which of 8 x 8 areas are brighter than their neighbour to the left."""
    with Image.open(path) as picture:
        grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), int)
    brighter: npt.NDArray[np.bool_] = (grey[:, 1:] > grey[:, :-1]).ravel()
    return brighter
