"""Which take goes to which part: by hash, by take, and at least one take of each label in each part."""

import hashlib
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePath

from pipeline.files.suffixes import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from pipeline.takes.splits import PARTS, TEST, TRAIN, VALIDATION

MIN_TAKES = len(PARTS)


def assign_takes(
    label: str,
    names: Iterable[str],
    *,
    validation_percent: float,
    test_percent: float,
    chosen_for_test: Collection[str] = (),
) -> Mapping[str, str]:
    """Assign the takes of one label to parts.

    A take's place is a hash of its label and name, so it depends neither on where the project lies nor on the other
    takes. Validation lies at the lower end, test at the upper end, train between them. A part that would stay empty
    borrows the take whose place is nearest to it; so a new take moves no other as a rule, and one at most as long as
    two takes of the label have their own place in train. (With fewer, two can move: some sets of three and four takes
    admit no rule without a memory that does better.)

    Args:
        label: The label.
        names: At least `MIN_TAKES` different take names.
        validation_percent: Share of places for validation.
        test_percent: Share of places for test.
        chosen_for_test: Names that are for testing, and then no others are; at least two names must be left.

    Returns:
        The part of each name; every part has at least one.
    """
    names = list(names)
    if chosen_for_test:
        rest = _assigned(label, [name for name in names if name not in chosen_for_test], validation_percent, None)
        return {name: rest.get(name, TEST) for name in names}
    return _assigned(label, names, validation_percent, test_percent)


def _assigned(
    label: str, names: Iterable[str], validation_percent: float, test_percent: float | None
) -> Mapping[str, str]:
    """Assign takes by their places; without a share for test none is for testing."""
    places = {name: place_of(f"{label}/{name}") for name in names}
    order = sorted(places, key=lambda name: (places[name], name))
    num_own_validation = sum(place < validation_percent for place in places.values())
    num_for_others = 1 if test_percent is None else 2
    num_validation = min(max(num_own_validation, 1), len(order) - num_for_others)
    num_test = 0
    if test_percent is not None:
        num_own_test = sum(place >= 100 - test_percent for place in places.values())
        num_test = min(max(num_own_test, 1), len(order) - 1 - num_validation)
    num_train = len(order) - num_validation - num_test
    return dict(zip(order, [VALIDATION] * num_validation + [TRAIN] * num_train + [TEST] * num_test, strict=True))


def recordings_of(names: Iterable[str]) -> dict[str, str]:
    """Return for each take of a label the take that it goes with: a photo goes with the video of the same stem.

    Phones write IMG_3.JPG and IMG_3.MOV for one press of the button ("live" and "motion" photos). Held out apart, one
    would be scored by a model that has seen the other.
    """
    names = list(names)
    videos = {PurePath(name).stem.lower(): name for name in names if name.lower().endswith(VIDEO_SUFFIXES)}
    return {
        name: videos.get(PurePath(name).stem.lower(), name) if name.lower().endswith(PHOTO_SUFFIXES) else name
        for name in names
    }


def place_of(name: str) -> float:
    """Return a number in [0, 100) that depends on the name alone (Unicode NFC, so macOS and Linux agree)."""
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100
