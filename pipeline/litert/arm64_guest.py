"""Runs models in LiteRT for a program at the other end of two pipes. It runs inside the emulation, and alone there.

So it imports what the emulated Python has, and nothing of this project. A message is a line of JSON, then as many bytes
as its `num_bytes` says. Asked to `load`, it takes the bytes for a model and answers what that takes and gives; asked to
`run`, it runs the model on the bytes and answers with the output's.
"""

import json
import sys
from typing import IO, Any

LOAD, RUN = "load", "run"


def send(pipe: IO[bytes], header: dict[str, Any], content: bytes = b"") -> None:
    """Write a message."""
    pipe.write(json.dumps(header | {"num_bytes": len(content)}).encode() + b"\n" + content)
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read a message.

    Raises:
        EOFError: If the other end is closed, before a message or amid one.
    """
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    header: dict[str, Any] = json.loads(line)
    content = pipe.read(header["num_bytes"])
    if len(content) < header["num_bytes"]:
        raise EOFError
    return header, content


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    import numpy as np  # noqa: PLC0415 - the other end imports this module for its messages alone
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter: Any = None
    given, answers_of = dict[str, Any](), list[int]()
    while True:
        try:
            header, content = receive(requests)
        except EOFError:
            return
        if header["asks"] == LOAD:
            try:
                interpreter = Interpreter(model_content=content, num_threads=1)
                interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                send(answers, {"error": str(error)})
                continue
            inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
            given, answers_of = inputs[0], [output["index"] for output in outputs]
            send(answers, {"inputs": _described(inputs), "outputs": _described(outputs)})
        else:
            pixels = np.frombuffer(content, given["dtype"]).reshape(given["shape"])
            interpreter.set_tensor(given["index"], pixels)
            interpreter.invoke()
            send(answers, {}, b"".join(interpreter.get_tensor(index).tobytes() for index in answers_of))


def _described(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what LiteRT tells of tensors into words that JSON has."""
    return [
        {
            "index": int(detail["index"]),
            "dtype": detail["dtype"].__name__,
            "shape": [int(length) for length in detail["shape"]],
            "shape_signature": [int(length) for length in detail["shape_signature"]],
            "quantization": [float(detail["quantization"][0]), int(detail["quantization"][1])],
        }
        for detail in details
    ]


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
