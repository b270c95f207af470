"""Builds a package of Core ML from a .tflite classifier, operator by operator, without TensorFlow."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.coreml.graph import HEAD, Graph
from pipeline.coreml.library import coremltools
from pipeline.coreml.operators import OPERATORS
from pipeline.coreml.translation import Translation
from pipeline.coreml.weights import PALETTE, Weights
from pipeline.errors import ModelError
from pipeline.processes.silence import silenced

IMAGE, LABEL = "image", "classLabel"  # names of the input and of the output; Core ML's own for classifiers
PROBABILITIES = f"{LABEL}_probs"  # as coremltools calls them
_OF_FIRST_HEAD = "probabilities"  # what these are made of, in the program

# Layers with fewer weights stay float16: depthwise convolutions and the first ones are a fiftieth of a network's size,
# and of its errors in 8 bits they make most, for each of their sums has few terms.
_MIN_WEIGHTS_IN_8_BITS = 1 << 14


@dataclass(frozen=True)
class About:
    """What a package tells of itself.

    Attributes:
        description: One line.
        author: Who made it.
        license: Under which it may be used.
        version: Of the model.
        more: What else there is, as text.
    """

    description: str
    author: str
    license: str
    version: str
    more: Mapping[str, str] = field(default_factory=dict)


def save_package(path: Path, content: bytes, classes: Sequence[str], weights: Weights, about: About) -> None:
    """Translate a classifier and write it as a package.

    Args:
        path: A folder that is not there yet, whose name ends in .mlpackage.
        content: A .tflite classifier in float32 from uint8 or float32 [1, p, p, 3], RGB 0..255, to probabilities.
        classes: Names of the probabilities: the labels, and one more if the head knows what is none of them.
        weights: In which numbers it is kept.
        about: What it tells of itself.

    Raises:
        MissingPackageError: If coremltools is not installed.
        ModelError: If it has an operator that is not translated.
        ValueError: If there are more or fewer names than probabilities.
    """
    graph = Graph(content)
    num_classes = graph.shapes[graph.output][-1]
    if len(classes) != num_classes:
        raise ValueError(f"{len(classes)} classes for {num_classes} probabilities; expected one each")
    _refuse_unknown(graph)
    ct = coremltools()
    program = program_of(graph)
    # It draws progress bars, leaves its temporary folder to Python, which warns of it, and warns of layers with fewer
    # different weights than a palette has places.
    with silenced(), warnings.catch_warnings(action="ignore"):
        model = _converted(ct, program, graph, classes, weights)
        model = _compressed(ct, model, weights)
        _describe(model, about, graph.further)
        model.save(str(path))


def program_of(graph: Graph) -> Any:
    """Translate a graph into a program of Core ML from `image`, float32 [1, 3, p, p], 0..255, to its outputs.

    Raises:
        MissingPackageError: If coremltools is not installed.
        ModelError: If an operator does what is not translated.
    """
    ct = coremltools()
    from coremltools.converters.mil import Builder  # noqa: PLC0415 - see library

    _, height, width, channels = graph.shapes[graph.image]
    picture = Builder.TensorSpec(shape=(1, channels, height, width))

    @Builder.program(input_specs=[picture], opset_version=ct.target.iOS15)  # type: ignore[untyped-decorator]
    def program(image: Any) -> Any:
        translation = Translation(Builder, graph, image)
        for node in graph.nodes:
            translation.add(node, OPERATORS[node.kind])
        first = translation.values[graph.output]
        if not graph.further:
            return first
        named = {_OF_FIRST_HEAD: first} | {name: translation.values[at] for name, at in graph.further.items()}
        return tuple(Builder.identity(x=value, name=name) for name, value in named.items())

    return program


def _refuse_unknown(graph: Graph) -> None:
    unknown = sorted({node.kind for node in graph.nodes} - set(OPERATORS))
    if unknown:
        raise ModelError(
            found=f"the model's {', '.join(unknown)}: not translated to Core ML",
            expected=f"a model of {', '.join(sorted(OPERATORS))}",
            remedy="choose another backbone, or build yours from layers that convert to these",
        )


def _converted(ct: Any, program: Any, graph: Graph, classes: Sequence[str], weights: Weights) -> Any:
    (image,) = program.functions["main"].inputs
    _, height, width, channels = graph.shapes[graph.image]
    return ct.convert(
        program,
        inputs=[ct.ImageType(name=image, shape=(1, channels, height, width), color_layout=ct.colorlayout.RGB)],
        classifier_config=ct.ClassifierConfig(list(classes), LABEL, _OF_FIRST_HEAD if graph.further else None),
        convert_to="mlprogram",
        compute_precision=ct.precision.FLOAT16 if weights.computes_in_float16 else ct.precision.FLOAT32,
        minimum_deployment_target=getattr(ct.target, f"iOS{weights.ios}"),
        skip_model_load=True,  # compiling it needs macOS
    )


def _compressed(ct: Any, model: Any, weights: Weights) -> Any:
    """Store the weights of the backbone's large layers in 8 bits; the head's stay, as in every scheme."""
    optimize, least = ct.optimize.coreml, {"weight_threshold": _MIN_WEIGHTS_IN_8_BITS}
    if weights.name == "int8":
        compress = optimize.linear_quantize_weights
        op = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", **least)
    elif weights.name.startswith(PALETTE):
        compress, op = optimize.palettize_weights, optimize.OpPalettizerConfig(mode="kmeans", nbits=8, **least)
    else:
        return model
    weighted = optimize.get_weights_metadata(model, weight_threshold=0)
    heads = [name for name in weighted if name.startswith(HEAD)]
    return compress(model, optimize.OptimizationConfig(op, op_name_configs=dict.fromkeys(heads)))


def _describe(model: Any, about: About, further: Iterable[str]) -> None:
    model.short_description, model.author, model.license = about.description, about.author, about.license
    model.version = about.version
    model.user_defined_metadata.update(about.more)
    model.input_description[IMAGE] = "RGB picture, 0..255; the normalization is inside"
    model.output_description[LABEL] = "The most probable class"
    model.output_description[PROBABILITIES] = "Probability of each class"
    for head in further:
        model.output_description[head] = f"Probability of each label of the head {head}, in the order of the metadata"
