"""Which bottlenecks are to be computed, and what each depends on."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline.errors import InputError
from pipeline.files import layout, sha256_of_bytes, sha256_of_file
from pipeline.keys.processor import PROCESSOR, processor_features
from pipeline.per_take.bottlenecks import FeatureExtractor
from pipeline.takes.jobs import TakeJob
from pipeline.takes.rows import STRANGERS_TABLE
from pipeline.takes.sources import files_in
from pipeline.takes.splits import NONE, Take

_JPEG_SUFFIXES = (".jpg", ".jpeg")
_MAX_NAMED = 5


def feature_jobs(takes: Sequence[Take], features: FeatureExtractor) -> list[TakeJob]:
    """Return what to compute for all frames of some takes, and for their augmented copies.

    The outputs are frames/<label>/<take>.parquet and augmented/<label>/<take>.parquet. Whichever stage asks first,
    the others find the results in the take cache.
    """
    sources = [("frames", layout.FRAMES, take) for take in takes]
    sources += [("augmented", layout.AUGMENTED, take) for take in takes]
    return [_job(kind, folder / take.table, take, features) for kind, folder, take in sources]


def strangers_job(folder: Path, features: FeatureExtractor) -> TakeJob:
    """Return what to compute for the pictures of other things: strangers.parquet, a row each, by name.

    Raises:
        InputError: If the folder holds no picture, or anything but JPEG files.
    """
    files = files_in(folder) if folder.is_dir() else []
    others = [path.name for path in files if path.suffix.lower() not in _JPEG_SUFFIXES]
    if others or not files:
        raise InputError(
            found=f"{folder}/ holds {', '.join(others[:_MAX_NAMED]) or 'no picture'}",
            expected="JPEG files (.jpg) of all kinds of things, which classifiers learn to refuse",
            remedy=f"put pictures of your own into data/photos/{NONE}/, and bring these back: git checkout {folder}",
        )
    pictures = {path.name: path.read_bytes() for path in files}
    hashes = {name: sha256_of_bytes(content) for name, content in pictures.items()}
    compute = partial(features.table_of_pictures, pictures)
    return TakeJob.of(folder.as_posix(), Path(STRANGERS_TABLE), compute, _depends_on(hashes, features))


def _job(kind: str, source: Path, take: Take, features: FeatureExtractor) -> TakeJob:
    sha256 = sha256_of_file(source)
    compute = partial(features.table, source, sha256)
    depends_on = _depends_on(sha256, features)
    return TakeJob.of(take.full_name, Path(kind) / take.table, compute, depends_on, reads=[source])


def _depends_on(source: object, features: FeatureExtractor) -> dict[str, object]:
    return {
        "source": source,
        "backbone": features.sha256,
        "resize": features.resize,
        PROCESSOR: processor_features(),
    }
