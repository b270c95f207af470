"""Runs a classifier on frames in one of four runtimes that should agree.

- `litert`: LiteRT with XNNPACK, what an app gets that uses LiteRT itself.
- `reference`: LiteRT's plain C++ kernels, which define what each operator gives. For Lite0 about forty times as slow.
- `mediapipe`: MediaPipe Tasks, the C++ graph of Android and iOS apps: it is given the frame as it is stored, and scales
  and normalizes it by itself.
- `arm64`: LiteRT with XNNPACK for the processors of phones, emulated, behind the project's own preprocessing.

Any picture classifier will do, not only the project's own: uint8, int8 or float32 pixels, square or not.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.config.evaluate import ARM64, LITERT, MEDIAPIPE, REFERENCE
from pipeline.errors import ConfigurationError, MissingPackageError, ModelError, PipelineError, combine
from pipeline.images.model_input import scale_like_phone, to_model_input
from pipeline.litert.arm64 import Arm64Interpreter
from pipeline.litert.arm64_chips import DEFAULT_CHIP
from pipeline.litert.interpreter import load_interpreter
from pipeline.litert.metadata import read_normalization
from pipeline.processes.progress import counted
from pipeline.processes.silence import silenced
from pipeline.processes.workers import num_workers

_SAME_STEP = 0.02  # -1..1 is divided by 127 or by 127.5, and calibration pictures may lack the very ends
_NO_THRESHOLD = 1e-30  # MediaPipe takes 0 for "as the model's metadata say", and would leave such scores out

Rgb = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Normalization:
    """What a model with float pixels wants: (pixel - mean) / std, one number for all channels or three for R, G, B."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Signature:
    """What a classifier takes and gives.

    Attributes:
        height: Of the input, in pixels.
        width: Of the input, in pixels.
        input_type: float32, uint8 or int8.
        input_step: What the last bit of an integer input stands for; 0 where none is told.
        input_zero_point: The integer that stands for 0.
        output_lengths: Length of each output vector: one, or one a head.
        output_step: What the last bit of an integer output stands for; 0 for a float output.
        output_zero_point: The integer that stands for 0.
    """

    height: int
    width: int
    input_type: npt.DTypeLike
    input_step: float
    input_zero_point: int
    output_lengths: tuple[int, ...]
    output_step: float
    output_zero_point: int

    @property
    def num_outputs(self) -> int:
        """Return how many numbers a classifier answers with: the outputs one behind the other."""
        return sum(self.output_lengths)


class Classifier(Protocol):
    """Answers frames. Not thread-safe."""

    def __call__(self, rgb: Rgb) -> Floats:
        """Return the output, float32 [num_outputs], for a frame uint8 [height, width, 3] of any size."""

    def close(self) -> None:
        """Free what Python does not."""


class LiteRtClassifier:
    """A model in LiteRT, behind the project's own preprocessing."""

    def __init__(
        self,
        content: bytes,
        *,
        resize: str,
        normalization: Normalization | None = None,
        runtime: str = LITERT,
    ) -> None:
        """Load a model.

        Args:
            content: A .tflite file.
            resize: See `model_input.to_model_input`.
            normalization: Of a model that takes float32, and of no other; None for what its metadata say.
            runtime: `litert`, `reference` or `arm64`.

        Raises:
            ModelError: If LiteRT cannot load it, or it is no picture classifier.
            ConfigurationError: If the normalization does not fit.
        """
        self._arm64 = Arm64Interpreter(content, chip=DEFAULT_CHIP) if runtime == ARM64 else None
        try:
            self._load(content, normalization, runtime)
        except BaseException:
            self.close()
            raise
        self._resize = resize

    def _load(self, content: bytes, normalization: Normalization | None, runtime: str) -> None:
        self._interpreter = self._arm64 or load_interpreter(content, 1, reference_kernels=runtime == REFERENCE)
        self._signature = _signature_of(self._interpreter)
        if normalization is None and self._signature.input_type is np.float32:
            described = read_normalization(content)
            normalization = None if described is None else Normalization(*described)
        _check_normalization(self._signature, normalization)
        self._normalization = normalization
        self._input_index: int = self._interpreter.get_input_details()[0]["index"]
        self._output_indices: list[int] = [output["index"] for output in self._interpreter.get_output_details()]

    def __call__(self, rgb: Rgb) -> Floats:
        """Return the output for a frame; integers are turned into what they stand for."""
        self._interpreter.set_tensor(self._input_index, self._to_input(rgb)[np.newaxis])
        self._interpreter.invoke()
        outputs = [self._interpreter.get_tensor(index).reshape(-1) for index in self._output_indices]
        output = np.concatenate(outputs).astype(np.float32)
        if self._signature.output_step:
            output = (output - self._signature.output_zero_point) * np.float32(self._signature.output_step)
        floats: Floats = output
        return floats

    def close(self) -> None:
        """End the emulated program; LiteRT's own interpreter goes with the object."""
        if self._arm64 is not None:
            self._arm64.close()

    def _to_input(self, rgb: Rgb) -> npt.NDArray[Any]:
        found = self._signature
        pixels = to_rectangle(rgb, found.height, found.width, self._resize)
        if self._normalization is None:
            return pixels if found.input_type is np.uint8 else (pixels.astype(np.int16) - 128).astype(np.int8)
        mean, std = (np.array(values, np.float32) for values in (self._normalization.mean, self._normalization.std))
        normalized: Floats = (pixels - mean) / std
        if found.input_type is np.float32:
            return normalized
        limits = np.iinfo(found.input_type)
        steps = np.round(normalized / np.float32(found.input_step)) + found.input_zero_point
        integers: npt.NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(found.input_type)
        return integers


