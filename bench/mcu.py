"""What backbones cost on a microcontroller: `python -m bench.mcu`. The weights are random.

One row an architecture: flash (the model; TFLM's code comes on top), arena (see `viewfinder mcu`), multiply-adds, and
the smallest memories, in powers of two, that hold flash and arena. TFLM's answers must be those of LiteRT's reference
kernels, bit for bit. It says nothing of accuracy.

Names are those of params.yaml, without pixels; `--pixels` is the side of the input. The head has six labels and knows
what is none of them.
"""

import argparse
import multiprocessing
from dataclasses import replace

import numpy as np

from bench.architectures import CONF, NUM_CALIBRATION, pictures, read
from pipeline.backbones.build import build_backbone, convert
from pipeline.config.backbone_names import architecture_of, resolve
from pipeline.config.quantization import QuantizationConfig
from pipeline.errors import PipelineError
from pipeline.litert.interpreter import Model
from pipeline.litert.micro import micro_classifier
from pipeline.litert.micro_measure import Footprint, proven_answers
from pipeline.litert.probes import probes
from pipeline.litert.quantizer import quantize

SMALL = (
    *("mobilenet_v1_025", "mobilenet_v1_050", "mobilenet_v1_075", "mobilenet_v1_100"),
    *("mobilenet_v2_035", "mobilenet_v2_050", "mobilenet_v2_075", "mobilenet_v2_100"),
    *("mobilenet_v3_small_075", "mobilenet_v3_small_100", "mobilenet_v3_large_075", "mobilenet_v3_large_100"),
    *("nasnet_mobile", "efficientnet_b0", "efficientnet_lite0"),
)
NUM_LABELS = 6
LOGIT_RANGE = (-12.0, 20.0)  # about that of heads on the samples; it changes no size


def footprint(name: str, pixels: int) -> Footprint:
    """Build, quantize and measure a backbone with random weights.

    Raises:
        PipelineError: If it cannot be built, quantized or run, or TFLM answers otherwise than the reference kernels.
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
    proven_answers(content, found.arena_bytes, probes(pixels))
    return found


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
        found = footprint(name, pixels)
    except PipelineError as error:
        return f"| {name} | {pixels} | fails: {error.found} | | | | |"
    return (
        f"| {name} | {pixels} | {found.flash_bytes:,} | {found.arena_bytes:,} | {found.multiply_adds / 1e6:,.1f} M "
        f"| {room(found.flash_bytes)} | {room(found.arena_bytes)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mcu", description=__doc__.splitlines()[0].split(":")[0])
    parser.add_argument("names", nargs="*", default=SMALL, help="as in params.yaml; default: small ones")
    parser.add_argument("--pixels", type=int, default=96, help="side of the input; default 96")
    arguments = parser.parse_args()
    print("| backbone | pixels | flash, bytes | arena, bytes | multiply-adds | flash of | memory of |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.names:
        # TensorFlow gives nothing back: in one process the memory of all networks would add up
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(row, (name, arguments.pixels)), flush=True)


if __name__ == "__main__":
    main()
