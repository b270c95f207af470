"""Makes the tuned backbone: head on cached bottlenecks, frozen part once, tuned part and head together, conversion."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.backbones.build import build_backbone, convert
from pipeline.backbones.checked import convert_checked
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.finetune import WHOLE_BACKBONE, FinetuneStage
from pipeline.files import layout
from pipeline.heads.head_file import Head
from pipeline.heads.training import train_head
from pipeline.takes.examples import Examples
from pipeline.takes.rows import read_rows
from pipeline.takes.splits import TRAIN, VALIDATION, Take
from pipeline.tuning.blocks import input_of_last_blocks, lower_part, upper_part
from pipeline.tuning.inputs import extract, frozen_features, pictures
from pipeline.tuning.pruning import prunable_kernels
from pipeline.tuning.training import tune


@dataclass(frozen=True)
class TunedBackbone:
    """What fine-tuning gives.

    Attributes:
        file: The float backbone as a .tflite file: uint8 picture in, features out.
        curves: See `training.Tuning`.
        best_epoch: Epoch whose weights it has; 0 if it is the backbone that came in, byte for byte.
    """

    file: bytes
    curves: pd.DataFrame
    best_epoch: int


def tuned_backbone(start: bytes, takes: list[Take], config: FinetuneStage, scratch: Path) -> TunedBackbone:
    """Fine-tune a backbone.

    Args:
        start: The converted backbone, whose bottlenecks the head that all begins with is trained on.
        takes: All takes.
        config: All settings.
        scratch: An empty folder for what is larger than memory. Of each frame and copy it takes the boundary between
            frozen and tuned part twice.

    Raises:
        PipelineError: If the backbone has fewer blocks than are to be tuned, its weights are missing, a table is
            damaged, the disk is full, or LiteRT answers differently than Keras.
    """
    single, backbone = build_backbone(config.backbone), build_backbone(config.backbone, batch_size=None)
    boundary = input_of_last_blocks(backbone, config.finetune.blocks)
    upper = upper_part(backbone, boundary)
    head = _starting_head(start, takes, config, scratch)
    train, validation = _inputs(single, takes, config, scratch)
    log_folder = layout.TENSORBOARD / "finetune"
    shutil.rmtree(log_folder, ignore_errors=True)
    kernels = prunable_kernels(upper, backbone)
    tuning = tune(
        upper, kernels, head, train, validation, config.training, config.finetune, log_folder=log_folder / "backbone"
    )
    if tuning.best_epoch == 0:
        return TunedBackbone(start, tuning.curves, 0)
    single.set_weights(backbone.get_weights())
    return TunedBackbone(convert_checked(single, config.backbone)[0], tuning.curves, tuning.best_epoch)


def _starting_head(start: bytes, takes: list[Take], config: FinetuneStage, scratch: Path) -> Head:
    """Train a head on the bottlenecks of the backbone as it is, which are those of float32 in the mode `head`."""
    folder = scratch / "bottlenecks"
    extract(start, takes, config, folder, title="finetune, bottlenecks")
    used = [take for take in takes if take.has_part(TRAIN, VALIDATION)]
    rows = read_rows(folder, used)
    rows = rows.only(rows.are_for_training)
    log_folder = layout.TENSORBOARD / "finetune" / "head"
    head = train_head(rows, config.training, title="finetune, head", log_folder=log_folder).head
    shutil.rmtree(folder)
    return head


def _inputs(
    backbone: keras.Model, takes: list[Take], config: FinetuneStage, scratch: Path
) -> tuple[Examples, Examples]:
    """Gather what the tuned part takes, for training and for validation."""
    parts = (TRAIN, VALIDATION)
    if config.finetune.blocks == WHOLE_BACKBONE:
        pixels = config.backbone.input_pixels
        train, validation = (pictures(takes, part, pixels, config.resize, scratch) for part in parts)
        return train, validation
    boundary = input_of_last_blocks(backbone, config.finetune.blocks)
    folder = scratch / "frozen"
    frozen = convert(lower_part(backbone, boundary))
    extract(frozen, takes, config, folder, title="finetune, frozen part")
    shape = boundary.shape[1:]
    train, validation = (frozen_features(folder, takes, part, shape) for part in parts)
    shutil.rmtree(folder)
    return train, validation
