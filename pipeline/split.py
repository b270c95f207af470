"""Stage `split`: decides which takes are for training, validation and test.

Reads the names and contents of data/videos and data/photos, and to refuse mistakes early data/labels.csv; writes
data/splits.csv.
The split is by take, never by frame: neighbouring frames of one video are near-copies, and a model scored on neighbours
of what it was trained on looks far better than it is.
"""

import fnmatch
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from pipeline.config.application import run_stage
from pipeline.config.split import SplitConfig, SplitStage
from pipeline.errors import InputError, PipelineError, combine
from pipeline.files import layout
from pipeline.files.main_project import outside_experiments
from pipeline.files.suffixes import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from pipeline.processes.progress import counted
from pipeline.takes.answers import read_answers, unlisted_heads
from pipeline.takes.assignment import MIN_TAKES, assign_takes, recordings_of
from pipeline.takes.contents import Content, files_of, read_contents, refuse_twins
from pipeline.takes.sources import Source, find_sources, hidden_pictures, sources_below
from pipeline.takes.splits import FOLDERS_OF_PARTS, NONE, TEST, TRAIN, VALIDATION, Block, write_splits

_MAX_NAMED = 5  # takes in one line


def split(config: SplitStage) -> None:
    """Find all takes, assign them to parts, write the split file.

    Raises:
        InputError: If a file or a folder is no take or part of one, the labels are parts of a data set, a content
            stands in two takes, the takes of a label cannot be split, or data/labels.csv does not fit the takes.
    """
    sources = find_sources(layout.VIDEOS, layout.PHOTOS)
    refuse_parts(sources)
    files = files_of(sources)
    for path in hidden_pictures(layout.VIDEOS, layout.PHOTOS):
        sys.stderr.write(f"split: {path} is hidden, as its name begins with a dot, and not used\n")
    _tell_left_behind(sources, outside_experiments(Path.cwd()))
    contents = read_contents(counted(files, "split", total=len(files), unit="file"))
    refuse_twins(contents)
    refuse_unknown_tests(contents, config.split)
    blocks = blocks_of_all(contents, config.split)
    read_answers(layout.LABELS, config.heads, {block.name for block in blocks})
    for head in unlisted_heads(layout.LABELS, config.heads):
        sys.stderr.write(f"split: {layout.LABELS} has rows of `{head}`, which `heads` in params.yaml does not list\n")
    write_splits(layout.SPLITS, blocks)
    _tell_repeated(contents)
    sys.stderr.write(report(blocks))


def refuse_parts(sources: Sequence[Source]) -> None:
    """Raise InputError if the labels are the parts of a data set that was split already."""
    parts = sorted({source.label for source in sources if source.label.casefold() in FOLDERS_OF_PARTS})
    if len(parts) > 1:
        raise InputError(
            found=f"labels called {' and '.join(parts)}: these look like the parts of a data set, not like things",
            expected="a folder for each label",
            remedy="move the data set out of data/, then: viewfinder import <its folder>",
        )


def blocks_of_all(contents: Mapping[Source, Content], config: SplitConfig) -> list[Block]:
    """Assign the takes of all labels; all labels whose takes cannot be split are told at once."""
    blocks, errors = list[Block](), list[PipelineError]()
    for label in sorted({source.label for source in contents}):
        of_label = {source: content for source, content in contents.items() if source.label == label}
        try:
            blocks += blocks_of_label(of_label, config)
        except InputError as error:
            errors.append(error)
    if errors:
        raise combine(errors, "labels")
    return blocks


def blocks_of_label(contents: Mapping[Source, Content], config: SplitConfig) -> list[Block]:
    """Assign the takes of one label: whole ones where there are enough, consecutive time blocks of each otherwise.

    Those of `NONE` are all for training: it has no row in the figures of the test part.
    """
    sources = list(contents)
    if sources[0].label == NONE:
        return [_block(source, contents[source], TRAIN, 0.0, 1.0) for source in sources]
    recordings = recordings_of(source.name for source in sources)
    if len(set(recordings.values())) < MIN_TAKES:
        return _cut_into_blocks(contents, config)
    parts = assign_takes(
        sources[0].label,
        dict.fromkeys(recordings.values()),
        validation_percent=config.validation_percent,
        test_percent=config.test_percent,
        chosen_for_test=_chosen_for_test(sources, config),
    )
    return [_block(source, contents[source], parts[recordings[source.name]], 0.0, 1.0) for source in sources]


