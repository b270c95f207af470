from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.config.frames import FramesConfig, FramesStage
from pipeline.errors import InputError, PipelineError
from pipeline.files import layout, write_bytes
from pipeline.frames import frames
from pipeline.images.codec import decode_jpeg, encode_jpeg
from pipeline.per_take import frames as per_take_frames
from pipeline.per_take.equal_frames import flat_takes, refuse_equal_frames
from pipeline.takes.contents import sha256_of_source
from pipeline.takes.splits import Block, Take, write_splits
from pipeline.takes.tables import FRAMES, read_parquet, to_parquet
from tests import tiny_project
from tests.clips import solid, write_clip

CONFIG = FramesStage(frames=FramesConfig(per_second=5, width=32, jpeg_quality=95), engine=tiny_project.ENGINE)
EVERYWHERE = [("train", 0.0, 0.4), ("validation", 0.4, 0.7), ("test", 0.7, 1.0)]


def add(label: str, take: str, path: Path, spans: list[tuple[str, float, float]] = EVERYWHERE) -> list[Block]:
    return [Block(label, take, str(path), sha256_of_source(path), *span) for span in spans]


def clip(name: str, num_frames: int = 20) -> Path:
    path = Path(name)
    return write_clip(path, [solid((10 * i, 80, 80)) for i in range(num_frames)], rate=10)


def test_a_video_becomes_a_table_of_frames(folder: Path) -> None:
    write_splits(layout.SPLITS, add("cup", "a.mp4", clip("a.mp4")))
    frames(CONFIG)
    table = read_parquet(layout.FRAMES / "cup/a.mp4.parquet")
    assert table.schema.equals(FRAMES)
    assert table["pts_seconds"].to_pylist() == pytest.approx([i / 5 for i in range(10)])
    assert decode_jpeg(table["image"][0].as_py()).shape == (24, 32, 3)
    assert len(set(table["frame_id"].to_pylist())) == 10


def test_a_folder_of_photos_becomes_a_table_in_the_order_of_names(folder: Path) -> None:
    Path("desk").mkdir()
    for name, grey in (("b.png", 200), ("a.jpg", 20), ("c.webp", 90), (".hidden.jpg", 0)):
        Image.fromarray(np.full((48, 64, 3), grey, np.uint8)).save(Path("desk") / name)
    write_splits(layout.SPLITS, add("cup", "desk", Path("desk")))
    frames(CONFIG)
    table = read_parquet(layout.FRAMES / "cup/desk.parquet")
    greys = [int(decode_jpeg(image).mean().round()) for image in table["image"].to_pylist()]
    assert greys == [20, 200, 90]
    assert table["pts_seconds"].to_pylist() == [None] * 3


def test_renaming_a_take_computes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = add("cup", "a.mp4", clip("a.mp4"))
    write_splits(layout.SPLITS, blocks)
    frames(CONFIG)
    before = (layout.FRAMES / "cup/a.mp4.parquet").read_bytes()
    renamed = Path("a.mp4").rename("b.mp4")
    write_splits(layout.SPLITS, [Block("mug", "b.mp4", str(renamed), b.sha256, b.part, b.start, b.end) for b in blocks])
    frames(CONFIG)
    assert "0 takes computed, 1 reused" in capsys.readouterr().err
    assert (layout.FRAMES / "mug/b.mp4.parquet").read_bytes() == before
    assert not (layout.FRAMES / "cup").exists()


def test_every_unreadable_video_is_named_and_nothing_is_written(folder: Path) -> None:
    Path("text.mp4").write_text("not a video")
    Path("empty.mov").touch()
    good = add("cup", "a.mp4", clip("a.mp4"))
    bad = add("cup", "text.mp4", Path("text.mp4")) + add("cup", "empty.mov", Path("empty.mov"))
    write_splits(layout.SPLITS, good + bad)
    with pytest.raises(PipelineError) as caught:
        frames(CONFIG)
    assert "2 takes cannot be used" in str(caught.value)
    assert "text.mp4" in str(caught.value)
    assert "empty.mov" in str(caught.value)
    assert not layout.FRAMES.exists()


def test_a_video_too_short_to_be_cut(folder: Path) -> None:
    write_splits(layout.SPLITS, add("cup", "a.mp4", clip("a.mp4", num_frames=2)))
    with pytest.raises(PipelineError, match=r"label 'cup' has no (validation|test|train) frames"):
        frames(CONFIG)


