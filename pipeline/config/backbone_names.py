"""What a name of a backbone means: an architecture, and perhaps a width and a resolution.

`<base>[_<width>][_<pixels>]`: the base is a file in conf/backbone/, the width is one of those that the file lists, in
percent and three digits, and the pixels are the side of the input. A number alone is a width if the file lists it, else
pixels. `mobilenet_0.50_160`, as retrain.py wrote it, is `mobilenet_v1_050_160`.
"""

import difflib
import re
from dataclasses import asdict, dataclass, replace

from pipeline.config.backbone import BackboneConfig, PublishedFigures, published_figures, width_key
from pipeline.config.plain import CONF_FOLDER, read_plain
from pipeline.errors import ConfigurationError

_NUMBERS = re.compile(r"(?:_(?P<width>\d{3}))??(?:_(?P<pixels>[1-9]\d*))?")
_RETRAIN = re.compile(r"mobilenet_(?P<width>\d\.\d+)_(?P<pixels>\d+)(?P<quantized>_quantized)?")


@dataclass(frozen=True)
class Resolved:
    """What a name says.

    Attributes:
        base: Name of the architecture: conf/backbone/<base>.yaml.
        width: Factor on the number of channels; None for the architecture's own.
        input_pixels: Width and height of the input; None for the architecture's own.
    """

    base: str
    width: float | None
    input_pixels: int | None


def resolve(name: str) -> Resolved:
    """Tell what a name of params.yaml means.

    Raises:
        ConfigurationError: If there is no such architecture, or it does not come in that width or resolution.
    """
    return _resolved(name)[0]


def overrides(name: str) -> list[str]:
    """Return a name as Hydra overrides of the group `backbone`.

    The published figures become those of the very width and resolution, or null.

    Raises:
        ConfigurationError: If the name means nothing (see `resolve`).
    """
    resolved, own = _resolved(name)
    meant = replace(
        own,
        width=own.width if resolved.width is None else resolved.width,
        input_pixels=own.input_pixels if resolved.input_pixels is None else resolved.input_pixels,
    )
    values = {"name": name, "width": meant.width, "input_pixels": meant.input_pixels, **asdict(_figures(own, meant))}
    return [
        f"backbone={resolved.base}",
        *(f"backbone.{key}={'null' if value is None else value}" for key, value in values.items()),
    ]


def bases() -> list[str]:
    """Return the names of the architectures, which are the files in conf/backbone/."""
    return sorted(path.stem for path in (CONF_FOLDER / "backbone").glob("*.yaml"))


def file_of(name: str) -> str:
    """Return the path of the file that a name's architecture stands in, for a message to a person."""
    return f"conf/backbone/{max(_matching(_modern(name)), key=len, default=name)}.yaml"


def architecture_of(base: str) -> BackboneConfig:
    """Read conf/backbone/<base>.yaml.

    Raises:
        ConfigurationError: If it does not hold what it should.
    """
    return read_plain(f"backbone/{base}.yaml", BackboneConfig)


def _resolved(name: str) -> tuple[Resolved, BackboneConfig]:
    """Return what a name says, and what its file says."""
    modern = _modern(name)
    base = _base_of(modern, name)
    config = architecture_of(base)
    widths = {width_key(width): width for width in config.widths}
    numbers = _NUMBERS.fullmatch(modern.removeprefix(base))
    if numbers is None:
        raise _refusal(name, f"{base}{_offers(config)}")
    width, pixels = numbers["width"], numbers["pixels"]
    if width is None and pixels in widths:
        width, pixels = pixels, None
    if width not in {None, *widths} or (pixels and int(pixels) < config.min_input_pixels):
        raise _refusal(name, f"{base}{_offers(config)}")
    return Resolved(base, widths[width] if width else None, int(pixels) if pixels else None), config


def _modern(name: str) -> str:
    """Return a name of retrain.py's MobileNets as it is written here, and any other as it is."""
    match = _RETRAIN.fullmatch(name)
    if match is None:
        return name
    modern = f"mobilenet_v1_{width_key(float(match['width']))}_{match['pixels']}"
    if match["quantized"]:
        raise ConfigurationError(
            found=f"backbone: {name}",
            expected="an architecture alone; what is quantized, and how, stands in `quantization`",
            remedy=f"write `backbone: {modern}` in params.yaml, and int8 in the list `quantization`",
        )
    return modern


def _base_of(modern: str, name: str) -> str:
    """Return the longest base that a name begins with."""
    matching = _matching(modern)
    if not matching:
        listed = "".join(f"\n    {base}{_offers(architecture_of(base))}" for base in bases())
        raise _refusal(name, f"one of these, and what may follow it:{listed}")
    return max(matching, key=len)


def _matching(modern: str) -> list[str]:
    """Return the bases that a name begins with."""
    return [base for base in bases() if f"{modern}_".startswith(f"{base}_")]


def _offers(config: BackboneConfig) -> str:
    """Return what may follow a base, such as `[_050 | _100][_<pixels>], pixels 128 | 224 or any from 32`."""
    widths = " | ".join(f"_{width_key(width)}" for width in config.widths)
    pixels = ", ".join(map(str, config.resolutions or [config.input_pixels]))
    return f"{f'[{widths}]' if widths else ''}[_<pixels>], pixels {pixels} or any from {config.min_input_pixels}"


def _figures(own: BackboneConfig, meant: BackboneConfig) -> PublishedFigures:
    """Return the published figures: those at the top of the file are of the architecture's own width and resolution."""
    if meant != own or own.published:
        return published_figures(meant)
    return PublishedFigures(own.num_parameters, own.num_multiply_adds, own.imagenet_top1_percent)


def _refusal(name: str, expected: str) -> ConfigurationError:
    near = ", ".join(difflib.get_close_matches(name, bases()))
    remedy = f"correct `backbone` in params.yaml{f' (near it: {near})' if near else ''}"
    return ConfigurationError(found=f"backbone: {name}", expected=expected, remedy=remedy)
