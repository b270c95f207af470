"""The schemes that params.yaml lists. DVC hands a stage no list on its command line, so this one value is read here."""

from pathlib import Path

from pipeline.config.plain import load
from pipeline.errors import PipelineError

_PARAMS = Path("params.yaml")


def listed_schemes() -> list[str]:
    """Return `quantization` of params.yaml, in its order.

    Raises:
        PipelineError: If the file is missing, or what it holds is no list of names.
    """
    schemes = load(_PARAMS).get("quantization")
    if not isinstance(schemes, list) or not all(isinstance(scheme, str) for scheme in schemes):
        raise PipelineError(
            found=f"{_PARAMS}: `quantization: {schemes}`",
            expected="a list of schemes, such as `quantization: [float32, int8]`",
            remedy="correct it; `python -m pipeline.check` knows the choices",
        )
    return schemes
