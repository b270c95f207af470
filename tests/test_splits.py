"""Which frames of a take belong to which part, for any blocks and any length."""

from itertools import chain, cycle, pairwise
from pathlib import Path

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.config.split import SplitConfig
from pipeline.split import blocks_of_label
from pipeline.takes.contents import Content
from pipeline.takes.sources import Source
from pipeline.takes.splits import PARTS, Block, Take

LENGTHS = st.integers(0, 400)
EDGES = st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 0.55, 0.75, 0.8, 1.0])
BLOCKS = st.lists(st.builds(Block, *[st.just("")] * 4, st.sampled_from(PARTS), EDGES, EDGES), max_size=6)
PERCENT = st.floats(1, 90) | st.integers(1, 90)


def take_of(blocks: list[Block]) -> Take:
    return Take("cup", "1.mp4", Path("1.mp4"), "", tuple(blocks))


def indices_by_definition(take: Take, part: str, num_frames: int) -> list[int]:
    """Tell frame by frame: its middle lies in a block of the part."""
    return [
        index
        for index in range(num_frames)
        if any(block.part == part and block.start <= (index + 0.5) / num_frames < block.end for block in take.blocks)
    ]


@given(BLOCKS, LENGTHS, st.sampled_from(PARTS))
def test_indices_are_those_of_the_definition(blocks: list[Block], num_frames: int, part: str) -> None:
    indices = take_of(blocks).indices_of_part(part, num_frames)
    assert indices.dtype == np.int64
    assert indices.tolist() == indices_by_definition(take_of(blocks), part, num_frames)


@given(PERCENT, PERCENT, st.floats(0, 20) | st.sampled_from([0, 5]), LENGTHS)
def test_parts_of_a_cut_take_are_disjoint_and_complete_but_for_the_gaps(
    validation: float, test: float, gap: float, num_frames: int
) -> None:
    assume(validation + test + 2 * gap <= 95)
    contents = {Source("cup", Path("1.mp4")): Content({Path("1.mp4"): "0"}, is_folder=False)}
    take = take_of(blocks_of_label(contents, SplitConfig(validation, test, gap, [])))
    indices = np.concatenate([take.indices_of_part(part, num_frames) for part in PARTS])
    assert np.all(np.diff(indices) > 0)  # in the order of time, and none twice
    missing_percent = (np.setdiff1d(np.arange(num_frames), indices) + 0.5) / max(num_frames, 1) * 100
    ends = [(100 - test - gap, 100 - test), (100 - test - gap - validation - gap, 100 - test - gap - validation)]
    in_a_gap = [any(low - 1e-3 <= percent <= high + 1e-3 for low, high in ends) for percent in missing_percent]
    assert all(in_a_gap)
    assert len(missing_percent) >= sum(max(0, int((high - low) / 100 * num_frames) - 1) for low, high in ends)


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.25, 0.5, 0.75])), st.lists(st.sampled_from(PARTS)), LENGTHS)
def test_blocks_that_share_their_ends_give_each_frame_to_one_part(
    cuts: list[float], parts: list[str], num_frames: int
) -> None:
    spans = pairwise(sorted({0.0, *cuts, 1.0}))
    blocks = [Block("", "", "", "", part, *span) for part, span in zip(chain(parts, cycle(PARTS)), spans, strict=False)]
    found = [take_of(blocks).indices_of_part(part, num_frames).tolist() for part in PARTS]
    assert sorted(chain(*found)) == list(range(num_frames))


@given(LENGTHS)
def test_a_whole_take_is_in_one_part(num_frames: int) -> None:
    take = take_of([Block("cup", "1.mp4", "1.mp4", "", "validation", 0.0, 1.0)])
    assert [len(take.indices_of_part(part, num_frames)) for part in PARTS] == [0, num_frames, 0]
