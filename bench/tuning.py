"""What fine-tuning brings on a hard set: `python -m bench.tuning [--folds 5] [--epochs 4] [--learning-rate 0.0003]`.

The set is `elpv` (see bench.schemes): 2,624 pictures of solar cells in takes of ten neighbours, needs
`pip install elpv-dataset`. Takes are dealt to folds. In each, the backbone is fine-tuned by the pipeline's own code on
the frames and augmented copies of the other folds' takes, a tenth of which validate; then the shipped head is trained
on what the tuned backbone gives for all of them, and scored on the fold. Beside it stands the head on the backbone as
it came, trained on the same takes. Settings that are not given are those of params.yaml.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.add_one_take import project_params
from bench.heads import copies_of, rows_of
from bench.schemes import CACHE, elpv, features, workspace
from pipeline.backbones.build import build_backbone
from pipeline.backbones.checked import convert_checked
from pipeline.config.architecture import ArchitectureStage
from pipeline.config.backbone import BackboneConfig
from pipeline.config.backbone_names import overrides
from pipeline.config.composing import composed
from pipeline.config.finetune import WHOLE_BACKBONE, FinetuneConfig
from pipeline.config.train import TrainingConfig, TrainStage
from pipeline.files import layout
from pipeline.heads.crossvalidation import predictions_of
from pipeline.heads.training import train_head
from pipeline.litert.interpreter import Model
from pipeline.metrics.intervals import standard_error
from pipeline.takes.examples import Examples
from pipeline.takes.folds import deal
from pipeline.takes.rows import Rows
from pipeline.takes.splits import VALIDATION
from pipeline.tuning.blocks import input_of_last_blocks, upper_part
from pipeline.tuning.training import tune

NUM_VALIDATION = 10  # one of so many takes


@dataclass(frozen=True)
class Setting:
    """What is tried.

    Attributes:
        backbone: The architecture.
        training: Of the head.
        finetune: Of the backbone.
    """

    backbone: BackboneConfig
    training: TrainingConfig
    finetune: FinetuneConfig


def setting(changes: dict[str, float]) -> Setting:
    """Return the settings of params.yaml with other values of the section `finetune`, for the whole backbone."""
    params = project_params()
    backbone = composed("architecture", ArchitectureStage, params, [], {"backbone": overrides}).backbone
    training = composed("train", TrainStage, params, ["scheme=float32"]).training
    section = params["finetune"] | changes | {"blocks": WHOLE_BACKBONE, "pruning_percent": 0}
    return Setting(backbone, training, FinetuneConfig(**section, pruning_end_percent=50, pruning_interval_steps=1))


def validating(rows: Rows, fold: list[int]) -> list[int]:
    """Return the takes outside of a fold that choose the epoch and the strength of the regularization."""
    return [index for index in range(len(rows.units)) if index not in set(fold)][::NUM_VALIDATION]


def probabilities(rows: Rows, fold: list[int], training: TrainingConfig) -> np.ndarray:
    """Train the shipped head on the takes outside of a fold, and answer the frames in it: float [num, num_labels]."""
    is_held_out, chosen = rows.of_units(fold), set(validating(rows, fold))
    units = [replace(unit, part=VALIDATION) if index in chosen else unit for index, unit in enumerate(rows.units)]
    head = train_head(replace(rows, units=tuple(units)).only(~is_held_out), training, title="head").head
    found: np.ndarray = predictions_of(head, rows.only(is_held_out & rows.are_frames)).probabilities
    return found


def tuned(inputs: list[np.ndarray], rows: Rows, fold: list[int], found: Setting) -> tuple[bytes, str]:
    """Fine-tune on the takes outside of a fold; return the backbone as a .tflite file, and how it went."""
    is_of_validation = rows.of_units(validating(rows, fold))
    is_validation, is_train = is_of_validation & rows.are_frames, ~is_of_validation & ~rows.of_units(fold)
    pictures = np.concatenate(inputs)
    train, validation = (Examples(pictures[chosen], rows.label_indices[chosen]) for chosen in (is_train, is_validation))
    single, backbone = build_backbone(found.backbone), build_backbone(found.backbone, batch_size=None)
    upper = upper_part(backbone, input_of_last_blocks(backbone, WHOLE_BACKBONE))
    head = train_head(rows.only(is_train), replace(found.training, mode="head"), title="head").head
    with tempfile.TemporaryDirectory() as logs:
        tuning = tune(
            upper, [], head, train, validation, found.training, found.finetune, log_folder=Path(logs) / "backbone"
        )
    single.set_weights(backbone.get_weights())
    losses = " ".join(f"{loss:.3f}" for loss in tuning.curves["validation_loss"])
    return convert_checked(single, found.backbone)[0], f"validation losses {losses}, best after {tuning.best_epoch}"


def main() -> None:
    """Print a line for each fold, and the means."""
    parser = argparse.ArgumentParser(prog="python -m bench.tuning", description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=5, help="how many takes are dealt to (default: %(default)s)")
    parser.add_argument("--only", type=int, help="so many of them alone")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--patience", type=int)
    parser.add_argument("--cache", type=Path, default=CACHE, help="default: %(default)s")
    arguments = parser.parse_args()
    given = {key: getattr(arguments, key) for key in ("epochs", "learning_rate", "patience")}
    found = setting({key: value for key, value in given.items() if value is not None})
    print(found.finetune)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    converted = (workspace(arguments.cache) / layout.CONVERTED_BACKBONE).read_bytes()
    pictures = elpv(Model(converted).input_pixels, None)
    if pictures is None:
        return
    inputs = [pictures.inputs, *copies_of(pictures, arguments.cache)]
    rows = rows_of([features(converted, one, arguments.cache) for one in inputs], pictures)
    frames = rows.only(rows.are_frames)
    folds = deal(rows.units, list(range(len(rows.units))), arguments.folds)[: arguments.only]
    answers = {name: np.full((len(frames), len(rows.labels)), np.nan) for name in ("head", "finetune")}
    for number, fold in enumerate(folds):
        started, before = time.time(), resource.getrusage(resource.RUSAGE_SELF)
        is_fold = frames.of_units(fold)
        answers["head"][is_fold] = probabilities(rows, fold, replace(found.training, mode="head"))
        content, how = tuned(inputs, rows, fold, found)
        after = rows_of([features(content, one, arguments.cache) for one in inputs], pictures)
        answers["finetune"][is_fold] = probabilities(after, fold, replace(found.training, mode="finetune"))
        now = resource.getrusage(resource.RUSAGE_SELF)
        computing = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
        right = {
            name: (one[is_fold].argmax(1) == frames.label_indices[is_fold]).mean() for name, one in answers.items()
        }
        print(
            f"fold {number}: head {100 * right['head']:.1f}, finetune {100 * right['finetune']:.1f}; {how}; "
            f"{computing:.0f} s of computing, {time.time() - started:.0f} s",
            flush=True,
        )
    print_table(answers, frames)


def print_table(answers: dict[str, np.ndarray], frames: Rows) -> None:
    """Print accuracy and log loss over all folds, and the paired difference with its standard error over takes."""
    scored = ~np.isnan(answers["head"][:, 0])
    labels, takes = frames.label_indices[scored], frames.unit_indices[scored].astype(str)
    right = {name: one[scored].argmax(1) == labels for name, one in answers.items()}
    for name, one in answers.items():
        loss = -np.log(np.maximum(one[scored][np.arange(len(labels)), labels], 1e-9)).mean()
        error = standard_error(right[name], takes)
        print(f"{name:10}accuracy {100 * right[name].mean():.1f} ± {100 * error:.1f}, log loss {loss:.3f}")
    difference = right["finetune"].astype(float) - right["head"]
    print(f"difference {100 * difference.mean():+.1f} ± {100 * standard_error(difference, takes):.1f} points")


if __name__ == "__main__":
    main()
