"""LiteRT for ARM64 on an x86-64 machine, under qemu's emulation of one program. Slow: see docs/pages/arm64.md."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError, PipelineError
from pipeline.litert import arm64_guest
from pipeline.litert.arm64_chips import CHIPS
from pipeline.litert.arm64_setup import last_line, set_up


def command_on(chip: str, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that run Python on an emulated chip.

    Args:
        chip: One of `CHIPS`.
        arguments: Of Python.

    Raises:
        PipelineError: If it cannot be set up.
    """
    folder = set_up()
    python = next((folder / "root/usr/bin").glob("python3.*"))
    emulator = [str(folder / "qemu-aarch64"), "-L", str(folder / "chips" / chip), "-cpu", CHIPS[chip].qemu_cpu]
    environment = {
        "PATH": os.defpath,
        "PYTHONHOME": str(folder / "root/usr"),
        "PYTHONPATH": str(folder / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
    }
    return [*emulator, str(python), "-S", *arguments], environment


class Arm64Interpreter:
    """A model in LiteRT for ARM64, with the methods of LiteRT's `Interpreter` that classifiers need.

    Not thread-safe. `close` ends the process behind it.
    """

    def __init__(self, content: bytes, *, chip: str) -> None:
        """Start an emulated Python and load a model.

        Args:
            content: A .tflite file.
            chip: One of `CHIPS`.

        Raises:
            ModelError: If LiteRT cannot load it.
            PipelineError: If it cannot be set up, or the emulated program dies.
        """
        command, environment = command_on(chip, [str(Path(arm64_guest.__file__).resolve())])
        self._start(command, environment)
        try:
            self._load(content)
        except BaseException:
            self.close()
            raise

    def _start(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._back = self._process.stdin, self._process.stdout

    def _load(self, content: bytes) -> None:
        header, _ = self._asked({"asks": arm64_guest.LOAD}, content)
        if "error" in header:
            raise ModelError(
                found=f"a model that LiteRT for ARM64 cannot load: {header['error']}",
                expected="a .tflite file with built-in operators",
                remedy="delete the file and run `dvc repro` to make it anew",
            )
        self._inputs, self._outputs = (_as_litert(header[name]) for name in ("inputs", "outputs"))
        self._pixels = self._output = b""

    def get_input_details(self) -> list[dict[str, Any]]:
        """Return what the model takes, as LiteRT tells it."""
        return self._inputs

    def get_output_details(self) -> list[dict[str, Any]]:
        """Return what the model gives, as LiteRT tells it."""
        return self._outputs

    def set_tensor(self, index: int, values: npt.NDArray[Any]) -> None:
        """Set the input."""
        del index  # there is one
        self._pixels = np.ascontiguousarray(values).tobytes()

    def invoke(self) -> None:
        """Run the model."""
        _, self._output = self._asked({"asks": arm64_guest.RUN}, self._pixels)

    def get_tensor(self, index: int) -> npt.NDArray[Any]:
        """Return an output, by its index in the details."""
        start = 0
        for output in self._outputs:
            dtype, num_values = np.dtype(output["dtype"]), int(np.prod(output["shape"]))
            if output["index"] == index:
                found: npt.NDArray[Any] = np.frombuffer(self._output, dtype, num_values, start)
                return found.reshape(output["shape"])
            start += num_values * dtype.itemsize
        raise ValueError(f"no output {index}; expected one of {[output['index'] for output in self._outputs]}")

    def close(self) -> None:
        """End the emulated program."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._to, self._back, self._complaints):
            with contextlib.suppress(BrokenPipeError):  # what it never read
                pipe.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the emulated program."""
        self.close()

    def _asked(self, header: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            arm64_guest.send(self._to, header, content)
            return arm64_guest.receive(self._back)
        except (EOFError, BrokenPipeError) as error:
            status = self._process.wait()
            self._complaints.seek(0)
            said = last_line(self._complaints.read().decode(errors="replace"))
            raise PipelineError(
                found=f"the emulated ARM64 program ended with status {status}: {said}",
                expected="an answer to each picture",
                remedy="try again; if it stays so, delete .cache/arm64, which is then set up anew",
            ) from error


def _as_litert(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        detail | {"dtype": getattr(np, detail["dtype"]), "quantization": tuple(detail["quantization"])}
        for detail in details
    ]
