"""What the stage `evaluate` would have written about the tiny project, with chosen answers."""

import json
from collections.abc import Sequence

import pandas as pd

from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.head_file import Head, to_bytes
from pipeline.litert.head import append_head
from pipeline.litert.metadata import embed_labels
from pipeline.metrics.unknown import asked_table
from tests import tiny_models, tiny_project

CURVES = "regularization,out_of_fold_loss,out_of_fold_accuracy\n1,0.5,0.8\n0.1,0.2,0.9\n"
NUM_TEST_FRAMES = 2 * tiny_project.NUM_FRAMES


def tiny_head() -> Head:
    """Return a head that knows two labels and nothing else."""
    weights, bias = tiny_models.head(num_labels=2)
    return Head(weights, bias, tiny_project.LABELS)


def write_scheme(scheme: str, *, wrong: Sequence[int] = (), size_bytes: int = 1000, p50: float = 5.0) -> None:
    """Write a model, its predictions (wrong for the frames of these numbers) and its metrics."""
    model = append_head(tiny_models.backbone(), *tiny_models.head(num_labels=2))
    write_bytes(layout.model(scheme), embed_labels(model, tiny_project.LABELS, name="tiny", description="tiny"))
    write_text(layout.labels(scheme), "".join(f"{label}\n" for label in tiny_project.LABELS))
    table = predictions(wrong)
    for path in (layout.predictions(scheme), layout.crossval_predictions(scheme)):
        write_text(path, table.to_csv(index=False))
    write_bytes(layout.head(scheme), to_bytes(tiny_head()))
    write_text(layout.crossval_unknown(scheme), asked_table().to_csv(index=False))
    write_text(layout.learning_curve(scheme), "percent,num_takes,label,recall,low,high\n")
    write_text(layout.FINETUNE_CURVES, "epoch,train_loss,validation_loss\n")
    write_text(layout.training_curves(scheme), CURVES)
    accuracy = float(table["is_right"].mean())
    interval = {"low": accuracy - 0.1, "high": accuracy}
    figures = {
        "accuracy": accuracy,
        "standard_error": 0.0,
        "take_accuracy": accuracy,
        "worst_recall": accuracy,
        "baseline_accuracy": 0.5,
        "per_class": {label: {"recall": accuracy} for label in tiny_project.LABELS},
        "num_test_frames": len(table),
        "num_test_takes": 2,
        "intervals": {
            "accuracy": interval,
            "take_accuracy": interval,
            "recall": dict.fromkeys(tiny_project.LABELS, interval),
            "accuracy_drop": {"low": 1 - accuracy, "high": 1.1 - accuracy},
        },
    }
    metrics = {
        "scored_by": "crossval",
        **figures,
        "accuracy_drop": 1 - accuracy,
        "agreement_with_float32": accuracy,
        "agreement_with_litert": 0.9,
        "test": figures,
        "num_threads": 1,
        "size_bytes": size_bytes,
        "latency_ms": {"p50": p50, "high": p50 + 1},
        "busy_percent": 0.0,
        "scheme": scheme,
    }
    write_text(layout.metrics(scheme), json.dumps(metrics))


def predictions(wrong: Sequence[int] = ()) -> pd.DataFrame:
    """Return a row for each test frame, in the order of the split file."""
    rows = []
    for number in range(NUM_TEST_FRAMES):
        label, index = divmod(number, tiny_project.NUM_FRAMES)
        is_right = number not in wrong
        actual, predicted = tiny_project.LABELS[label], tiny_project.LABELS[label if is_right else 1 - label]
        take = f"{actual}/test.mp4"
        rows.append((f"{3 * label + 2}-{index}", take, actual, predicted, 0.9 - number / 100, is_right))
    return pd.DataFrame(rows, columns=["frame_id", "take", "actual", "predicted", "probability", "is_right"])
