"""Which bottlenecks are to be computed, and what each depends on."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline.files import layout, sha256_of_file
from pipeline.keys.processor import processor_features
from pipeline.per_take.bottlenecks import FeatureExtractor
from pipeline.takes.jobs import TakeJob
from pipeline.takes.splits import Take


def feature_jobs(takes: Sequence[Take], features: FeatureExtractor) -> list[TakeJob]:
    """Return what to compute for all frames of some takes, and for their augmented copies.

    The outputs are frames/<label>/<take>.parquet and augmented/<label>/<take>.parquet. Whichever stage asks first,
    the others find the results in the take cache.
    """
    sources = [("frames", layout.FRAMES, take) for take in takes]
    sources += [("augmented", layout.AUGMENTED, take) for take in takes]
    return [_job(kind, folder / take.table, take, features) for kind, folder, take in sources]


def _job(kind: str, source: Path, take: Take, features: FeatureExtractor) -> TakeJob:
    sha256 = sha256_of_file(source)
    depends_on = {
        "source": sha256,
        "backbone": features.sha256,
        "resize": features.resize,
        "processor": processor_features(),
    }
    compute = partial(features.table, source, sha256)
    return TakeJob.of(f"{take.label}/{take.name}", Path(kind) / take.table, compute, depends_on)
