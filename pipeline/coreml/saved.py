"""A package as it lies on the disk, computed in numpy: Core ML itself runs on Apple's machines alone.

Its graph and its weights are read back by coremltools, so what is proved is the file, not what it was made from. What
Apple's compiler and processors make of the same graph is not: they add in another order, and may choose float16.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.coreml.arithmetic import OPERATORS
from pipeline.coreml.library import coremltools
from pipeline.errors import ModelError
from pipeline.processes.silence import silenced

_PROGRAM, _WEIGHTS = "main", "Data/com.apple.CoreML/weights"
_CONSTANT, _COMPRESSED, _ANSWER = "const", "constexpr_", "classify"
_FLOAT16 = "fp16"


class SavedPackage:
    """A classifier in a package.

    Attributes:
        input_pixels: Side of the square picture.
        classes: What it tells apart, in the order of its probabilities.
        further: Names of the heads beside the first.
        description: The specification's own (`Model.description`).
        specification_version: Of the file; 6 is iOS 15's, 7 is iOS 16's.
    """

    def __init__(self, path: Path) -> None:
        """Read a package.

        Args:
            path: A folder whose name ends in .mlpackage.

        Raises:
            MissingPackageError: If coremltools is not installed.
            ModelError: If there is an operator in it that is not computed here.
        """
        ct = coremltools()
        from coremltools.converters.mil.frontend.milproto.load import load  # noqa: PLC0415 - see library

        with silenced():
            specification = ct.utils.load_spec(str(path))
            program = load(specification, specification.specificationVersion, str(path / _WEIGHTS))
        self.description = specification.description
        self.specification_version = int(specification.specificationVersion)
        image = self.description.input[0]
        self.input_pixels = int(image.type.imageType.width)
        self._image = str(image.name)
        self._steps = list[Any]()
        self._constants = dict[str, Any]()
        for operator in program.functions[_PROGRAM].operations:
            self._take(operator)
        answers = [str(output.name) for output in self.description.output]
        self.further = [name for name in answers if name in self._made()]

    def __call__(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute the probabilities, those of all heads one behind the other.

        Args:
            picture: uint8 [input_pixels, input_pixels, 3], RGB, 0..255.

        Returns:
            float32 [num_classes, and the labels of further heads].
        """
        values: dict[str, Any] = dict(self._constants)
        values[self._image] = picture.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # what leaves float16's range shows in the probabilities
            for operator in self._steps:
                result = OPERATORS[operator.op_type](**_arguments(operator, values))
                values[operator.outputs[0].name] = _rounded(result, operator.outputs[0])
        found = [values[name].reshape(-1) for name in (self._probabilities, *self.further)]
        probabilities: npt.NDArray[np.float32] = np.concatenate(found).astype(np.float32)
        return probabilities

    def _made(self) -> set[str]:
        """Return the names of what the operators make; the classifier's own outputs are not among them."""
        return {str(operator.outputs[0].name) for operator in self._steps}

    def _take(self, operator: Any) -> None:
        """Keep an operator in the order of the program, or what it always gives."""
        name = operator.outputs[0].name
        if operator.op_type == _CONSTANT:
            self._constants[name] = _widened(operator.outputs[0].val)
        elif operator.op_type.startswith(_COMPRESSED):
            self._constants[name] = _widened(operator.materialized_val_inference())
        elif operator.op_type == _ANSWER:
            self.classes = [str(one) for one in operator.inputs["classes"].val]
            self._probabilities = operator.inputs["probabilities"].name
        elif operator.op_type in OPERATORS:
            self._steps.append(operator)
        else:
            raise ModelError(
                found=f"the package's operator {operator.op_type} ({name}), which cannot be computed to prove it",
                expected=f"one of {', '.join(sorted(OPERATORS))}",
                remedy="choose another backbone, or the version of coremltools in requirements-dev.lock",
            )


def _arguments(operator: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(given, values) for name, given in operator.inputs.items() if given is not None}


def _value(given: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(given, (list, tuple)):
        return [_value(one, values) for one in given]
    return values[given.name] if given.name in values else _widened(given.val)


def _widened(value: Any) -> Any:
    """Return float16 numbers as float32, in which they are computed with."""
    return value.astype(np.float32) if getattr(value, "dtype", None) == np.float16 else value


def _rounded(result: Any, output: Any) -> npt.NDArray[Any]:
    """Round to the numbers that the program keeps between two operators; sums within one are float32's."""
    found: npt.NDArray[Any] = np.asarray(result, np.float32)
    return found.astype(np.float16).astype(np.float32) if output.dtype.__name__ == _FLOAT16 else found