class MediaPipeClassifier:
    """A model in MediaPipe Tasks' ImageClassifier."""

    def __init__(self, content: bytes, output_lengths: Sequence[int]) -> None:
        """Load a model.

        Args:
            content: A .tflite file; one that takes float32 must carry its normalization as metadata.
            output_lengths: Length of each of its output vectors.

        Raises:
            MissingPackageError: If MediaPipe or a system library that it needs is missing.
            ModelError: If MediaPipe refuses the model.
        """
        self._output_lengths = output_lengths
        self._classifier, self._to_image = _mediapipe_classifier(content)

    def __call__(self, rgb: Rgb) -> Floats:
        """Return the score of each output; one that MediaPipe leaves out is 0."""
        scores = np.zeros(sum(self._output_lengths), np.float32)
        for head in self._classifier.classify(self._to_image(rgb)).classifications:
            start = sum(self._output_lengths[: head.head_index])
            for category in head.categories:
                scores[start + category.index] = category.score
        return scores

    def close(self) -> None:
        """Free the graph and its threads."""
        self._classifier.close()


def signature(content: bytes) -> Signature:
    """Read what a classifier takes and gives.

    Raises:
        ModelError: If LiteRT cannot load it, or it does not take one picture and give one vector.
    """
    return _signature_of(load_interpreter(content, 1))


def open_classifier(
    content: bytes, *, runtime: str, resize: str, normalization: Normalization | None = None
) -> Classifier:
    """Load a model into a runtime.

    Args:
        content: A .tflite file.
        runtime: One of `RUNTIMES`.
        resize: See `model_input.to_model_input`. MediaPipe knows `stretch` alone.
        normalization: Of a model that takes float32; None for what its metadata say, and always for MediaPipe, which
            reads those itself.

    Raises:
        MissingPackageError: If the runtime is not installed.
        ConfigurationError: If it cannot do what is asked for.
        ModelError: If the model is none for it.
    """
    if runtime != MEDIAPIPE:
        return LiteRtClassifier(content, resize=resize, normalization=normalization, runtime=runtime)
    if resize != "stretch":
        raise ConfigurationError(
            found=f"resize: {resize} with runtime: {MEDIAPIPE}",
            expected="resize: stretch, the only one that MediaPipe Tasks does",
            remedy="choose resize: stretch, or another runtime",
        )
    if normalization is not None:
        raise ConfigurationError(
            found=f"a mean and a standard deviation with runtime: {MEDIAPIPE}",
            expected="none: MediaPipe Tasks reads them from the model's metadata",
            remedy="leave out --mean and --std, or choose another runtime",
        )
    return MediaPipeClassifier(content, signature(content).output_lengths)


