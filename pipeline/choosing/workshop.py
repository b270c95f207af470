"""Makes what trials of a search need, by the stages' own functions, in one process and a folder of its own.

What does not depend on the head is made once for each architecture and scheme, and kept: the backbone, its quantized
form, and the bottlenecks, which also share the project's cache of takes. TensorFlow is imported once.
"""

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.assemble import assemble
from pipeline.backbone import backbone
from pipeline.bottlenecks import bottlenecks
from pipeline.choosing.latency import latencies_ms, measure_in_turns
from pipeline.choosing.question import Question
from pipeline.config.assemble import AssembleStage
from pipeline.config.backbone import BackboneStage
from pipeline.config.backbone_names import overrides
from pipeline.config.bottlenecks import BottlenecksStage
from pipeline.config.composing import Stage, composed
from pipeline.config.gate import MicroLimits
from pipeline.config.plain import PARAMS, load
from pipeline.config.quantize import QuantizeStage
from pipeline.config.train import HEAD, TrainingConfig, TrainStage
from pipeline.config.unknown import LEARNED
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.crossvalidation import cross_validate
from pipeline.heads.head_file import INDEX, Head, index_of_heads, to_bytes
from pipeline.heads.inputs import learned_rows
from pipeline.litert.micro_costs import micro_costs
from pipeline.metrics.classification import Predictions
from pipeline.metrics.further import HeadScore
from pipeline.metrics.many import ManyPredictions
from pipeline.quantize import quantize
from pipeline.takes.cache import CACHE_VARIABLE, cache_folder
from pipeline.takes.folds import NUM_FOLDS
from pipeline.takes.rows import Rows, read_rows
from pipeline.takes.splits import read_takes

_NUM_BINS = 10  # of a figure that nobody reads here
_DATA = (layout.SPLITS, layout.FRAMES, layout.AUGMENTED, layout.CALIBRATION, layout.STRANGERS)
_SHARED = ("params.yaml", *map(str, _DATA))


@dataclass(frozen=True)
class Outcome:
    """What a trial gave.

    Attributes:
        accuracy: Share of frames that are right, 0..1, each by a head that has not seen its take; of a head whose
            labels may be true together the share of right answers.
        standard_error: Of the accuracy, over takes.
        loss: The cross entropy of the same frames, in nats, a mean over the labels that may be true together.
        latency_ms: Median of one picture in LiteRT on this machine at that time; `latencies` compares better.
        size_bytes: Of model.tflite.
    """

    accuracy: float
    standard_error: float
    loss: float
    latency_ms: float
    size_bytes: int


