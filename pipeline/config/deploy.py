"""What `python -m pipeline.deploy` takes: the scheme to deploy, and what the manifest tells about the input."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.backbone import BackboneConfig


@dataclass
class DeployStage:
    """Configuration of `python -m pipeline.deploy`."""

    deploy: str = MISSING
    resize: str = MISSING
    backbone: BackboneConfig = MISSING