def _chosen_for_test(sources: Sequence[Source], config: SplitConfig) -> list[str]:
    """Return the takes of a label that params.yaml names for testing.

    Raises:
        InputError: If fewer than two others are left.
    """
    recordings = recordings_of(source.name for source in sources)
    named = [source.name for source in sources if _is_named(f"{source.label}/{source.name}", config.test)]
    chosen = list(dict.fromkeys(recordings[name] for name in named))
    if chosen and len(set(recordings.values())) - len(chosen) < MIN_TAKES - 1:
        raise InputError(
            found=f"label '{sources[0].label}' has {len(sources)} takes, of which `split.test` names {len(chosen)}",
            expected=f"at least {MIN_TAKES - 1} others, to train and to choose by",
            remedy="film more takes of it, or name fewer in params.yaml",
        )
    return chosen


def refuse_unknown_tests(contents: Mapping[Source, Content], config: SplitConfig) -> None:
    """Raise InputError if `split.test` names what is no take, or one of a label whose takes are cut into blocks."""
    num_takes = Counter(source.label for source in contents)
    names = {f"{source.label}/{source.name}": source.label for source in contents}
    errors = []
    for name in _normalized(config.test):
        if name.partition("/")[0] == NONE:
            errors.append(
                InputError(
                    found=f"`split.test` names {name}, which shows none of the labels",
                    expected="takes of labels: what is none of them is held out by cross-validation alone",
                    remedy="leave it out in params.yaml",
                )
            )
        elif not fnmatch.filter(names, _literal(name)):
            near = get_close_matches(name, names, n=3)
            meant = f"did you mean {' or '.join(near)}? " if near else ""
            errors.append(
                InputError(
                    found=f"`split.test` names {name}, which is no take",
                    expected="takes as label/file or label/folder, below data/videos or data/photos",
                    remedy=f"{meant}correct it in params.yaml",
                )
            )
        elif name in names and num_takes[names[name]] < MIN_TAKES:
            errors.append(
                InputError(
                    found=f"`split.test` names {name}, whose label has only {num_takes[names[name]]} take(s)",
                    expected=f"labels with at least {MIN_TAKES} takes: of fewer, each is cut into blocks",
                    remedy="film more takes of it, or do not name it in params.yaml",
                )
            )
    if errors:
        raise combine(errors, "test takes")


