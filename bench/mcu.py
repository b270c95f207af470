"""What backbones cost on a microcontroller: `python -m bench.mcu`. The weights are random.

One row for each backbone, width and size of the picture: flash (the model; TFLM's code comes on top), arena (see
`viewfinder mcu`), multiply-adds, the smallest memories, in powers of two, that hold flash and arena, and whether 1 MB
of flash and 256 kB of memory do. TFLM's answers are held against those of LiteRT's reference kernels, bit for bit; what
differs is told. It says nothing of accuracy.

Names are those of params.yaml, without pixels: all that conf/backbone/ has, at each of its widths, if none is given.
The head has six labels and knows what is none of them.
"""

import argparse
import itertools
import multiprocessing
from dataclasses import replace

import numpy as np

from bench.architectures import CONF, NUM_CALIBRATION, pictures, read, variants
from pipeline.backbones.build import build_backbone, convert
from pipeline.config.backbone import OWN_FILE, BackboneConfig
from pipeline.config.backbone_names import architecture_of, resolve
from pipeline.config.quantization import QuantizationConfig
from pipeline.errors import ModelError, PipelineError
from pipeline.litert.interpreter import Model
from pipeline.litert.micro import micro_classifier
from pipeline.litert.micro_measure import Footprint, proven_answers
from pipeline.litert.probes import probes
from pipeline.litert.quantizer import quantize

NUM_LABELS = 6
LOGIT_RANGE = (-12.0, 20.0)  # about that of heads on the samples; it changes no size
FLASH_BYTES, MEMORY_BYTES = 1 << 20, 256 << 10  # of a chip that many boards have
COLUMNS = ("backbone", "pixels", "flash, bytes", "arena, bytes", "multiply-adds", "flash of", "memory of", "fits")


def names() -> list[str]:
    """Return the names of all backbones at all widths; one's own has no random weights."""
    configs = [read(path, BackboneConfig) for path in sorted((CONF / "backbone").glob("*.yaml"))]
    return [name for config in configs if config.family != OWN_FILE for name, _ in variants(config)]


def footprint(name: str, pixels: int) -> tuple[Footprint, str]:
    """Build, quantize and measure a backbone with random weights.

    Returns:
        What it costs, and how TFLM's answers differ from the reference kernels'; empty if they do not.

    Raises:
        PipelineError: If it cannot be built, quantized or run.
    """
    resolved = resolve(name)
    own = architecture_of(resolved.base)
    config = replace(own, name=name, width=resolved.width or own.width, input_pixels=pixels, weights="random")
    scheme = read(CONF / "quantization/int8.yaml", QuantizationConfig)
    scheme.rounding = "nearest"  # the other changes weights alone, and takes minutes
    extremes = [np.full((pixels, pixels, 3), value, np.uint8) for value in (0, 255)]  # as data/calibration has
    calibration = [*pictures(NUM_CALIBRATION, pixels), *extremes]
    content = classifier_of(quantize(convert(build_backbone(config)), scheme, calibration))
    found = Footprint.of(content)
    try:
        proven_answers(content, found.arena_bytes, probes(pixels))
    except ModelError as error:
        return found, error.found
    return found, ""


def classifier_of(backbone: bytes) -> bytes:
    """Put a random head on an int8 backbone."""
    length = Model(backbone).output_length
    draw = np.random.default_rng(0)
    weights = draw.normal(0, 0.1, (length, NUM_LABELS + 1)).astype(np.float32)
    bias = np.zeros(NUM_LABELS + 1, np.float32)
    return micro_classifier(backbone, weights, bias, num_labels=NUM_LABELS, logit_range=LOGIT_RANGE)


def room(num_bytes: int) -> str:
    """Return the smallest power of two, from 64 kB on, that holds so many bytes."""
    size = 64
    while size * 1024 < num_bytes:
        size *= 2
    return f"{size} kB" if size < 1024 else f"{size // 1024} MB"


def row(name: str, pixels: int) -> str:
    """Return a row of the table."""
    try:
        found, difference = footprint(name, pixels)
    except PipelineError as error:
        return f"| {name} | {pixels} | fails: {error.found} | | | | | |"
    fits = found.flash_bytes <= FLASH_BYTES and found.arena_bytes <= MEMORY_BYTES
    return (
        f"| {name} | {pixels} | {found.flash_bytes:,} | {found.arena_bytes:,} | {found.multiply_adds / 1e6:,.1f} M "
        f"| {room(found.flash_bytes)} | {room(found.arena_bytes)} "
        f"| {f'refused: {difference}' if difference else 'yes' if fits else ''} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mcu", description=__doc__.splitlines()[0].split(":")[0])
    parser.add_argument("names", nargs="*", help="as in params.yaml; default: all of conf/backbone/")
    parser.add_argument("--pixels", type=int, nargs="+", default=[96], help="sides of the input; default 96")
    arguments = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|", flush=True)
    for name, pixels in itertools.product(arguments.names or names(), arguments.pixels):
        # TensorFlow gives nothing back: in one process the memory of all networks would add up
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(row, (name, pixels)), flush=True)


if __name__ == "__main__":
    main()