def test_a_file_replaced_since_the_split_is_refused_and_poisons_no_cache(folder: Path) -> None:
    first, second = clip("a.mp4").read_bytes(), clip("b.mp4", num_frames=21).read_bytes()
    write_splits(layout.SPLITS, add("cup", "a.mp4", Path("a.mp4")))
    Path("a.mp4").write_bytes(second)
    with pytest.raises(InputError, match=r"a\.mp4 has changed since the takes were split\n(.|\n)*dvc repro"):
        frames(CONFIG)
    assert not layout.FRAMES.exists()
    Path("a.mp4").write_bytes(first)
    frames(CONFIG)
    assert read_parquet(layout.FRAMES / "cup/a.mp4.parquet").num_rows == 10


def test_a_file_that_changes_while_it_is_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_splits(layout.SPLITS, add("cup", "a.mp4", clip("a.mp4")))

    def sample_and_touch(path: Path, **settings: object) -> Iterator[object]:
        path.touch()
        yield from ()

    monkeypatch.setattr(per_take_frames, "sample_frames", sample_and_touch)
    with pytest.raises(InputError, match=r"a\.mp4 has changed since"):
        frames(CONFIG)


def test_one_photo_more_in_a_folder_is_a_change(folder: Path) -> None:
    Path("desk").mkdir()
    Image.new("RGB", (64, 48)).save("desk/a.png")
    write_splits(layout.SPLITS, add("cup", "desk", Path("desk")))
    Image.new("RGB", (64, 48), (9, 9, 9)).save("desk/b.png")
    with pytest.raises(InputError, match="desk has changed since"):
        frames(CONFIG)


def test_a_take_that_is_gone_is_named(folder: Path) -> None:
    write_splits(layout.SPLITS, add("cup", "a.mp4", clip("a.mp4")))
    Path("a.mp4").unlink()
    with pytest.raises(InputError, match=r"a\.mp4 cannot be read \(No such file or directory\)"):
        frames(CONFIG)


@pytest.mark.parametrize("field", [field.name for field in fields(FramesConfig)])
def test_another_value_of_any_setting_computes_anew(
    folder: Path, capsys: pytest.CaptureFixture[str], field: str
) -> None:
    write_splits(layout.SPLITS, add("cup", "a.mp4", clip("a.mp4")))
    frames(CONFIG)
    frames(replace(CONFIG, frames=replace(CONFIG.frames, **{field: getattr(CONFIG.frames, field) - 1})))
    assert capsys.readouterr().err.count("1 takes computed, 0 reused") == 2


def frames_of(*seeds: int) -> pa.Table:
    """A take whose frames are pictures of these seeds."""
    images = [encode_jpeg(tiny_project.picture(0, seed), quality=95) for seed in seeds]
    ids, times = [str(number) for number in range(len(seeds))], [0.25 * number for number in range(len(seeds))]
    return pa.table([ids, times, images], schema=FRAMES)


def takes_with(tables: dict[str, pa.Table]) -> list[Take]:
    takes = []
    for name, table in tables.items():
        label, take = name.split("/")
        block = Block(label, take, f"data/videos/{name}", "", "train", 0.0, 1.0)
        takes.append(Take(label, take, Path(block.path), "", (block,)))
        write_bytes(layout.FRAMES / takes[-1].table, to_parquet(table))
    return takes


def test_takes_that_show_the_same_are_told_in_pairs(folder: Path) -> None:
    tables = {"cup/a.mp4": frames_of(1, 2, 3, 4), "cup/b.mp4": frames_of(3, 4, 5, 6), "pen/c.mp4": frames_of(7, 8)}
    tables |= {"pen/d.mp4": frames_of(8), "pen/e.mp4": frames_of(10, 11, 12, 13, 14, 15), "pen/f.mp4": frames_of(16)}
    takes = takes_with(tables)
    with pytest.raises(InputError) as caught:
        refuse_equal_frames(takes, layout.FRAMES)
    told = str(caught.value)
    assert "data/videos/cup/a.mp4 and data/videos/cup/b.mp4 show the same pictures (2 of them)" in told
    assert "data/videos/pen/c.mp4 and data/videos/pen/d.mp4 show the same pictures (1 of them)" in told
    assert told.count("show the same") == 2
    refuse_equal_frames([takes[0], takes[2], *takes[4:]], layout.FRAMES)


def test_a_covered_lens_may_come_twice_and_is_told(folder: Path) -> None:
    black = [encode_jpeg(np.full((24, 32, 3), 3, np.uint8), quality=95)] * 4
    table = pa.table([list("abcd"), [0.0, 1.0, 2.0, 3.0], black], schema=FRAMES)
    takes = takes_with({"cup/a.mp4": table, "cup/b.mp4": table, "cup/c.mp4": frames_of(1, 2)})
    refuse_equal_frames(takes, layout.FRAMES)
    assert [take.name for take in flat_takes(takes, layout.FRAMES)] == ["a.mp4", "b.mp4"]
