"""Stage `deploy`: puts the chosen model where the app takes it from.

Reads models/classifiers/<scheme>/{model.tflite,labels.txt}, whose further heads are those of models/multihead/
<scheme>, the head's threshold in models/heads/<scheme>.safetensors, metrics/schemes/<scheme>.json, build/gate.json and,
for pictures with known answers, the predictions, data/frames and data/strangers; writes models/deployed/ and
metrics/deployed.json, which `dvc metrics diff` compares between two versions of the project.
models/deployed/ holds model.tflite and labels.txt, which go into the app, and labels_<head>.txt for each further head;
golden/, with which the app's tests prove
that the app feeds the model rightly (see pipeline.litert.golden), as PNG and as a camera gives them; and manifest.json,
which describes them all.
"""

import json
import shutil
import sys

import numpy as np

from pipeline.config.application import run_stage
from pipeline.config.deploy import UINT8, DeployStage
from pipeline.errors import ModelError
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.head_file import read_head
from pipeline.images.codec import decode_jpeg
from pipeline.litert.foreign import heads_of
from pipeline.litert.golden import Golden, choose_golden
from pipeline.litert.input_type import with_float_input
from pipeline.litert.interpreter import Model
from pipeline.litert.metadata import labels_file_of
from pipeline.litert.probes import probes
from pipeline.litert.runtimes import signature
from pipeline.metrics.predictions import read_predictions
from pipeline.processes.workers import num_workers
from pipeline.shipping.golden_files import Answer, answer_of, write_golden
from pipeline.shipping.manifest import manifest, to_json
from pipeline.takes.single_frame import read_frame
from pipeline.takes.sources import files_in
from pipeline.takes.staging import staged

_MAX_GOLDEN_PICTURES = 8
_MAX_GOLDEN_STRANGERS = 12
_MAX_GOLDEN_CANDIDATES = 48  # each is run five times, so this takes a few seconds at most


def deploy(config: DeployStage) -> None:
    """Write the deployed folder, whole or not at all, and the deployed model's metrics."""
    metrics = json.loads(layout.metrics(config.deploy).read_text(encoding="utf-8"))
    with staged(layout.DEPLOYED) as staging:
        content = shipped_model(config)
        write_bytes(staging / "model.tflite", content)
        shutil.copyfile(layout.labels(config.deploy), staging / "labels.txt")
        further = heads_of(content, signature(content))[1:]
        for head in further:
            write_text(staging / labels_file_of(head.name), "".join(f"{label}\n" for label in head.labels or ()))
        threshold = read_head(layout.head(config.deploy)).threshold
        answer = answer_of(Model((staging / "model.tflite").read_bytes(), num_workers()), config.resize)
        write_golden(staging, golden_pictures(config, answer, threshold), answer, threshold, further=further)
        described = manifest(
            staging,
            scheme=config.deploy,
            backbone=config.backbone,
            resize=config.resize,
            threshold=threshold,
            further=further,
            more={"limits": json.loads(layout.GATE.read_text(encoding="utf-8"))["limits"], "metrics": metrics},
        )
        write_text(staging / "manifest.json", to_json(described))
    write_text(layout.DEPLOYED_METRICS, to_json(metrics))
    sys.stderr.write(f"deploy: {config.deploy} is in {layout.DEPLOYED}/\n")


def shipped_model(config: DeployStage) -> bytes:
    """Return the scheme's model, taking its pixels in the type that is wished.

    Raises:
        ModelError: If it would not answer bit for bit as the one that was scored.
    """
    scored = layout.model(config.deploy).read_bytes()
    if config.inference_input_type == UINT8:
        return scored
    shipped = with_float_input(scored)
    run_scored, run_shipped = Model(scored), Model(shipped)
    for picture in probes(run_scored.input_pixels):
        if not np.array_equal(run_scored(picture), run_shipped(picture)):
            raise ModelError(
                found=f"the {config.deploy} model answers otherwise with float32 pixels than with uint8",
                expected="the same probabilities, bit for bit",
                remedy="set `inference_input_type: uint8` in params.yaml",
            )
    return shipped


def golden_pictures(config: DeployStage, answer: Answer, threshold: float | None) -> list[Golden]:
    """Choose test frames, and run the model on them.

    If the model has a threshold, one of the pictures shows none of the labels.
    """
    rows = read_predictions(layout.predictions(config.deploy))
    per_label = max(1, _MAX_GOLDEN_CANDIDATES // rows["actual"].nunique())
    candidates = []
    for label, group in rows.groupby("actual", sort=True):
        spread = np.unique(np.linspace(0, len(group) - 1, per_label).round().astype(int))
        for row in group.iloc[spread].itertuples():
            candidates.append((str(label), decode_jpeg(read_frame(str(row.take), str(row.frame_id))[0])))
    if threshold is None:
        return choose_golden(candidates, answer, _MAX_GOLDEN_PICTURES)
    num_labels = len(layout.labels(config.deploy).read_text(encoding="utf-8").splitlines())
    strangers = [decode_jpeg(path.read_bytes()) for path in files_in(layout.STRANGERS)[:_MAX_GOLDEN_STRANGERS]]
    refused = [("", picture) for picture in strangers if answer(picture)[:num_labels].max() < threshold]
    known = choose_golden(candidates, answer, _MAX_GOLDEN_PICTURES - bool(refused))
    return [*known, *choose_golden(refused, answer, 1)]


def main() -> None:
    """Run the stage from the command line."""
    run_stage("deploy", DeployStage, deploy)


if __name__ == "__main__":
    main()
