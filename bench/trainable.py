"""Teaches heads a label that they have never seen, as a phone does, and asks what they know of it and what they forgot.

    python -m bench.trainable                    each label of the samples left out in turn, one take of it taught
    python -m bench.trainable --takes 3          three takes of it taught
    python -m bench.trainable --scheme int8      on the features of another scheme

The sets are those of bench.heads. For each repetition and label, a third of the takes of all other labels is set aside,
and a head is fitted to the rest, and to data/strangers, that does not know of the label. Then some takes of the label
are taught by such a file as `viewfinder trainable` makes, in LiteRT, and the head is asked about the takes that were
set aside (old) and about the label's other takes (new). Intervals are 95%, by drawing takes again.
"""

import argparse
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from bench.heads import prepared, rows_of
from bench.schemes import features
from bench.unknown import STRANGERS, with_strangers
from pipeline.heads.choosing import DEFAULT_STRENGTH, DEFAULT_THRESHOLD
from pipeline.heads.head_file import Head
from pipeline.heads.replay import LabelledFeatures, centres_of, mean_squared_length
from pipeline.heads.teaching import Recipe, recipe_for, teach
from pipeline.heads.training import fit_head
from pipeline.heads.unknown import without_label
from pipeline.images.codec import decode_jpeg
from pipeline.images.model_input import to_model_input
from pipeline.litert.learner import Learner
from pipeline.litert.trainable import HeadShape, with_training
from pipeline.metrics.intervals import share_interval
from pipeline.takes.rows import Rows

BATCH_SIZE, NUM_CENTRES = 64, 8  # as `viewfinder trainable` has them
ASIDE = 3  # one take of so many of every old label tells what was forgotten
BEFORE, WITHOUT, WITH, ANEW = "before", "without replay", "with replay", "trained anew"
COLUMNS = {
    "old": "percent of frames of the other labels, of takes set aside, that are named rightly",
    "new": "percent of frames of the label that was taught, of its other takes, that are named rightly",
    ANEW: "a head fitted to all that the first was fitted to and to the taught takes, on this machine",
}


@dataclass(frozen=True)
class Lesson:
    """What is taught, and what is asked.

    Attributes:
        known: What the head was fitted to, without the label.
        everything: The same and what is taught, with all labels.
        taught: Features of the label.
        old: Frames of the other labels.
        new: Other frames of the label.
    """

    known: Rows
    everything: Rows
    taught: Rows
    old: Rows
    new: Rows