def _is_named(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a take is named, itself or by a pattern in which `*` stands for anything."""
    return any(fnmatch.fnmatchcase(name, _literal(pattern)) for pattern in _normalized(patterns))


def _literal(pattern: str) -> str:
    """Return a pattern for `fnmatch` in which `*` alone is special: names may hold brackets and question marks."""
    return re.sub(r"([\[?])", r"[\1]", pattern)


def _normalized(names: Iterable[str]) -> list[str]:
    return [unicodedata.normalize("NFC", name) for name in names]


def _cut_into_blocks(contents: Mapping[Source, Content], config: SplitConfig) -> list[Block]:
    """Cut each take into train, validation and test, with a gap between, and say that this is weaker."""
    label = next(iter(contents)).label
    _refuse_uncuttable(label, contents)
    sys.stderr.write(
        f"split: label '{label}' has only {len(contents)} take(s): each is cut into train, validation and test blocks. "
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
        _block(source, content, part, round(start, 6), round(end, 6))
        for source, content in contents.items()
        for part, (start, end) in spans.items()
    ]


def _refuse_uncuttable(label: str, contents: Mapping[Source, Content]) -> None:
    """Raise InputError if a cut would be impossible, or would put one content into two parts."""
    few = f"label '{label}' has only {len(contents)} take(s)"
    for source, content in contents.items():
        if not content.is_folder and source.path.suffix.lower() in PHOTO_SUFFIXES:
            raise InputError(
                found=f"{few}, and a single photo cannot be cut",
                expected=f"at least {MIN_TAKES} takes a label",
                remedy=f"add photos to {source.path.parent}/",
            )
        if content.repeated:
            raise InputError(
                found=f"{few}, so {source.path}/ must be cut, but it holds photos more than once: "
                f"{_listed(content.repeated)}",
                expected=f"at least {MIN_TAKES} takes a label, or each photo once, since none may come into two parts",
                remedy="delete all but one of them",
            )


def _block(source: Source, content: Content, part: str, start: float, end: float) -> Block:
    return Block(source.label, source.name, source.path.as_posix(), content.sha256, part, start, end)


def _tell_left_behind(sources: Sequence[Source], project: Path | None) -> None:
    """Tell which takes of a project are not in the checkout in which DVC runs an experiment of it."""
    if project is None:
        return
    there = list[Source]()
    with suppress(InputError):  # the project's own run tells what is wrong there
        there += sources_below(project / layout.VIDEOS, VIDEO_SUFFIXES)
        there += sources_below(project / layout.PHOTOS, PHOTO_SUFFIXES)
    paths = {source.path.relative_to(project) for source in there} - {source.path for source in sources}
    lacking = sorted(map(str, paths))
    if lacking:
        more = f" and {len(lacking) - _MAX_NAMED} more" if len(lacking) > _MAX_NAMED else ""
        sys.stderr.write(
            f"split: {', '.join(lacking[:_MAX_NAMED])}{more} {'is' if len(lacking) == 1 else 'are'} not in this "
            f"experiment: DVC took what Git or DVC tracks in {project} (git add, dvc add), and no other files\n"
        )


def _tell_repeated(contents: Mapping[Source, Content]) -> None:
    """Warn of photos that a folder holds twice: a folder that is not cut keeps them in one part, but counts them twice.

    They are not refused, as a repetition may be meant: it is how a photo is made to weigh more.
    """
    for source, content in contents.items():
        if content.repeated:
            sys.stderr.write(
                f"split: {source.path}/ holds photos more than once, and each counts as often as it is there: "
                f"{_listed(content.repeated)}\n"
            )


def _listed(groups: Iterable[Iterable[Path]]) -> str:
    return "; ".join(" = ".join(path.name for path in paths) for paths in groups)


def report(blocks: Sequence[Block]) -> str:
    """Return how many takes each part has, over all labels and in a row for each."""
    whole = [block for block in blocks if block.is_whole]
    num_cut = Counter(label for label, _ in {(block.label, block.take) for block in blocks if not block.is_whole})
    labels = sorted({block.label for block in blocks}, key=lambda label: (label == NONE, label))
    width = max(len(label) for label in ["label", *labels])
    lines = [f"  {'label':<{width}}  train  validation  test"]
    for label in labels:
        of_label = Counter(block.part for block in whole if block.label == label)
        row = f"{of_label[TRAIN]:>5}  {of_label[VALIDATION]:>10}  {of_label[TEST]:>4}"
        lines.append(f"  {label:<{width}}  {f'{num_cut[label]} each cut into blocks' if num_cut[label] else row}")
    num_labels = len(labels) - (NONE in labels)
    return "\n".join([f"split: {num_labels} labels; {_total(whole, num_cut.total())}", *lines, ""])


def _total(whole: Sequence[Block], num_cut: int) -> str:
    """Return how many takes there are for each part, and how many are cut into blocks for all of them."""
    counts = Counter(block.part for block in whole)
    parts = f"{counts[TRAIN]} takes to train, {counts[VALIDATION]} to validate, {counts[TEST]} to test"
    cut = f"{num_cut} {'takes' if num_cut > 1 else 'take'} each cut into blocks for all three"
    return "; ".join([parts] * bool(whole) + [cut] * bool(num_cut))


def main() -> None:
    """Run the stage from the command line."""
    run_stage("split", SplitStage, split)


if __name__ == "__main__":
    main()
