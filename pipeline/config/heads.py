"""What `heads:` in params.yaml may hold: more questions about each take than what its folder is called."""

import re
from collections.abc import Mapping

from pipeline.config.ranges import one_of
from pipeline.errors import ConfigurationError

# How the labels of a head go together: one of them is true of a picture, or many may be.
KINDS = (ONE, MANY) = ("one", "many")

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = ("probabilities", "held_out", "index")  # the output of the first head, and names in its folder


def check_heads(heads: Mapping[str, str]) -> None:
    """Refuse a head whose name no file, stage and output may bear, or whose kind does not exist.

    Raises:
        ConfigurationError: If there is one.
    """
    for name, kind in heads.items():
        if not _NAME.fullmatch(name) or name in _TAKEN:
            raise ConfigurationError(
                found=f"heads: a head called `{name}`",
                expected=f"small letters, digits and _, a letter first, and none of {', '.join(_TAKEN)}",
                remedy="rename it in params.yaml and in data/labels.csv",
            )
        one_of(f"heads.{name}", kind, KINDS)
