"""Stage `assemble`: puts the head on the quantized backbone.

Reads models/backbone/<scheme>.tflite, models/heads/<scheme>.safetensors and the further heads in models/multihead/
<scheme>; writes models/classifiers/<scheme>/{model.tflite,labels.txt}.
The backbone's part of the file stays as it was when it computed the bottlenecks, so the features inside the shipped
model are the cached bottlenecks, bit for bit. That is checked on a few pictures before anything is written.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config.application import run_stage
from pipeline.config.assemble import AssembleStage
from pipeline.config.quantization import QuantizationConfig
from pipeline.errors import ModelError
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.classifier import classifier
from pipeline.heads.head_file import Head, read_further_heads, read_head
from pipeline.litert.head import features_of
from pipeline.litert.interpreter import Model
from pipeline.litert.model_file import check_builtin, check_scheme
from pipeline.litert.probes import probes

_MAX_DIFFERENCE = 1e-3  # of a probability between the model and the head's own arithmetic


def assemble(config: AssembleStage) -> None:
    """Join backbone and head, prove the result, write it with its labels beside it."""
    scheme = config.quantization.scheme
    backbone = layout.backbone(scheme).read_bytes()
    head, further = read_head(layout.head(scheme)), read_further_heads(layout.further_heads(scheme))
    model = classifier(backbone, head, name=f"{config.backbone} {scheme}", further=further)
    pictures = probes(Model(backbone).input_pixels)
    check_classifier(model, backbone, [head, *further.values()], config.quantization, pictures)
    write_bytes(layout.model(scheme), model)
    write_text(layout.labels(scheme), "".join(f"{label}\n" for label in head.labels))
    told = f"{len(model) / 2**20:.2f} MiB, {len(head.labels)} labels{head.threshold_in_words}"
    told += "".join(f"; {name}: {', '.join(one.labels)}" for name, one in further.items())
    sys.stderr.write(f"assemble@{scheme}: {told}\n")


def check_classifier(
    model: bytes, backbone: bytes, heads: Sequence[Head], config: QuantizationConfig, pictures: Sequence[np.ndarray]
) -> None:
    """Prove what the scheme promises and what the pipeline is built on.

    Raises:
        ModelError: If an operator or a tensor type breaks the scheme's promise, if the features inside the model are
            not the backbone's own bit for bit, or if its probabilities are not the heads'.
    """
    name = f"the {config.scheme} model"
    check_builtin(model, name)
    check_scheme(model, config, name)
    run_model, run_backbone, run_features = Model(model), Model(backbone), Model(features_of(model))
    for picture in pictures:
        features = run_backbone(picture)
        if not np.array_equal(run_features(picture), features):
            raise _broken(f"features inside {name} differ from the bottlenecks")
        row: npt.NDArray[Any] = features[np.newaxis].astype(np.float64)
        expected = np.concatenate([head.probabilities(row)[0] for head in heads])
        difference = float(np.abs(run_model(picture) - expected).max())
        if not difference <= _MAX_DIFFERENCE:
            raise _broken(f"probabilities of {name} differ from the heads' by {difference:.2g}")


def _broken(found: str) -> ModelError:
    return ModelError(
        found=found,
        expected="the model that was trained",
        remedy="another version of LiteRT than the lock file's may be installed: run `make setup`, then `dvc repro`",
    )


def main() -> None:
    """Run the stage from the command line."""
    run_stage("assemble", AssembleStage, assemble)


if __name__ == "__main__":
    main()