def classify(
    batches: Sequence[Iterable[Rgb]], open_one: Callable[[], Classifier], *, title: str | None, unit: str
) -> list[Floats]:
    """Run a classifier on batches of frames, several batches at the same time, each in an interpreter of its own.

    Args:
        batches: Each is gone through once, by one thread, so it may decode frames as it goes.
        open_one: Loads the classifier.
        title: For the progress bar; None for none.
        unit: What a batch is, for the progress bar.

    Returns:
        float32 [num_frames, num_outputs] for each batch.

    Raises:
        PipelineError: If batches raised it; all of them are told.
    """
    classifiers = [open_one() for _ in range(min(num_workers(), len(batches)))]
    idle: SimpleQueue[Classifier] = SimpleQueue()
    for classifier in classifiers:
        idle.put(classifier)
    executor = ThreadPoolExecutor(max(len(classifiers), 1))
    try:
        results = executor.map(lambda batch: _run(batch, idle), batches)
        outcomes = list(counted(results, title, total=len(batches), unit=unit) if title else results)
    finally:
        executor.shutdown(cancel_futures=True)
        for classifier in classifiers:
            classifier.close()
    errors = [outcome for outcome in outcomes if isinstance(outcome, PipelineError)]
    if errors:
        raise combine(errors, f"{unit}s")
    return [outcome for outcome in outcomes if not isinstance(outcome, PipelineError)]


def to_rectangle(rgb: Rgb, height: int, width: int, resize: str) -> Rgb:
    """Scale an upright picture to a model's input: `to_model_input`, for inputs that need not be square.

    Args:
        rgb: uint8 [any, any, 3], 0..255.
        height: Of the input, in pixels.
        width: Of the input, in pixels.
        resize: `stretch`, `crop` (the largest centred part of the input's shape) or `pad` (with black, centred).

    Returns:
        uint8 [height, width, 3].

    Raises:
        ConfigurationError: If `resize` is none of these.
    """
    if height == width or resize not in ("stretch", "crop", "pad"):
        return to_model_input(rgb, height, resize)
    vertical, horizontal = rgb.shape[0] / height, rgb.shape[1] / width
    if resize == "crop":
        scale = min(vertical, horizontal)
        rgb = _centred(rgb, max(1, round(height * scale)), max(1, round(width * scale)))
    if resize != "pad":
        return scale_like_phone(rgb, height, width)
    scale = max(vertical, horizontal)
    inner = scale_like_phone(rgb, max(1, round(rgb.shape[0] / scale)), max(1, round(rgb.shape[1] / scale)))
    padded = np.zeros((height, width, 3), np.uint8)
    _centred(padded, *inner.shape[:2])[:] = inner
    return padded


def _centred(rgb: Rgb, height: int, width: int) -> Rgb:
    """Return the middle of a picture, not a copy."""
    top, left = (rgb.shape[0] - height) // 2, (rgb.shape[1] - width) // 2
    return rgb[top : top + height, left : left + width]


def _run(batch: Iterable[Rgb], idle: "SimpleQueue[Classifier]") -> Floats | PipelineError:
    """Run one batch in a classifier that nobody else uses meanwhile."""
    classifier = idle.get()
    try:
        return np.array([classifier(rgb) for rgb in batch], np.float32)
    except PipelineError as error:
        return error
    finally:
        idle.put(classifier)


def _signature_of(interpreter: Any) -> Signature:
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if not _is_picture(inputs):
        is_channels_first = len(inputs) == 1 and list(inputs[0]["shape_signature"])[1:2] == [3]
        raise ModelError(
            found=f"the model takes {_describe(inputs)}{', channels first (NCHW)' if is_channels_first else ''}",
            expected="one picture [1, height, width, 3] (NHWC) of fixed size, uint8, int8 or float32",
            remedy="export it again in that form, which phones' libraries want too",
        )
    if not outputs or not all(map(_is_vector, outputs)) or (len(outputs) > 1 and _are_quantized(outputs)):
        raise ModelError(
            found=f"the model gives {_describe(outputs)}",
            expected="one number a label: float32 [1, num_labels], or uint8 or int8 with a scale",
            remedy="export it with such outputs, several ones as float32; this scores classifiers, not detectors",
        )
    _, height, width, _ = map(int, inputs[0]["shape"])
    (input_step, input_zero), (step, zero) = (details[0]["quantization"] for details in (inputs, outputs))
    taken = (inputs[0]["dtype"], float(input_step), int(input_zero))
    return Signature(
        height, width, *taken, tuple(int(output["shape"][-1]) for output in outputs), float(step), int(zero)
    )


def _is_picture(details: list[dict[str, Any]]) -> bool:
    """Tell whether the input is one picture; a batch size that is left open counts as 1."""
    if len(details) != 1:
        return False
    shape = list(details[0]["shape_signature"])
    has_shape = len(shape) == 4 and shape[0] in (1, -1) and min(shape[1:3]) > 0 and shape[3] == 3
    return has_shape and details[0]["dtype"] in (np.uint8, np.int8, np.float32)