class Workshop:
    """Folders of one study: one for each architecture, laid out like a project, with the real one's data in it."""

    def __init__(self, folder: Path, resize: str, project: Path, question: Question | None = None) -> None:
        """Keep where to work.

        Args:
            folder: For what is made; whatever it holds was made from the same data, code and configuration.
            resize: See `model_input.to_model_input`.
            project: Where data/frames, data/augmented, data/splits.csv and data/calibration are, as stages left them.
            question: By which heads are compared; None for what the takes' folders are called.
        """
        self._folder = folder.absolute()
        self._resize = resize
        self._project = project.absolute()
        self._question = question
        self._rows = lru_cache(maxsize=4)(self._read_rows)

    def try_out(self, architecture: str, scheme: str, training: Mapping[str, Any], *, title: str) -> Outcome:
        """Cross-validate heads over the takes that are not for testing, and tell what the model gives and costs.

        Args:
            architecture: Name of a backbone, as in params.yaml.
            scheme: Of its quantization.
            training: Values of `TrainingConfig`.
            title: For the progress bar.

        Raises:
            PipelineError: If a stage refuses.
        """
        rows = self._rows(architecture, scheme)
        settings = TrainingConfig(**{**training, "mode": HEAD})  # the whole search is about heads
        predictions: Predictions | ManyPredictions
        if self._question:
            predictions = self._question.cross_validated(rows, settings, title=title)
        else:
            predictions = cross_validate(rows, settings, num_folds=NUM_FOLDS, percents=[], title=title).predictions
        figures = HeadScore.of(predictions, num_bins=_NUM_BINS).figures
        latency_ms, size_bytes = self._costs(architecture, scheme, rows)
        return Outcome(figures["accuracy"], figures["standard_error"], figures["log_loss"], latency_ms, size_bytes)

    def latencies(self, models: Collection[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """Return the latency in ms of each model that was tried, all from the same sitting.

        Args:
            models: Backbone and scheme of each.
        """
        files = {
            f"{architecture} {scheme}": (self._folder / architecture / layout.model(scheme)).read_bytes
            for architecture, scheme in models
        }
        measured = latencies_ms(files, self._folder / "latency_ms.json")
        return dict(zip(models, measured.values(), strict=True))

    def micro_costs(self, architecture: str, scheme: str, limits: MicroLimits) -> dict[str, int]:
        """Return what a model that was tried takes on a microcontroller (see `pipeline.litert.micro_costs`)."""
        return micro_costs((self._folder / architecture / layout.model(scheme)).read_bytes(), scheme, limits)

    def _read_rows(self, architecture: str, scheme: str) -> Rows:
        """Return the bottlenecks of all takes that are not for testing; compute them if they are not there."""
        with self._inside(architecture):
            if not layout.CONVERTED_BACKBONE.exists():
                backbone(self._composed("backbone", BackboneStage, architecture))
                write_bytes(layout.TUNED_BACKBONE, layout.CONVERTED_BACKBONE.read_bytes())
            if not layout.backbone(scheme).exists():
                quantize(self._composed("quantize", QuantizeStage, architecture, scheme))
            if not layout.bottlenecks(scheme).exists():
                bottlenecks(self._composed("bottlenecks", BottlenecksStage, architecture, scheme))
            unknown_mode = self._unknown_mode(scheme)
            if self._question:  # what looks like one of its labels is known only when they are
                rows = read_rows(
                    layout.bottlenecks(scheme),
                    read_takes(layout.SPLITS),
                    strangers=layout.STRANGERS if unknown_mode == LEARNED else None,
                )
            else:
                rows, _ = learned_rows(scheme, unknown_mode)
            return rows.only(rows.are_for_training)

    def _unknown_mode(self, scheme: str) -> str:
        return composed("train", TrainStage, load(PARAMS), [f"scheme={scheme}"]).unknown.mode

    def _costs(self, architecture: str, scheme: str, rows: Rows) -> tuple[float, int]:
        """Return latency in ms and size in bytes, measured with an empty head: all heads have the same size."""
        with self._inside(architecture):
            path = layout.metrics(scheme)
            if not path.exists():
                threshold = 0.5 if self._unknown_mode(scheme) == LEARNED else None  # one output more
                shape = rows.features.shape[1], len(rows.labels) + (threshold is not None)
                head = Head(np.zeros(shape, np.float32), np.zeros(shape[1], np.float32), rows.labels, threshold)
                write_bytes(layout.head(scheme), to_bytes(head))
                write_text(layout.further_heads(scheme) / INDEX, index_of_heads(()))
                assemble(self._composed("assemble", AssembleStage, architecture, scheme))
                content = layout.model(scheme).read_bytes()
                latency_ms = measure_in_turns({scheme: content}, num_rounds=1)[scheme]
                write_text(path, json.dumps({"latency_ms": latency_ms, "size_bytes": len(content)}))
            costs = json.loads(path.read_text(encoding="utf-8"))
            return costs["latency_ms"], costs["size_bytes"]

    @contextlib.contextmanager
    def _inside(self, architecture: str) -> Iterator[None]:
        """Work in the folder of an architecture: the stages' paths are relative to the project's folder."""
        folder = self._folder / architecture
        for name in _SHARED:
            link = folder / name
            if not link.is_symlink():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self._project / name)
        with _cache_of_takes(cache_folder().absolute()), contextlib.chdir(folder):
            yield

    def _composed(self, name: str, schema: type[Stage], architecture: str, scheme: str | None = None) -> Stage:
        """Return a stage's configuration as its command would compose it, for an architecture and a scheme."""
        params = load(PARAMS) | {"backbone": architecture, "resize": self._resize}
        matrix = [f"quantization={scheme}"] if scheme else []
        return composed(name, schema, params, matrix, {"backbone": overrides})


@contextlib.contextmanager
def _cache_of_takes(folder: Path) -> Iterator[None]:
    """Let stages use this cache, not one in the folder that is changed into."""
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[CACHE_VARIABLE]
        else:
            os.environ[CACHE_VARIABLE] = before
