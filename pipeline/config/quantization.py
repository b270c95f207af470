"""What conf/quantization/<scheme>.yaml may hold."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.ranges import one_of
from pipeline.errors import ConfigurationError

AS_IS = "as_is"
KINDS = ("none", "weight_only", "dynamic", "static", AS_IS)
WEIGHT_TYPES = ("float", "int", "own")
ROUNDINGS = ("nearest", "calibrated")
FEATURES = ("own", "float32")
# The values of litert_quantizer's AlgorithmName.
ALGORITHMS = (
    *("no_quantize", "min_max_uniform_quantize", "float_casting", "dequantized_weight_recovery", "OCTAV"),
    *("HADAMARD_ROTATION", "DECOMPOSED_HADAMARD_ROTATION", "MSE", "GPTQ", "OSCAR"),
)
CALIBRATIONS = ("fixed", "train")
CONVOLUTION, FULLY_CONNECTED = POINTWISE = ("convolution", "fully_connected")
MIN_MAX = "min_max_uniform_quantize"
_FLOAT_BITS = 32


@dataclass
class QuantizationConfig:
    """What a scheme does to the backbone.

    Attributes:
        scheme: Name of the scheme, which is the name of its file.
        kind: `none` is the backbone in float32; `as_is` is one that came quantized, as it came; `weight_only` stores
            weights small and computes in float32; `dynamic` computes in integers, with activations scaled picture by
            picture; `static` computes in integers, with activations scaled once, by calibration.
        weight_bits: Bits of a stored weight: 32, 16 (float) or 8, 4 (int); 0 with `as_is`. Depthwise convolutions have
            no 4-bit form and take 8, and so does the first layer, whose weights are few.
        weight_type: `float`, `int`, or `own` with `as_is`.
        activation_bits: 32 (float), 8 or 16 with `static`, 0 with `as_is`.
        algorithm: How the scales of weights are chosen: a value of litert_quantizer's AlgorithmName.
        rounding: `nearest` takes each weight to its nearest step; `calibrated` takes them all to where the layers'
            outputs change least on the calibration pictures, and corrects the biases (see pipeline.litert.rounding).
        features: What the head is trained on: `own` features, of the backbone of this scheme; or `float32`, those of
            the float backbone, as is usual elsewhere.
        calibration: What is measured on: `fixed` is data/calibration; `train` is a sample of the train frames, spread
            over labels and takes, so that a new take makes another backbone and computes all bottlenecks anew.
        pointwise: What convolutions of one pixel are written as. `fully_connected` is for weights of 4 bits with
            activations of 8, and lets XNNPACK run them: several times as fast, and with the same features on all
            processors. LiteRT refuses such a model before version 1.2. `convolution` is right for all else.
    """

    scheme: str = MISSING
    kind: str = MISSING
    weight_bits: int = MISSING
    weight_type: str = MISSING
    activation_bits: int = MISSING
    algorithm: str = MISSING
    rounding: str = "nearest"
    features: str = "own"
    calibration: str = "fixed"
    pointwise: str = CONVOLUTION

    def __post_init__(self) -> None:
        """Check that the values can be had together."""
        if MISSING in (
            *(self.kind, self.weight_bits, self.weight_type),
            *(self.activation_bits, self.algorithm),
        ):
            return
        one_of("quantization.kind", self.kind, KINDS)
        one_of("quantization.weight_type", self.weight_type, WEIGHT_TYPES)
        one_of("quantization.algorithm", self.algorithm, ALGORITHMS)
        one_of("quantization.rounding", self.rounding, ROUNDINGS)
        one_of("quantization.features", self.features, FEATURES)
        one_of("quantization.calibration", self.calibration, CALIBRATIONS)
        one_of("quantization.pointwise", self.pointwise, POINTWISE)
        self._check_combination()
        self._check_rounding()
        self._check_pointwise()

    def _check_combination(self) -> None:
        found = (self.weight_type, self.weight_bits, self.activation_bits)
        if found not in _combinations(self.kind):
            raise ConfigurationError(
                found="quantization.weight_type: {}, quantization.weight_bits: {}, quantization.activation_bits: {}"
                " with quantization.kind: {}".format(*found, self.kind),
                expected="weight_type, weight_bits, activation_bits: "
                + " or ".join(f"({', '.join(map(str, values))})" for values in _combinations(self.kind)),
                remedy=f"correct conf/quantization/{self.scheme}.yaml",
            )

    def _check_rounding(self) -> None:
        if self.rounding == "calibrated" and (self.weight_type, self.algorithm) != ("int", MIN_MAX):
            raise ConfigurationError(
                found=f"quantization.rounding: calibrated with quantization.weight_type: {self.weight_type},"
                f" quantization.algorithm: {self.algorithm}",
                expected=f"weight_type: int, algorithm: {MIN_MAX}, which finds the scales of the rounded weights again",
                remedy=f"correct conf/quantization/{self.scheme}.yaml",
            )

    def _check_pointwise(self) -> None:
        if self.pointwise == FULLY_CONNECTED and (self.kind, self.weight_bits) != ("static", 4):
            raise ConfigurationError(
                found=f"quantization.pointwise: {FULLY_CONNECTED} with quantization.kind: {self.kind},"
                f" quantization.weight_bits: {self.weight_bits}",
                expected=f"kind: static, weight_bits: 4; {CONVOLUTION} with all others",
                remedy=f"correct conf/quantization/{self.scheme}.yaml",
            )


def _combinations(kind: str) -> list[tuple[str, int, int]]:
    """Return the (weight_type, weight_bits, activation_bits) that LiteRT has kernels for."""
    if kind == "none":
        return [("float", _FLOAT_BITS, _FLOAT_BITS)]
    if kind == AS_IS:
        return [("own", 0, 0)]
    if kind == "weight_only":
        return [("float", 16, _FLOAT_BITS), ("int", 8, _FLOAT_BITS), ("int", 4, _FLOAT_BITS)]
    if kind == "dynamic":
        return [("int", 8, _FLOAT_BITS), ("int", 4, _FLOAT_BITS)]
    return [("int", 8, 8), ("int", 4, 8), ("int", 8, 16)]
