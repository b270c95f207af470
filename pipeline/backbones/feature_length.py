"""Holds a backbone to the length of its feature vector."""

from pipeline.config.backbone import BackboneConfig, expected_feature_length
from pipeline.config.backbone_names import file_of
from pipeline.errors import ConfigurationError


def refuse_other_length(config: BackboneConfig, feature_length: int) -> None:
    """Raise ConfigurationError unless a backbone gives as many numbers as its file says."""
    expected = expected_feature_length(config)
    if feature_length != expected:
        raise ConfigurationError(
            found=f"feature_length: {expected} in {file_of(config.name)}",
            expected=f"{feature_length}, the length of this architecture's feature vector",
            remedy=f"write feature_length: {feature_length}",
        )
