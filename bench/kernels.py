"""What other kernels than this machine's XNNPACK make of a model: `python -m bench.kernels [--chips cortex-a76]`.

The first table asks each set of kernels for the features of the frames of the test takes, and holds them against those
of XNNPACK on this machine, which heads are trained on; the head here is trained on all other takes. `int4 as
convolutions` is int4 with `pointwise: convolution` (conf/quantization/int4.yaml). Emulated chips are
slow, so none is asked unless named.

The second table tells why they differ, layer by layer: how many numbers LiteRT's own kernels on this machine make of a
layer's input that are not its sum of products, multiplied by the scales and rounded once. It looks at convolutions of
one pixel, where nearly all weights are.
"""

import argparse
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from bench.schemes import PROJECT, Pictures, fitted, samples, schemes
from pipeline.config.quantization import CONVOLUTION
from pipeline.files import layout
from pipeline.images.calibration import read_calibration
from pipeline.litert.arm64 import Arm64Interpreter
from pipeline.litert.arm64_chips import CHIPS
from pipeline.litert.dequantized import stored_integers
from pipeline.litert.flatbuffer import operator_name, read_model
from pipeline.litert.interpreter import Model, load_interpreter, without_delegate_message
from pipeline.litert.quantizer import quantize
from pipeline.takes.splits import TEST, read_takes

SCHEMES = ("int8", "int4")
HERE = "XNNPACK here"
NUM_LAYER_PICTURES = 4
COLUMNS = {
    "features": "bit-equal to XNNPACK's here, or how far from them, as a share of their size",
    "same label": "percent of frames on which a head, trained on XNNPACK's features here, names the same label",
    "accuracy": "percent of frames on which that label is right",
    "layers": "convolutions of one pixel",
    "mean": "percent of their numbers that are a step off, over all layers",
    "worst": "the same of the layer where they are most",
}

Floats = npt.NDArray[np.float32]
Run = Callable[[npt.NDArray[np.uint8]], Floats]


def models(names: list[str], pictures: npt.NDArray[np.uint8]) -> dict[str, bytes]:
    """Quantize the project's backbone, with 4 bits in both ways."""
    backbone, chosen = (PROJECT / layout.TUNED_BACKBONE).read_bytes(), {name: schemes()[name] for name in names}
    for name, config in list(chosen.items()):
        if config.pointwise != CONVOLUTION:
            chosen[f"{name} as convolutions"] = replace(config, pointwise=CONVOLUTION)
    num_threads = os.cpu_count() or 1
    return {
        name: quantize(backbone, config, list(pictures), num_threads=num_threads) for name, config in chosen.items()
    }


def kernels(chips: list[str]) -> dict[str, Callable[[bytes], Any]]:
    """Return, for each set of kernels, what loads a model into an interpreter that runs by them."""
    found: dict[str, Callable[[bytes], Any]] = {
        HERE: lambda content: load_interpreter(content, 1),
        "LiteRT's own here": own,
        "LiteRT's plain here": lambda content: load_interpreter(content, 1, reference_kernels=True),
    }
    return found | {f"XNNPACK of {chip}": _of_chip(chip) for chip in chips}


def own(content: bytes, **options: bool) -> Any:
    """Load a model without XNNPACK."""
    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with without_delegate_message():
        interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=kind, **options)
        interpreter.allocate_tensors()
    return interpreter


def _of_chip(chip: str) -> Callable[[bytes], Any]:
    return lambda content: Arm64Interpreter(content, chip=chip)


def features(content: bytes, load: Callable[[bytes], Any], inputs: npt.NDArray[np.uint8]) -> Floats:
    """Run a backbone over pictures: float32 [num, feature_length]."""
    thread, loaded = threading.local(), []

    def run(picture: npt.NDArray[np.uint8]) -> Floats:
        if not hasattr(thread, "interpreter"):
            thread.interpreter = load(content)
            loaded.append(thread.interpreter)
        given, answer = thread.interpreter.get_input_details()[0], thread.interpreter.get_output_details()[0]
        thread.interpreter.set_tensor(given["index"], picture[np.newaxis])
        thread.interpreter.invoke()
        found: Floats = thread.interpreter.get_tensor(answer["index"])[0].copy()
        return found

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        computed = np.array(list(executor.map(run, inputs)))
    for interpreter in loaded:
        if isinstance(interpreter, Arm64Interpreter):
            interpreter.close()
    return computed


