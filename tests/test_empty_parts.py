"""Whoever reads takes bears any blocks and any length: a part without frames, a table without rows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.evaluate import EvaluateStage
from pipeline.errors import InputError, PipelineError
from pipeline.evaluate import evaluate
from pipeline.files import layout, sha256_of_file, write_bytes
from pipeline.frames import check_parts
from pipeline.heads.held_out import held_out_frames
from pipeline.images.codec import decode_jpeg, encode_jpeg
from pipeline.per_take.augment import augment_take
from pipeline.per_take.bottlenecks import FeatureExtractor
from pipeline.per_take.feature_jobs import feature_jobs
from pipeline.takes.examples import Examples
from pipeline.takes.rows import read_rows
from pipeline.takes.splits import PARTS, TEST, TRAIN, VALIDATION, Block, Take, labels_of, write_splits
from pipeline.takes.tables import AUGMENTED, FRAMES, bottlenecks_schema, to_parquet
from pipeline.takes.train_sample import sample_train_frames
from pipeline.tuning.inputs import frozen_features, pictures
from tests import tiny_models, tiny_project
from tests.test_augment import NOTHING
from tests.test_evaluate import CONFIG
from tests.test_splits import indices_by_definition

BOTTLENECKS = Path("data/bottlenecks/float32")
NUM_PIXELS = 4


@dataclass(frozen=True)
class Tables:
    """Takes with the number of frames that each has; take t's frame i is grey 40 t + 4 i, its copy 100 more."""

    takes: list[Take]
    lengths: list[int]

    def frames_of(self, part: str) -> list[tuple[int, int]]:
        """Return take and frame of each frame of a part, in order."""
        numbered = enumerate(zip(self.takes, self.lengths, strict=True))
        return [(t, i) for t, (take, length) in numbered for i in indices_by_definition(take, part, length)]

    def rows_of_blocks(self, number: int) -> list[tuple[int, str, str, int]]:
        """Return grey, label, part and copy of the rows of each block of a take: its frames, then their copies."""
        take, length, rows = self.takes[number], self.lengths[number], []
        for block in take.blocks:
            alone = Take(take.label, take.name, take.path, "", (block,))
            greys = [40 * number + 4 * i for i in indices_by_definition(alone, block.part, length)]
            rows += [(grey + 100 * copy, take.label, block.part, copy) for copy in (0, 1) for grey in greys]
        return rows

    def rows_of(self, part: str) -> list[tuple[int, str]]:
        """Return grey and label of a part's frames and, to train on, their copies, take by take."""
        rows = []
        for number, take in enumerate(self.takes):
            greys = [40 * t + 4 * i for t, i in self.frames_of(part) if t == number]
            rows += [(grey, take.label) for grey in greys + [grey + 100 for grey in greys if part == TRAIN]]
        return rows


EDGES = st.sampled_from([0.0, 0.2, 0.5, 0.55, 0.8, 1.0])
SPANS = st.lists(st.tuples(st.sampled_from(PARTS), EDGES, EDGES), min_size=1, max_size=3)


@st.composite
def tables(draw: st.DrawFn) -> Tables:
    drawn = draw(st.lists(st.tuples(SPANS, st.integers(0, 6)), min_size=1, max_size=3))
    takes = [take_of(number, "cup" if number % 2 else "pen", spans) for number, (spans, _) in enumerate(drawn)]
    return Tables(takes, [length for _, length in drawn])


def take_of(number: int, label: str, spans: Sequence[tuple[str, float, float]]) -> Take:
    name = f"{number}.mp4"
    return Take(label, name, Path(name), "", tuple(Block(label, name, name, "", *span) for span in spans))


@contextmanager
def written(tables_of: Tables) -> Iterator[None]:
    """Write what the stages `frames`, `augment` and `bottlenecks` would, into an empty folder, and go there."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, (take, length) in enumerate(zip(tables_of.takes, tables_of.lengths, strict=True)):
            write(take, "frames", [40 * number + 4 * i for i in range(length)])
            copied = sorted({i for part in PARTS for i in indices_by_definition(take, part, length)})
            write(take, "augmented", [40 * number + 4 * i + 100 for i in copied])
        yield


def write(take: Take, kind: str, greys: list[int]) -> None:
    """Write flat pictures of these greys, and as their bottlenecks the grey and a zero."""
    images = [encode_jpeg(np.full((6, 8, 3), grey, np.uint8), quality=95) for grey in greys]
    ids = [str(grey if kind == "frames" else grey - 100) for grey in greys]
    times = [0.25 * i for i in range(len(greys))]
    if kind == "frames":
        write_bytes(layout.FRAMES / take.table, to_parquet(pa.table([ids, times, images], schema=FRAMES)))
    else:
        copies = pa.table([ids, [1] * len(ids), times, images], schema=AUGMENTED)
        write_bytes(layout.AUGMENTED / take.table, to_parquet(copies))
    features = pa.table(
        [ids, [int(kind != "frames")] * len(ids), times, [[grey, 0] for grey in greys]], schema=bottlenecks_schema(2)
    )
    write_bytes(BOTTLENECKS / kind / take.table, to_parquet(features))


@given(tables(), st.integers(0, 2))
@settings(max_examples=40)
def test_augment(found: Tables, copies: int) -> None:
    config = replace(NOTHING, copies=copies)
    with written(found):
        made = [
            augment_take(take, sha256_of_file(layout.FRAMES / take.table), config).read_all() for take in found.takes
        ]
    assert all(table.schema.equals(AUGMENTED) for table in made)
    ids = [frame_id for table in made for frame_id in table["frame_id"].to_pylist()]
    used = sorted({frame for part in PARTS for frame in found.frames_of(part)})
    assert ids == [str(40 * t + 4 * i) for t, i in used for _ in range(copies)]


def check(read: Callable[[], Examples], found: Tables, part: str) -> None:
    """Compare what is read, whose first number is the grey, with a part's frames; without any there is a refusal."""
    rows = found.rows_of(part)
    if not rows:
        with pytest.raises(InputError, match="a part without a single frame"):
            read()
        return
    examples = read()
    firsts = np.asarray(examples.features).reshape(len(rows), -1)[:, 0]
    assert np.abs(firsts.astype(int) - [grey for grey, _ in rows]).max() <= 1
    assert [labels_of(found.takes)[index] for index in examples.label_indices] == [label for _, label in rows]


