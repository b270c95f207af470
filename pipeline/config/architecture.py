"""What `python -m pipeline.architecture` takes: the choice of backbone."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.backbone import BackboneConfig


@dataclass
class ArchitectureStage:
    """Configuration of `python -m pipeline.architecture`."""

    backbone: BackboneConfig = MISSING
