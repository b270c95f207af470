"""Makes varied copies of one take's frames."""

from itertools import chain
from typing import Any

import pyarrow as pa

from pipeline.config.augment import AugmentConfig
from pipeline.files import layout
from pipeline.images.augmentation import apply, draw, generator_of
from pipeline.images.codec import decode_jpeg, encode_jpeg
from pipeline.processes.workers import map_frames
from pipeline.takes.splits import Take
from pipeline.takes.tables import AUGMENTED, num_rows_of, read_unchanged, reader_of


def augment_take(take: Take, sha256: str, config: AugmentConfig) -> pa.RecordBatchReader:
    """Make the copies of one take's frames.

    Args:
        take: A take whose frames are in data/frames.
        sha256: Hash of their table.
        config: What may vary, and how many copies.

    Returns:
        A table with the schema `AUGMENTED`: for each train frame, `copies` rows numbered from 1. Reading it makes them.

    Raises:
        InputError: If the take's frames cannot be read, or, while the table is read, have changed.
    """
    path = layout.FRAMES / take.table
    used = set(take.indices_of_parts(num_rows_of(path)).tolist())
    rows = (row for index, row in enumerate(read_unchanged(path, sha256)) if index in used)

    def copies_of(row: dict[str, Any]) -> list[dict[str, Any]]:
        images = augment_image(row["image"], row["frame_id"], config)
        return [row | {"copy": copy, "image": image} for copy, image in enumerate(images, start=1)]

    return reader_of(chain.from_iterable(map_frames(copies_of, rows)), AUGMENTED)


def augment_image(image: bytes, frame_id: str, config: AugmentConfig) -> list[bytes]:
    """Make the copies of one frame, JPEG to JPEG; equal arguments give equal bytes."""
    frame = decode_jpeg(image)
    drawn = [draw(config, generator_of(frame_id, copy)) for copy in range(1, config.copies + 1)]
    return [encode_jpeg(apply(one, frame), quality=one.jpeg_quality) for one in drawn]
