"""Stage `split`: decides which takes are for training, validation and test.

Reads the names and contents of data/videos and data/photos; writes data/splits.csv.
The split is by take, never by frame: neighbouring frames of one video are near-copies, and a model scored on neighbours
of what it was trained on looks far better than it is.
"""

import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from pipeline.config.application import run_stage
from pipeline.config.split import SplitConfig, SplitStage
from pipeline.errors import PipelineError, combine
from pipeline.files import layout
from pipeline.files.suffixes import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from pipeline.takes.assignment import MIN_TAKES, assign_takes
from pipeline.takes.sources import Source, sha256_of_source, sources_below
from pipeline.takes.splits import TEST, TRAIN, VALIDATION, Block, write_splits


def split(config: SplitStage) -> None:
    """Find all takes, assign them to parts, write the split file."""
    sources = find_sources(layout.VIDEOS, layout.PHOTOS)
    hashes = {source: sha256_of_source(source.path) for source in tqdm(sources, "split", unit="take", disable=None)}
    refuse_twins(hashes)
    blocks: list[Block] = []
    for label in sorted({source.label for source in sources}):
        blocks += blocks_of_label([source for source in sources if source.label == label], hashes, config.split)
    write_splits(layout.SPLITS, blocks)
    _report(blocks)


def find_sources(videos: Path, photos: Path) -> list[Source]:
    """List the takes below both folders, sorted by label and name.

    Raises:
        PipelineError: If there are no takes, one label only, a label without takes, labels that differ only in case, a
            file outside a label's folder, or a file that is neither video nor photo.
    """
    sources = sources_below(videos, VIDEO_SUFFIXES) + sources_below(photos, PHOTO_SUFFIXES)
    labels = sorted({source.label for source in sources})
    if not labels:
        raise PipelineError(
            found=f"no videos in {videos}/ and no photos in {photos}/",
            expected="a folder for each label, with takes in it",
            remedy=f"put videos into {videos}/<label>/, at least two labels with three takes each",
        )
    if len(labels) == 1:
        raise PipelineError(
            found=f"one label only: {labels[0]}",
            expected="at least two labels, since a classifier tells things apart",
            remedy=f"film something else, or just the background, into {videos}/<another label>/",
        )
    _refuse_alike("labels", labels)
    for label in labels:
        _refuse_alike(f"takes of label '{label}'", [source.name for source in sources if source.label == label])
    return sorted(sources, key=lambda source: (source.label, source.name))


def refuse_twins(hashes: Mapping[Source, str]) -> None:
    """Raise PipelineError if one content appears twice: it would be trained on and tested on, or bear two labels."""
    counts = Counter(hashes.values())
    errors = []
    for digest in [digest for digest, count in counts.items() if count > 1]:
        twins = [str(source.path) for source, other in hashes.items() if other == digest]
        errors.append(
            PipelineError(
                found=f"the same content more than once: {', '.join(twins)}",
                expected="each take once, under one label",
                remedy="delete all but one of them",
            )
        )
    if errors:
        raise combine(errors, "takes")


def blocks_of_label(sources: Sequence[Source], hashes: Mapping[Source, str], config: SplitConfig) -> list[Block]:
    """Assign the takes of one label: whole ones where there are enough, consecutive time blocks of each otherwise."""
    if len(sources) < MIN_TAKES:
        return _cut_into_blocks(sources, hashes, config)
    parts = assign_takes(
        sources[0].label,
        [source.name for source in sources],
        validation_percent=config.validation_percent,
        test_percent=config.test_percent,
    )
    return [_block(source, hashes[source], parts[source.name], 0.0, 1.0) for source in sources]


def _cut_into_blocks(sources: Sequence[Source], hashes: Mapping[Source, str], config: SplitConfig) -> list[Block]:
    """Cut each take into train, validation and test, with a gap between, and say that this is weaker."""
    label = sources[0].label
    if any(source.path.suffix.lower() in PHOTO_SUFFIXES and source.path.is_file() for source in sources):
        raise PipelineError(
            found=f"label '{label}' has only {len(sources)} take(s), and a single photo cannot be cut",
            expected=f"at least {MIN_TAKES} takes a label",
            remedy=f"add photos to {sources[0].path.parent}/",
        )
    sys.stderr.write(
        f"split: label '{label}' has only {len(sources)} take(s): each is cut into train, validation and test blocks. "
        f"Test frames then come from recordings that were trained on, so the accuracy of '{label}' looks better than "
        f"it is; film at least {MIN_TAKES} takes.\n"
    )
    test_start = 1 - config.test_percent / 100
    gap = config.block_gap_percent / 100
    validation_end = test_start - gap
    validation_start = validation_end - config.validation_percent / 100
    spans = {
        TRAIN: (0.0, validation_start - gap),
        VALIDATION: (validation_start, validation_end),
        TEST: (test_start, 1.0),
    }
    return [
        _block(source, hashes[source], part, round(start, 6), round(end, 6))
        for source in sources
        for part, (start, end) in spans.items()
    ]


def _block(source: Source, sha256: str, part: str, start: float, end: float) -> Block:
    return Block(source.label, source.name, source.path.as_posix(), sha256, part, start, end)


def _refuse_alike(what: str, names: Sequence[str]) -> None:
    """Raise PipelineError if two names are the same but for case or for how accents are encoded."""
    seen: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen:
            raise PipelineError(
                found=f"{what} that differ only in case: '{seen[folded]}' and '{name}'",
                expected="names that differ in more, since many file systems (and people) take these for one",
                remedy="merge or rename them",
            )
        seen[folded] = name


def _report(blocks: Sequence[Block]) -> None:
    """Say how many takes each part has."""
    counts = Counter(block.part for block in blocks)
    num_labels = len({block.label for block in blocks})
    sys.stderr.write(
        f"split: {num_labels} labels; {counts[TRAIN]} takes to train, {counts[VALIDATION]} to validate, "
        f"{counts[TEST]} to test\n"
    )


def main() -> None:
    """Run the stage from the command line."""
    run_stage("split", SplitStage, split)


if __name__ == "__main__":
    main()