def agreement(
    content: bytes, pictures: Pictures, is_test: npt.NDArray[np.bool_], chips: list[str]
) -> Iterator[dict[str, str]]:
    """Yield a row for each set of kernels."""
    load = kernels(chips)
    learned = features(content, load[HERE], pictures.inputs)
    predict = fitted(learned[~is_test], pictures.labels[~is_test], pictures.units[~is_test])
    expected, actual = learned[is_test], pictures.labels[is_test]
    for name, loader in load.items():
        found = expected if name == HERE else features(content, loader, pictures.inputs[is_test])
        far = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        yield {
            "kernels": name,
            "features": "bit-equal" if found.tobytes() == expected.tobytes() else f"{far:.1e}",
            "same label": f"{100 * (predict(found) == predict(expected)).mean():.1f}",
            "accuracy": f"{100 * (predict(found) == actual).mean():.1f}",
        }


def steps_off(content: bytes, picture: npt.NDArray[np.uint8]) -> list[float]:
    """Return, for each convolution of one pixel, the share of LiteRT's own numbers that are not the exact ones."""
    model, interpreter = read_model(content), own(content, experimental_preserve_all_tensors=True)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[np.newaxis])
    interpreter.invoke()
    shares = []
    for operator in model.subgraphs[0].operators:
        if operator_name(model, operator) == "CONV_2D" and is_one_pixel(model, operator):
            given, found = (interpreter.get_tensor(int(i)) for i in (operator.inputs[0], operator.outputs[0]))
            shares.append(float((found != rounded_once(model, operator, given)).mean()))
    return shares


def is_one_pixel(model: Any, operator: Any) -> bool:
    """Tell whether a convolution sees one pixel at a time, all of them."""
    options, shape = operator.builtinOptions, model.subgraphs[0].tensors[operator.inputs[1]].shape
    return (*map(int, shape[1:3]), options.strideH, options.strideW) == (1, 1, 1, 1)


def rounded_once(model: Any, operator: Any, given: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Compute a convolution of one pixel: sums are exact, and halves go up."""
    tensors = model.subgraphs[0].tensors
    source, weights, bias, target = (tensors[int(i)] for i in (*operator.inputs, operator.outputs[0]))
    integers, start = (
        stored_integers(np.asarray(model.buffers[one.buffer].data, np.uint8), one) for one in (weights, bias)
    )
    sums = (given.astype(np.float64) - source.quantization.zeroPoint[0]) @ integers.reshape(len(integers), -1).T + start
    scales = source.quantization.scale[0].astype(np.float64) * weights.quantization.scale
    scale, zero = float(target.quantization.scale[0]), int(target.quantization.zeroPoint[0])
    steps = np.floor(sums * (scales / scale) + 0.5) + zero
    is_relu6 = operator.builtinOptions.fusedActivationFunction == 3
    low, high = (zero, zero + round(6 / scale)) if is_relu6 else (-128, 127)
    clipped: npt.NDArray[np.int8] = np.clip(steps, max(low, -128), min(high, 127)).astype(np.int8)
    return clipped


def layers(made: dict[str, bytes], pictures: npt.NDArray[np.uint8]) -> pd.DataFrame:
    """Make the table of what LiteRT's own kernels on this machine round otherwise."""
    rows = {}
    for name, content in made.items():
        shares = np.array([steps_off(content, picture) for picture in pictures])
        if shares.size:
            mean, worst = shares.mean(), shares.mean(0).max()
            rows[name] = {"layers": shares.shape[1], "mean": f"{100 * mean:.1f}", "worst": f"{100 * worst:.1f}"}
    return pd.DataFrame.from_dict(rows, orient="index")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schemes", nargs="+", default=SCHEMES, help="static ones (default: int8 int4)")
    parser.add_argument("--chips", nargs="+", default=[], choices=CHIPS, help="emulated ones, a second a frame")
    arguments = parser.parse_args()
    pictures = samples(PROJECT, Model((PROJECT / layout.TUNED_BACKBONE).read_bytes()).input_pixels)
    if pictures is None:
        return
    tested = {unit for unit, take in enumerate(read_takes(PROJECT / layout.SPLITS)) if take.has_part(TEST)}
    is_test = np.isin(pictures.units, sorted(tested))
    calibration = read_calibration(PROJECT / layout.CALIBRATION, pictures.inputs.shape[1], "stretch")
    made, rows = models(arguments.schemes, calibration), list[dict[str, str]]()
    for name, content in made.items():
        rows += [{"scheme": name} | row for row in agreement(content, pictures, is_test, arguments.chips)]
    print(f"{is_test.sum()} frames of {len(tested)} test takes\n{pd.DataFrame(rows).to_string(index=False)}\n")
    print(layers(made, calibration[:NUM_LAYER_PICTURES]).to_string(), end="\n\n")
    print("\n".join(f"  {name:12s} {meaning}" for name, meaning in COLUMNS.items()))


if __name__ == "__main__":
    main()