@given(tables())
@settings(max_examples=40)
def test_the_rows_that_heads_are_trained_on(found: Tables) -> None:
    every = [row for take in range(len(found.takes)) for row in found.rows_of_blocks(take)]
    trained = {found.takes[t].label for part in (TRAIN, VALIDATION) for t, _ in found.frames_of(part)}
    with written(found):
        if trained != set(labels_of(found.takes)):
            with pytest.raises(InputError, match="without a single frame to train on"):
                read_rows(BOTTLENECKS, found.takes)
            return
        rows = read_rows(BOTTLENECKS, found.takes)
    shown = zip(rows.features[:, 0], rows.label_indices, rows.unit_indices, rows.copies, strict=True)
    assert [(int(grey), rows.labels[label], rows.units[unit].part, copy) for grey, label, unit, copy in shown] == every


@given(tables(), st.sampled_from([TRAIN, VALIDATION]))
@settings(max_examples=40)
def test_what_the_frozen_part_makes(found: Tables, part: str) -> None:
    with written(found):
        check(lambda: frozen_features(BOTTLENECKS, found.takes, part, (1, 2)), found, part)


@given(tables(), st.sampled_from([TRAIN, VALIDATION]))
@settings(max_examples=40)
def test_the_pictures_of_a_backbone_that_is_tuned_as_a_whole(found: Tables, part: str) -> None:
    with written(found):
        check(lambda: pictures(found.takes, part, NUM_PIXELS, "stretch", Path()), found, part)


@given(tables())
@settings(max_examples=40)
def test_the_frames_that_models_are_scored_on(found: Tables) -> None:
    with written(found):
        frames = list(held_out_frames(found.takes))
        assert [frame.frame_id for frame in frames] == [str(40 * t + 4 * i) for t, i in found.frames_of(TEST)]
        assert [frame.label for frame in frames] == [found.takes[t].label for t, _ in found.frames_of(TEST)]
        assert all(decode_jpeg(frame.image).shape == (6, 8, 3) for frame in frames)


def test_nothing_to_score_on(folder: Path) -> None:
    take = take_of(0, "cup", [(TRAIN, 0, 1)])
    with written(Tables([take], [3])):
        write_splits(layout.SPLITS, take.blocks)
        with pytest.raises(InputError, match="no test frame in data/frames/"):
            evaluate(EvaluateStage("float32", "stretch", tiny_project.BACKBONE.name, CONFIG))


@given(tables())
@settings(max_examples=40)
def test_bottlenecks(found: Tables) -> None:
    extractor = FeatureExtractor(tiny_models.backbone(), "stretch")
    with written(found):
        num_rows = {job.output: job.compute().read_all().num_rows for job in feature_jobs(found.takes, extractor)}
    for take, length in zip(found.takes, found.lengths, strict=True):
        assert num_rows.get(Path("frames") / take.table, length) == length
        copied = {i for part in PARTS for i in indices_by_definition(take, part, length)}
        assert num_rows.get(Path("augmented") / take.table) == len(copied)


@given(tables(), st.integers(1, 10))
@settings(max_examples=40)
def test_the_sample_that_is_calibrated_on(found: Tables, num_frames: int) -> None:
    names = {f"{found.takes[t].label}/{found.takes[t].name}:{40 * t + 4 * i}" for t, i in found.frames_of(TRAIN)}
    with written(found):
        if not names:
            with pytest.raises(InputError, match="no train frame in data/frames/"):
                sample_train_frames(found.takes, layout.FRAMES, num_frames)
            return
        sample = [
            f"{frame.take}:{frame.frame_id}" for frame in sample_train_frames(found.takes, layout.FRAMES, num_frames)
        ]
    assert len(sample) == len(set(sample)) == min(num_frames, len(names))
    assert set(sample) <= names


@given(tables())
@settings(max_examples=40)
def test_frames_tells_which_label_lacks_a_part(found: Tables) -> None:
    held = {(found.takes[t].label, part) for part in PARTS for t, _ in found.frames_of(part)}
    with written(found):
        if len(held) == len(PARTS) * len(labels_of(found.takes)):
            check_parts(found.takes)
        else:
            with pytest.raises(PipelineError, match=r"label '(cup|pen)' has no (train|validation|test) frames"):
                check_parts(found.takes)