def lesson(rows: Rows, label: int, num_takes: int, seed: int) -> Lesson:
    """Draw which takes are taught, and which are set aside."""
    generator, frames = np.random.default_rng([seed, label]), rows.only(rows.are_frames)
    aside, chosen = list[int](), np.zeros(0, np.int64)
    for index in range(len(rows.labels)):
        units = generator.permutation(np.unique(frames.unit_indices[frames.label_indices == index]))
        if index == label:
            chosen = units[:num_takes]
        else:
            aside += units[: max(1, len(units) // ASIDE)].tolist()
    is_aside, is_taught = frames.of_units(aside), frames.of_units(chosen.tolist())
    shows_it = frames.label_indices == label
    return Lesson(
        known=without_label(frames.only(~is_aside), label),
        everything=frames.only(~is_aside & (is_taught | ~shows_it)),
        taught=frames.only(is_taught),
        old=frames.only(is_aside),
        new=frames.only(shows_it & ~is_taught),
    )


def answers(backbone: bytes, one: Lesson, label: int, recipe: Recipe) -> pd.DataFrame:
    """Teach in every way and ask: a row for each frame with `way`, `kind`, `take`, `is_right`, and `ms` of a step."""
    head = _fitted(one.known)
    shape = HeadShape(len(head.weights), len(head.labels), 1, one.known.have_others)
    content = with_training(backbone, head.weights, head.bias, shape, BATCH_SIZE)
    taught = LabelledFeatures(one.taught.features, np.full(len(one.taught), shape.num_labels))
    replays = {WITHOUT: LabelledFeatures(np.zeros((0, shape.num_features), np.float32), np.zeros(0, np.int64))}
    replays[WITH] = centres_of(one.known, shape, NUM_CENTRES)
    learner, found, milliseconds = Learner(content), [], 0.0
    start = learner.save()
    asked = {
        "old": LabelledFeatures(one.old.features, one.old.label_indices - (one.old.label_indices > label)),
        "new": LabelledFeatures(one.new.features, np.full(len(one.new), shape.num_labels)),
    }
    for way in (BEFORE, WITHOUT, WITH):
        learner.restore(start)
        if way != BEFORE:
            began = time.perf_counter()
            teach(learner, taught, replays[way], recipe, seed=0)
            milliseconds = (time.perf_counter() - began) / recipe.steps * 1000
        known = learner.save()
        for kind, rows in (("old", one.old), ("new", one.new)):
            flags = asked[kind].are_right(known["weights"], known["bias"], shape.num_named)
            found.append(_table(way, kind, rows, flags, milliseconds))
    anew = _fitted(one.everything)
    for kind, rows in (("old", one.old), ("new", one.new)):
        found.append(_table(ANEW, kind, rows, anew.probabilities(rows.features).argmax(1) == rows.label_indices, 0))
    return pd.concat(found)


def _fitted(rows: Rows) -> Head:
    threshold = DEFAULT_THRESHOLD if rows.have_others else None
    with threadpool_limits(1):
        return fit_head(rows, DEFAULT_STRENGTH, class_balance=False, threshold=threshold)


def _table(way: str, kind: str, rows: Rows, flags: np.ndarray, milliseconds: float) -> pd.DataFrame:
    takes = [rows.units[index].take for index in rows.unit_indices]
    return pd.DataFrame({"way": way, "kind": kind, "take": takes, "is_right": flags, "ms": milliseconds})


def summed_up(found: pd.DataFrame) -> pd.DataFrame:
    """Return percent of right frames for each way, with intervals."""
    table: dict[str, dict[str, str]] = {}
    for (way, kind), rows in found.groupby(["way", "kind"], sort=False):
        flags = rows["is_right"].to_numpy(bool)
        between = share_interval(flags, rows["take"])
        low, high = (100 * between[end] for end in ("low", "high"))
        table.setdefault(str(way), {})[str(kind)] = f"{100 * flags.mean():.1f} ({low:.1f} to {high:.1f})"
    return pd.DataFrame.from_dict(table, orient="index")


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.trainable", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--takes", type=int, default=1, help="that are taught (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of training (default: as `viewfinder trainable` says)")
    parser.add_argument("--replay-share", type=float, help="of a step's rows (default: likewise)")
    bench = prepared(parser)
    arguments = bench.arguments
    pictures = [decode_jpeg(path.read_bytes()) for path in sorted(STRANGERS.iterdir())]
    inputs = np.stack([to_model_input(picture, bench.input_pixels, "stretch") for picture in pictures])
    strangers = features(bench.backbone, inputs, arguments.cache)
    changes = {"steps": arguments.steps, "replay_share": arguments.replay_share}
    for one in bench.sets:
        rows = with_strangers(rows_of([features(bench.backbone, one.inputs, arguments.cache)], one), strangers)
        recipe = recipe_for(mean_squared_length(rows))
        recipe = replace(recipe, **{name: value for name, value in changes.items() if value is not None})
        print(
            f"{one.name}, {arguments.scheme}: {len(one.labels)} pictures of {len(rows.labels)} labels, each left out "
            f"{arguments.repeats} times, {arguments.takes} of its takes taught; {recipe}",
            flush=True,
        )
        lessons = [
            (lesson(rows, label, arguments.takes, seed), label)
            for seed in range(arguments.repeats)
            for label in range(len(rows.labels))
        ]
        found = pd.concat([answers(bench.backbone, *drawn, recipe) for drawn in lessons])
        print(summed_up(found).to_string())
        print(f"{found.loc[found['way'] == WITH, 'ms'].median():.2f} ms a step of {BATCH_SIZE} rows\n", flush=True)
    print("\n".join(f"  {name:12s} {text}" for name, text in COLUMNS.items()))


if __name__ == "__main__":
    main()
