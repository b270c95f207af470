"""A sample of the train frames, spread evenly over labels, over the takes of a label, and over a take's time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from pipeline.errors import InputError
from pipeline.takes.splits import TRAIN, Take
from pipeline.takes.tables import num_rows_of, read_rows_at


@dataclass(frozen=True)
class SampledFrame:
    """One frame of the sample.

    Attributes:
        take: "<label>/<take>".
        frame_id: As in the take's table.
        image: JPEG.
    """

    take: str
    frame_id: str
    image: bytes


def sample_train_frames(takes: Sequence[Take], folder: Path, num_frames: int) -> list[SampledFrame]:
    """Draw frames, the same ones whenever takes and frames are the same.

    Labels take turns, and within a label its takes; of a take that gives k frames they are those nearest to the middles
    of k equal stretches of its train frames.

    Args:
        takes: All takes.
        folder: Where the tables of frames lie.
        num_frames: How many; fewer if there are not so many train frames.

    Returns:
        The frames, by label, take and time.

    Raises:
        InputError: If no take has a train frame.
    """
    lengths = {take: num_rows_of(folder / take.table) for take in takes if take.has_part(TRAIN)}
    choices = {take: take.indices_of_part(TRAIN, length) for take, length in lengths.items()}
    shares = _shares({take: len(indices) for take, indices in choices.items()}, num_frames)
    sample = []
    for take, share in ((take, share) for take, share in shares.items() if share):
        indices = [choices[take][int((k + 0.5) * len(choices[take]) / share)] for k in range(share)]
        rows = read_rows_at(folder / take.table, indices, ["frame_id", "image"]).to_pylist()
        sample += [SampledFrame(take.full_name, row["frame_id"], row["image"]) for row in rows]
    if not sample:
        raise InputError(
            found=f"no train frame in {folder}/",
            expected="frames to calibrate on, as quantization.calibration: train asks for",
            remedy="add takes, or choose calibration: fixed in conf/quantization/",
        )
    return sample


def _shares(num_available: dict[Take, int], num_frames: int) -> dict[Take, int]:
    """Tell how many frames each take gives: labels take turns, and within a label its takes."""
    shares = dict.fromkeys(num_available, 0)
    turns: dict[str, list[Take]] = {}
    for round_number in range(max(num_available.values(), default=0)):
        for take, available in num_available.items():
            if round_number < available:
                turns.setdefault(take.label, []).append(take)
    in_turn = [take for round_of_labels in zip_longest(*turns.values()) for take in round_of_labels if take]
    for take in in_turn[:num_frames]:
        shares[take] += 1
    return shares
