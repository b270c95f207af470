"""Stage `architecture`: turns the name of a backbone into all that the name says.

Reads conf/backbone/; writes models/backbone/architecture.yaml, which DVC tracks as a parameters file of the stages
behind. They could not track a file in conf/backbone/, as there is none for each width and resolution; and an edit of an
architecture that is not chosen re-runs this stage alone, which takes a moment.
"""

import sys
from dataclasses import asdict

import yaml

from pipeline.config.application import run_stage
from pipeline.config.architecture import ArchitectureStage
from pipeline.config.backbone import BackboneConfig
from pipeline.config.backbone_names import overrides
from pipeline.files import layout, write_text

_HEADER = "# What `backbone` in params.yaml means. The stage `architecture` makes this file from conf/backbone/.\n"
_OFFERS = ("widths", "published")  # what could be chosen instead: it changes no result (resolutions choose weights)


def architecture(config: ArchitectureStage) -> None:
    """Write what the choice says."""
    write_text(layout.ARCHITECTURE, as_yaml(config.backbone))
    sys.stderr.write(f"architecture: {summary(config.backbone)}\n")


def as_yaml(config: BackboneConfig) -> str:
    """Return a configuration as YAML, without what its architecture offers besides."""
    values = {key: value for key, value in asdict(config).items() if key not in _OFFERS}
    return _HEADER + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def summary(config: BackboneConfig) -> str:
    """Return one line for a person: name, width, resolution, and what is published for them."""
    figures = [
        f"{float(f'{value / unit:.3g}'):,g} {what}"
        for value, unit, what in (
            (config.num_parameters, 1e6, "M parameters"),
            (config.num_multiply_adds, 1e6, "M multiply-adds"),
            (config.imagenet_top1_percent, 1, "% on ImageNet"),
        )
        if value is not None
    ]
    published = f"published: {', '.join(figures)}" if figures else "nothing is published for this size"
    return f"{config.name}, width {config.width:g}, {config.input_pixels} x {config.input_pixels} pixels; {published}"


def main() -> None:
    """Run the stage from the command line."""
    run_stage("architecture", ArchitectureStage, architecture, {"backbone": overrides})


if __name__ == "__main__":
    main()
