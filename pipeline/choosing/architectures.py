"""Names of architectures at resolutions (see pipeline.config.backbone_names), and what is known of their cost."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.config.backbone import BackboneConfig, published_figures
from pipeline.config.backbone_names import architecture_of, resolve


def names_of(backbones: Sequence[str], input_pixels: Sequence[int | None]) -> list[str]:
    """Return the names of every backbone at every resolution.

    Args:
        backbones: Names as in params.yaml; those that say a resolution stand for that one alone.
        input_pixels: Sides of the input picture; None for the backbone's own.

    Raises:
        PipelineError: If a name means nothing.
    """
    found = []
    for backbone in backbones:
        is_open = resolve(backbone).input_pixels is None
        found += [f"{backbone}_{pixels}" if pixels and is_open else backbone for pixels in input_pixels]
    return list(dict.fromkeys(found))


def input_pixels_of(name: str) -> int:
    """Return the side of an architecture's input picture."""
    resolved = resolve(name)
    return resolved.input_pixels or architecture_of(resolved.base).input_pixels


def num_multiply_adds(name: str) -> tuple[int, bool] | None:
    """Return an architecture's multiply-adds for one picture, and whether that is the published number.

    The work of a convolution goes with the area of the picture, so where nothing is published for a resolution the
    number of the architecture's own is scaled by it. None if nothing is published for that either.
    """
    resolved = resolve(name)
    own = architecture_of(resolved.base)
    sized = own if resolved.width is None else replace(own, width=resolved.width)
    pixels = resolved.input_pixels or own.input_pixels
    exact, at_own = _published(own, replace(sized, input_pixels=pixels)), _published(own, sized)
    if exact is not None:
        return exact, True
    return None if at_own is None else (round(at_own * (pixels / own.input_pixels) ** 2), False)


def _published(own: BackboneConfig, meant: BackboneConfig) -> int | None:
    """Return what is published; the figures at the top of the file are of the architecture's own width and size."""
    return published_figures(meant).num_multiply_adds or (own.num_multiply_adds if meant == own else None)
