"""Builds, converts and quantizes every architecture: `python -m bench.architectures`. The weights are random.

One row an architecture: its feature length; the largest difference between Keras and LiteRT, as a share of the largest
feature; whether int8 holds what it promises, and how far its features are from float32's on other pictures than the
ranges were measured on (random weights make that larger than trained ones do); sizes and times.

Names limit it to some; `--pixels` sets another side than the smallest that each takes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from pipeline.backbones.build import build_backbone, convert, largest_difference
from pipeline.config.backbone import BackboneConfig
from pipeline.config.quantization import QuantizationConfig
from pipeline.errors import PipelineError
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import check_builtin, check_scheme
from pipeline.litert.quantizer import quantize

CONF = Path(__file__).resolve().parents[1] / "conf"
NUM_CALIBRATION, NUM_PICTURES = 8, 4


def read(path: Path, schema: type) -> object:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.load(path)))


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


def row(config: BackboneConfig, name: str) -> str:
    started = time.process_time()
    model = build_backbone(config)
    content = convert(model)
    check_builtin(content, name)
    images = pictures(NUM_CALIBRATION + NUM_PICTURES, config.input_pixels)
    difference = largest_difference(model, content, images[:2])
    scheme = read(CONF / "quantization/int8.yaml", QuantizationConfig)
    scheme.rounding = "nearest"
    try:
        quantized = quantize(content, scheme, list(images[NUM_PICTURES:]))
        check_builtin(quantized, name)
        check_scheme(quantized, scheme, name)
        int8 = f"{relative_error(content, quantized, images[:NUM_PICTURES]):.3f} | {len(quantized) / 1e6:.1f}"
    except PipelineError as error:
        int8 = f"no: {error.found} | -"
    length, megabytes, seconds = model.output.shape[-1], len(content) / 1e6, time.process_time() - started
    return (
        f"| {name} | {config.input_pixels} | {length} | {difference:.1e} | {megabytes:.1f} | {int8} | {seconds:.0f} |"
    )


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
        if config.family == "keras_file" or (arguments.names and path.stem not in arguments.names):
            continue  # one's own model has no random weights
        config.weights, config.input_pixels = "random", arguments.pixels or config.min_input_pixels
        for name, width in variants(config):
            config.width = width
            try:
                print(row(config, name), flush=True)
            except PipelineError as error:
                print(f"| {name} | {config.input_pixels} | fails: {error.found} | | | | | |", flush=True)


if __name__ == "__main__":
    main()
