"""Stage `augment`: makes varied copies of the train frames.

Reads data/frames and data/splits.csv; writes data/augmented/<label>/<take>.parquet (schema `tables.AUGMENTED`) for
each take that has train frames. The copies are made before the bottlenecks, so augmentation and cached bottlenecks go
together.
"""

from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import pyarrow as pa

from pipeline.config.application import run_stage
from pipeline.config.augment import AugmentConfig, AugmentStage
from pipeline.files import layout, sha256_of_file
from pipeline.images.augmentation import apply, draw, generator_of
from pipeline.images.codec import decode_jpeg, encode_jpeg
from pipeline.takes.cache import key_of, project_cache
from pipeline.takes.engines import project_engine
from pipeline.takes.jobs import TakeJob
from pipeline.takes.runner import map_takes
from pipeline.takes.splits import TRAIN, Take, read_takes
from pipeline.takes.tables import AUGMENTED, read_parquet
from pipeline.takes.versions import versions
from pipeline.takes.workers import map_frames

_VERSION = 1  # raise it when this stage gives other bytes for the same input and settings


def augment(config: AugmentStage) -> None:
    """Make the copies of all takes that have train frames."""
    takes = [take for take in read_takes(layout.SPLITS) if take.has_part(TRAIN)]
    jobs = [_job(take, config.augment) for take in takes]
    map_takes(jobs, layout.AUGMENTED, stage="augment", engine=project_engine(), cache=project_cache())


def augment_take(take: Take, config: AugmentConfig) -> pa.Table:
    """Make the copies of one take's train frames.

    Args:
        take: A take whose frames are in data/frames.
        config: What may vary, and how many copies.

    Returns:
        A table with the schema `AUGMENTED`: for each train frame, `copies` rows numbered from 1.
    """
    table = read_parquet(layout.FRAMES / take.table)
    rows = table.take(take.indices_of_part(TRAIN, table.num_rows)).to_pylist()

    def augmented(row_and_copy: tuple[dict[str, Any], int]) -> dict[str, Any]:
        row, copy = row_and_copy
        return row | {"copy": copy, "image": augment_image(row["image"], row["frame_id"], copy, config)}

    copies = product(rows, range(1, config.copies + 1))
    return pa.Table.from_pylist(map_frames(augmented, copies), schema=AUGMENTED)


def augment_image(image: bytes, frame_id: str, copy: int, config: AugmentConfig) -> bytes:
    """Make one copy of one frame, JPEG to JPEG; equal arguments give equal bytes."""
    transformation = draw(config, generator_of(frame_id, copy))
    return encode_jpeg(apply(transformation, decode_jpeg(image)), quality=transformation.jpeg_quality)


def _job(take: Take, config: AugmentConfig) -> TakeJob:
    parts = {
        "stage": "augment",
        "version": _VERSION,
        "libraries": versions("pillow", "numpy", "pyarrow"),
        "frames": sha256_of_file(layout.FRAMES / take.table),
        "blocks": [(block.part, block.start, block.end) for block in take.blocks],
        "settings": asdict(config),
    }
    return TakeJob(f"{take.label}/{take.name}", take.table, key_of(parts), partial(augment_take, take, config))


def main() -> None:
    """Run the stage from the command line."""
    run_stage("augment", AugmentStage, augment)


if __name__ == "__main__":
    main()
