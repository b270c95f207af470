"""What `viewfinder pretrained` does: a classifier of ImageNet's 1,000 classes, before anybody has filmed anything."""

import sys
from dataclasses import replace
from pathlib import Path

from pipeline.config.backbone import BackboneConfig, BackboneStage
from pipeline.config.backbone_names import overrides
from pipeline.config.composing import composed
from pipeline.config.plain import CONF_FOLDER, PARAMS, load
from pipeline.config.quantization import AS_IS
from pipeline.config.quantize import QuantizeStage
from pipeline.errors import ConfigurationError, InputError
from pipeline.files import layout, write_bytes, write_text
from pipeline.images.calibration import read_calibration
from pipeline.images.photos import read_photo
from pipeline.litert.golden import choose_golden
from pipeline.litert.head import append_softmax
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import embed_labels
from pipeline.litert.quantized import quantized_backbone
from pipeline.processes.workers import num_workers
from pipeline.shipping.golden_files import answer_of, write_golden
from pipeline.shipping.manifest import manifest, to_json
from pipeline.takes.sources import files_in
from pipeline.takes.staging import staged

_FAMILY = "efficientnet_lite"
_NUM_CLASSES = 1000
_NUM_GOLDEN_CANDIDATES = 16  # each is run six times, and int16x8 takes a fifth of a second
_MAX_GOLDEN_PICTURES = 8
_GOLDEN_WIDTH_PIXELS = 640
# A thousandth: of a thousand classes most have next to nothing, where kernels differ by any factor.
_FLOOR = 1e-3


def pretrained(backbone: str, scheme: str) -> Path:
    """Write models/pretrained/: all that models/deployed/ has, but for limits and metrics of takes that nobody filmed.

    Args:
        backbone: A choice of conf/backbone/ that has ImageNet's classifier.
        scheme: A choice of conf/quantization/. Ranges are measured on data/calibration, whatever it says.

    Returns:
        The folder.

    Raises:
        PipelineError: If there is no such backbone or scheme, or the backbone comes without its classifier.
    """
    params = load(PARAMS)
    config = composed(
        "backbone", BackboneStage, params | {"backbone": backbone}, choices={"backbone": overrides}
    ).backbone
    _refuse_without_classifier(config)
    _refuse_unknown_scheme(scheme)
    stage = composed("quantize", QuantizeStage, params, [f"quantization={scheme}"])
    names = class_names()
    sys.stderr.write(f"pretrained: building {config.name}\n")
    from pipeline.backbones.imagenet_classifier import imagenet_classifier  # noqa: PLC0415 - TensorFlow's seconds

    logits = imagenet_classifier(config)
    calibration = read_calibration(layout.CALIBRATION, config.input_pixels, stage.resize)
    quantized = quantized_backbone(logits, replace(stage.quantization, calibration="fixed"), calibration)
    model = embed_labels(
        append_softmax(quantized),
        names,
        name=f"{config.name} {scheme}, ImageNet",
        description="Classifier of ImageNet's classes, by Viewfinder. Input: the whole picture, RGB, 0..255.",
    )
    answer = answer_of(Model(model, num_workers()), stage.resize)
    paths = files_in(layout.CALIBRATION)
    paths = paths[:: max(1, len(paths) // _NUM_GOLDEN_CANDIDATES)]
    pictures = [(None, read_photo(path, width_pixels=_GOLDEN_WIDTH_PIXELS)) for path in paths]
    with staged(layout.PRETRAINED) as staging:
        write_bytes(staging / "model.tflite", model)
        write_text(staging / "labels.txt", "".join(f"{name}\n" for name in names))
        write_golden(staging, choose_golden(pictures, answer, _MAX_GOLDEN_PICTURES), answer, None, floor=_FLOOR)
        described = manifest(
            staging,
            scheme=scheme,
            backbone=config.name,
            resize=stage.resize,
            threshold=None,
            more={"weights": config.source} | _published_accuracy(config),
        )
        write_text(staging / "manifest.json", to_json(described))
    sys.stderr.write(f"pretrained: {config.name} {scheme}, {len(model) / 2**20:.2f} MiB, is in {layout.PRETRAINED}/\n")
    return layout.PRETRAINED


def _refuse_without_classifier(config: BackboneConfig) -> None:
    """Tell before TensorFlow is imported; weights of another's choice may be anything."""
    if config.family != _FAMILY or config.weights == "random":
        raise ConfigurationError(
            found=f"{config.name}, of the family {config.family} with the weights {config.weights}",
            expected=f"the family {_FAMILY}, whose weights come with ImageNet's classifier",
            remedy="choose efficientnet_lite0, 1 or 2; 3 and 4 need a file of weights (conf/backbone/)",
        )


def _published_accuracy(config: BackboneConfig) -> dict[str, object]:
    """Return what was published for the network as it was trained; in another resolution it is another."""
    is_as_trained = (CONF_FOLDER / "backbone" / f"{config.name}.yaml").is_file()
    return {"imagenet_top1_percent_float32": config.imagenet_top1_percent} if is_as_trained else {}


def _refuse_unknown_scheme(scheme: str) -> None:
    known = sorted(path.stem for path in (CONF_FOLDER / "quantization").glob("*.yaml") if path.stem != AS_IS)
    if scheme not in known:
        raise ConfigurationError(
            found=f"--scheme {scheme}", expected=f"one of {', '.join(known)}", remedy="choose one of these"
        )


def class_names() -> tuple[str, ...]:
    """Read the names of ImageNet's classes, in the order of ILSVRC 2012.

    Raises:
        InputError: If the file is not what came with the project.
    """
    path = layout.IMAGENET_CLASSES
    names = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if len(names) != _NUM_CLASSES or len(set(names)) != _NUM_CLASSES:
        raise InputError(
            found=f"{path} with {len(set(names))} names",
            expected=f"{_NUM_CLASSES} different ones",
            remedy=f"bring it back: git checkout {path}",
        )
    return tuple(names)
