"""What `python -m pipeline.deploy` takes: the scheme to deploy, and what the manifest tells."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class DeployStage:
    """Configuration of `python -m pipeline.deploy`.

    Attributes:
        deploy: The scheme that goes into models/deployed/.
        resize: How the app must fit pictures: `stretch` (what phones do), `crop` or `pad`.
        backbone: Name of the backbone.
    """

    deploy: str = MISSING
    resize: str = MISSING
    backbone: str = MISSING