def _is_vector(detail: dict[str, Any]) -> bool:
    """Tell whether an output is one vector, [1, n] or [1, 1, 1, n]."""
    shape, dtype = detail["shape"], detail["dtype"]
    is_flat = len(shape) > 1 and int(np.prod(shape)) == int(shape[-1])
    return is_flat and (dtype is np.float32 or (dtype in (np.uint8, np.int8) and detail["quantization"][0] > 0))


def _are_quantized(details: list[dict[str, Any]]) -> bool:
    """Tell whether one of the outputs is of integers, which have a scale each."""
    return any(detail["dtype"] is not np.float32 for detail in details)


def _describe(details: list[dict[str, Any]]) -> str:
    return " and ".join(
        f"{np.dtype(detail['dtype']).name} {list(map(int, detail['shape_signature']))}" for detail in details
    )


def _check_normalization(found: Signature, normalization: Normalization | None) -> None:
    if normalization is None and not _takes_pixels(found):
        kind, step = np.dtype(found.input_type).name, f" in steps of {found.input_step:g}" if found.input_step else ""
        raise ConfigurationError(
            found=f"the model takes {kind} pixels{step}, and nothing tells what range",
            expected="the mean and standard deviation that pixels 0..255 were normalized with in training",
            remedy="give --mean and --std: 0 and 255 make 0..1 of them, 127.5 and 127.5 make -1..1",
        )
    if normalization is not None and found.input_type is not np.float32 and not found.input_step:
        raise ConfigurationError(
            found=f"a mean and a standard deviation for a model that takes {np.dtype(found.input_type).name} pixels",
            expected="none: such a model has its normalization inside, and cameras give uint8",
            remedy="leave out --mean and --std",
        )


def _takes_pixels(found: Signature) -> bool:
    """Tell whether a model takes pixels as they are (uint8) or minus 128 (int8).

    An int8 input does if its whole range stands for 0..1, for 0..255 or for -1..1, as converters make it of a float
    input that was normalized so. Of other ranges the mean and the standard deviation must be known.
    """
    if found.input_type is np.uint8 or not found.input_step:
        return found.input_type is not np.float32
    is_from_zero = found.input_zero_point == -128 and any(
        abs(found.input_step * whole - 1) < _SAME_STEP for whole in (1, 255)
    )
    is_around_zero = abs(found.input_zero_point) <= 1 and abs(found.input_step * 127.5 - 1) < _SAME_STEP
    return found.input_type is np.int8 and (is_from_zero or is_around_zero)


def _mediapipe_classifier(content: bytes) -> tuple[Any, Callable[[Rgb], Any]]:
    """Return MediaPipe's classifier, and what makes its pictures of frames."""
    try:
        with tensorflow_hidden(), silenced():  # it announces its delegate
            import mediapipe  # noqa: PLC0415 - large, seldom used, and not installed everywhere

            vision = mediapipe.tasks.vision
            base_options = mediapipe.tasks.BaseOptions(model_asset_buffer=content)
            options = vision.ImageClassifierOptions(
                base_options=base_options, max_results=-1, score_threshold=_NO_THRESHOLD
            )
            classifier = vision.ImageClassifier.create_from_options(options)
    except ModuleNotFoundError as error:
        raise _missing(f"MediaPipe is not installed ({error})", "pip install mediapipe") from error
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        if type(error) in (
            ImportError,
            OSError,
        ):  # so says the loader; MediaPipe raises subclasses
            remedy = "apt-get install libegl1 libgles2"
            raise _missing(f"MediaPipe lacks a system library ({error})", remedy) from error
        raise ModelError(
            found=f"a model that MediaPipe Tasks refuses: {error}",
            expected="uint8 pixels, or float32 pixels with their normalization as TensorFlow Lite metadata",
            remedy="choose runtime: litert, or export the model with metadata",
        ) from error

    def to_image(rgb: Rgb) -> Any:
        return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))

    return classifier, to_image


def _missing(found: str, remedy: str) -> MissingPackageError:
    expected = f"for runtime: {MEDIAPIPE}, the Python package mediapipe and the libraries libEGL and libGLESv2"
    return MissingPackageError(found=found, expected=expected, remedy=f"{remedy}, or choose runtime: litert")


@contextlib.contextmanager
def tensorflow_hidden() -> Iterator[None]:
    """Let MediaPipe think that TensorFlow is not installed.

    It imports it where it can, for its own documentation and for remote files: ten seconds and pages of notes.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # makes `import` raise ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules["tensorflow"]
