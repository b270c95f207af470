"""Stage `augment`: makes varied copies of the frames.

Reads data/frames and data/splits.csv; writes data/augmented/<label>/<take>.parquet (schema `tables.AUGMENTED`) for
each take. The copies are made before the bottlenecks, so augmentation and cached bottlenecks go together. Every take
has some: each is trained on in some fold of cross-validation.
"""

from dataclasses import asdict
from functools import partial

from pipeline.config.application import run_stage
from pipeline.config.augment import AugmentConfig, AugmentStage
from pipeline.files import layout, sha256_of_file
from pipeline.per_take.augment import augment_take
from pipeline.takes.cache import project_cache
from pipeline.takes.engines import engine_of
from pipeline.takes.jobs import TakeJob
from pipeline.takes.runner import map_takes
from pipeline.takes.splits import Take, read_takes


def augment(config: AugmentStage) -> None:
    """Make the copies of all takes."""
    jobs = [_job(take, config.augment) for take in read_takes(layout.SPLITS)]
    map_takes(
        jobs,
        layout.AUGMENTED,
        stage="augment",
        engine=engine_of(config.engine),
        cache=project_cache(),
        keys=layout.AUGMENTED_KEYS,
    )


def _job(take: Take, config: AugmentConfig) -> TakeJob:
    source = layout.FRAMES / take.table
    sha256 = sha256_of_file(source)
    depends_on = {
        "frames": sha256,
        "blocks": [(block.start, block.end) for block in take.blocks],
        "settings": asdict(config),
    }
    compute = partial(augment_take, take, sha256, config)
    return TakeJob.of(take.full_name, take.table, compute, depends_on, reads=[source])


def main() -> None:
    """Run the stage from the command line."""
    run_stage("augment", AugmentStage, augment)


if __name__ == "__main__":
    main()
