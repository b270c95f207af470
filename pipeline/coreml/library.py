"""The one door to coremltools: imported late, quietly, and without TensorFlow."""

import logging
from typing import Any

from pipeline.errors import MissingPackageError
from pipeline.litert.runtimes import tensorflow_hidden


def coremltools() -> Any:
    """Return the module.

    It imports TensorFlow where it can, for five seconds, and tells at length which versions it has not been tested
    with: neither matters here, for the graph is built operator by operator.

    Raises:
        MissingPackageError: If it is not installed.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    try:
        with tensorflow_hidden():
            import coremltools as found  # noqa: PLC0415 - large, and not installed everywhere
    except ImportError as error:
        raise MissingPackageError(
            found=f"coremltools cannot be imported ({error})",
            expected="the Python package coremltools, which writes packages of Core ML",
            remedy='pip install ".[coreml]"',
        ) from error
    return found
