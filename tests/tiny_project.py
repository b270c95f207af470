"""A project so small that every stage after `backbone` runs in a moment: two labels, six takes, three layers."""

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.bottlenecks import bottlenecks
from pipeline.config.backbone import BackboneConfig
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.config.engine import EngineConfig
from pipeline.config.quantization import QuantizationConfig
from pipeline.config.quantize import QuantizeStage
from pipeline.config.train import TrainingConfig
from pipeline.config.unknown import UnknownConfig
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.head_file import INDEX, index_of_heads
from pipeline.images.codec import encode_jpeg
from pipeline.quantize import quantize
from pipeline.takes.splits import NONE, PARTS, Block, read_takes, write_splits
from pipeline.takes.tables import AUGMENTED, FRAMES, to_parquet
from tests import tiny_models

LABELS = ("cup", "rote Möhre")
BACKBONE = BackboneConfig(
    name="tiny",
    family="own_file",
    width=1,
    depth=1,
    input_pixels=tiny_models.PIXELS,
    feature_length=tiny_models.NUM_FEATURES,
    mean=[127.0],
    std=[128.0],
    weights="random",
    weights_package="",
    weights_sha256="",
    num_parameters=0,
    num_multiply_adds=0,
    imagenet_top1_percent=0,
    source="",
)
TRAINING = TrainingConfig(
    mode="head",
    final="all",
    optimizer="lbfgs",
    regularization=None,
    class_balance=True,
    seed=0,
    steps=60,
    learning_rate=0.05,
    train_batch_size=8,
    eval_step_interval=20,
    dropout=0.1,
    weight_decay=0,
)
UNKNOWN = UnknownConfig("learned", 95)
OFF = UnknownConfig("off", 95)
NUM_FRAMES = 5
NUM_STRANGERS = 12
ENGINE = EngineConfig("local", 0)


def picture(label: int, seed: int) -> np.ndarray:
    """Noise around dark red, light blue, or, of other things, green or violet, uint8 [24, 32, 3]."""
    colour = np.array([(90, 30, 30), (120, 160, 220), (60, 230, 20), (170, 20, 200)][label])
    noise = np.random.default_rng(seed).normal(0, 25, (24, 32, 3))
    return np.clip(colour + noise, 0, 255).astype(np.uint8)


def make() -> None:
    """Write what the stages up to `backbone` would have written: one take of each label in each part."""
    blocks = [
        Block(label, f"{part}.mp4", f"data/videos/{label}/{part}.mp4", f"{label}{part}".encode().hex(), part, 0.0, 1.0)
        for label in LABELS
        for part in PARTS
    ]
    write_splits(layout.SPLITS, blocks)
    for number, block in enumerate(blocks):
        images = [
            encode_jpeg(picture(LABELS.index(block.label), 100 * number + i), quality=95) for i in range(NUM_FRAMES)
        ]
        ids = [f"{number}-{i}" for i in range(NUM_FRAMES)]
        times = [i / 4 for i in range(NUM_FRAMES)]
        frames = pa.table([ids, times, images], schema=FRAMES)
        write_bytes(layout.FRAMES / block.label / f"{block.take}.parquet", to_parquet(frames))
        rows = pa.table([ids, [1] * NUM_FRAMES, times, images[::-1]], schema=AUGMENTED)
        write_bytes(layout.AUGMENTED / block.label / f"{block.take}.parquet", to_parquet(rows))
    write_bytes(layout.CONVERTED_BACKBONE, tiny_models.backbone())
    write_bytes(layout.TUNED_BACKBONE, tiny_models.backbone())
    layout.STRANGERS.mkdir(parents=True)
    for seed in range(NUM_STRANGERS):
        (layout.STRANGERS / f"{seed:02d}.jpg").write_bytes(encode_jpeg(picture(2, 2000 + seed), quality=95))
    layout.CALIBRATION.mkdir(parents=True)
    for seed in range(50):
        Image.fromarray(picture(seed % 2, 1000 + seed)).save(layout.CALIBRATION / f"{seed:02d}.png")


def add_none_takes(num_takes: int = 1) -> None:
    """Write what the stages up to `augment` would have written about takes that show none of the labels, in violet."""
    takes = [f"{number}.mp4" for number in range(num_takes)]
    added = [Block(NONE, take, f"data/videos/{NONE}/{take}", take.encode().hex(), "train", 0.0, 1.0) for take in takes]
    write_splits(layout.SPLITS, [block for take in read_takes(layout.SPLITS) for block in take.blocks] + added)
    for take in takes:
        ids, times = [f"{take}-{i}" for i in range(NUM_FRAMES)], [i / 4 for i in range(NUM_FRAMES)]
        images = [encode_jpeg(picture(3, 3000 + 10 * int(take[0]) + i), quality=95) for i in range(NUM_FRAMES)]
        rows = {"frames": pa.table([ids, times, images], schema=FRAMES)}
        rows["augmented"] = pa.table([ids, [1] * NUM_FRAMES, times, images[::-1]], schema=AUGMENTED)
        for folder, table in ((layout.FRAMES, rows["frames"]), (layout.AUGMENTED, rows["augmented"])):
            write_bytes(folder / NONE / f"{take}.parquet", to_parquet(table))


def make_bottlenecks(quantization: QuantizationConfig, resize: str = "stretch") -> None:
    """Run the stages `quantize` and `bottlenecks` of one scheme."""
    quantize(QuantizeStage(resize, quantization))
    bottlenecks(BottlenecksStage(resize, quantization, ENGINE))
    have_no_further_heads(quantization.scheme)


def have_no_further_heads(scheme: str) -> None:
    """Write what the stage `multihead` writes where `heads` is empty."""
    for folder in (layout.further_heads(scheme), layout.further_plots(scheme)):
        write_text(folder / INDEX, index_of_heads(()))
    write_text(layout.further_figures(scheme), "{}\n")
