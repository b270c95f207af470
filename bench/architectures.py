"""Builds, converts and quantizes every architecture: `python -m bench.architectures`. The weights are random.

One row an architecture: its feature length; the largest difference between Keras and LiteRT, as a share of the largest
feature; whether int8 holds what it promises, and how far its features are from float32's on other pictures than the
ranges were measured on (random weights make that larger than trained ones do); sizes and times.

Names limit it to some; `--pixels` sets another side than the smallest that each takes.
"""

import argparse
import math
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from omegaconf import OmegaConf

from pipeline.backbones.build import build_backbone, convert, largest_difference
from pipeline.backbones.checked import MAX_DIFFERENCE
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.backbone import OWN_FILE, BackboneConfig
from pipeline.config.quantization import QuantizationConfig
from pipeline.errors import PipelineError
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import check_builtin, check_scheme
from pipeline.litert.quantizer import quantize

CONF = Path(__file__).resolve().parents[1] / "conf"
NUM_CALIBRATION, NUM_PICTURES = 8, 4


Config = TypeVar("Config")


def read(path: Path, schema: type[Config]) -> Config:
    return cast(Config, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.load(path))))


def pictures(num: int, pixels: int) -> np.ndarray:
    """Blocky noise of different brightness, uint8 [num, pixels, pixels, 3]."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (num, pixels // 4 + 1, pixels // 4 + 1, 3)).repeat(4, 1).repeat(4, 2)
    return (blocks[:, :pixels, :pixels] * generator.uniform(0.2, 1, (num, 1, 1, 3))).astype(np.uint8)


def variants(config: BackboneConfig) -> list[tuple[str, float]]:
    """Return the name and width of each published width."""
    if not config.widths:
        return [(config.name, config.width)]
    return [(f"{config.name}_{round(width * 100):03d}", width) for width in config.widths]


@dataclass(frozen=True)
class Measured:
    """What became of an architecture.

    Attributes:
        feature_length: Numbers in a feature vector.
        difference: The largest between Keras and LiteRT, as a share of the largest feature.
        num_bytes: Size of the float32 file.
        refusal: Why int8 cannot be had, or None.
        int8_error: Distance of int8's features from float32's, as a share of float32's length.
        num_int8_bytes: Size of the int8 file.
    """

    feature_length: int
    difference: float
    num_bytes: int
    refusal: str | None
    int8_error: float
    num_int8_bytes: int


def measured(config: BackboneConfig) -> Measured:
    """Build, convert, compare with Keras, quantize, check what int8 promises, and run.

    Raises:
        PipelineError: If it cannot be built or converted, or has operators that are not built in.
    """
    model = build_backbone(config)
    content = convert(model)
    check_builtin(content, config.name)
    images = pictures(NUM_CALIBRATION + NUM_PICTURES, config.input_pixels)
    difference = largest_difference(model, content, images[:2])
    scheme = read(CONF / "quantization/int8.yaml", QuantizationConfig)
    scheme.rounding = "nearest"  # the other changes weights alone, and takes minutes
    try:
        quantized = quantize(content, scheme, list(images[NUM_PICTURES:]))
        check_builtin(quantized, config.name)
        check_scheme(quantized, scheme, config.name)
    except PipelineError as error:
        return Measured(model.output.shape[-1], difference, len(content), error.found, math.nan, 0)
    int8_error = relative_error(content, quantized, images[:NUM_PICTURES])
    return Measured(model.output.shape[-1], difference, len(content), None, int8_error, len(quantized))


def row(config: BackboneConfig, name: str) -> str:
    started = time.process_time()
    try:
        found = measured(config)
    except PipelineError as error:
        return f"| {name} | {config.input_pixels} | fails: {error.found} | | | | | |"
    difference = f"{found.difference:.1e}"
    if found.difference > MAX_DIFFERENCE:
        difference += f" (Keras' own rounding {rounding_of_keras(config):.1e})"
    return (
        f"| {name} | {config.input_pixels} | {found.feature_length} | {difference} "
        f"| {found.num_bytes / 1e6:.1f} | {found.refusal or f'{found.int8_error:.3f}'} "
        f"| {found.num_int8_bytes / 1e6:.1f} | {time.process_time() - started:.0f} |"
    )


def rounding_of_keras(config: BackboneConfig) -> float:
    """Return how far Keras in float32 is from Keras in float64, as a share of the largest feature."""
    images = pictures(NUM_CALIBRATION + NUM_PICTURES, config.input_pixels)[:2]
    rounded = build_backbone(config, batch_size=None)(images)
    keras.config.set_dtype_policy("float64")
    exact = np.asarray(build_backbone(config, batch_size=None)(images))
    keras.config.set_dtype_policy("float32")
    return float(np.abs(np.asarray(rounded) - exact).max() / np.abs(exact).max())


def relative_error(content: bytes, quantized: bytes, images: np.ndarray) -> float:
    """Return the distance of int8's features from float32's, as a share of float32's length."""
    exact, rounded = Model(content), Model(quantized)
    wanted, found = (np.stack([run(image) for image in images]) for run in (exact, rounded))
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.architectures", description=__doc__.split(":")[0])
    parser.add_argument("names", nargs="*", help="files of conf/backbone/, without .yaml; all if none is given")
    parser.add_argument("--pixels", type=int, help="side of the input")
    arguments = parser.parse_args()
    print("| architecture | pixels | features | difference | float32, MB | int8 error | int8, MB | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for path in sorted((CONF / "backbone").glob("*.yaml")):
        config = read(path, BackboneConfig)
        if config.family == OWN_FILE or (arguments.names and path.stem not in arguments.names):
            continue  # one's own model has no random weights
        config.weights, config.input_pixels = "random", arguments.pixels or config.min_input_pixels
        for name, width in variants(config):
            config.width = width
            # TensorFlow gives nothing back: in one process the memory of 40 networks would add up
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(row, (config, name)), flush=True)


if __name__ == "__main__":
    main()
