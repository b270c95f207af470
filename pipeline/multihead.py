"""Stage `multihead`: trains and scores the further heads of one scheme, if `heads` in params.yaml names any.

Reads data/labels.csv, data/bottlenecks/<scheme> and data/splits.csv; writes models/multihead/<scheme>/ (for each head
<head>.safetensors, which is shipped, and held_out/<head>.safetensors, which has never seen the test takes; index.json
tells which there are), plots/multihead/<scheme>/<head>.csv, what each frame is taken for by a head that was trained
without its take, and build/multihead/<scheme>.json, the figures with their intervals.
All heads of a scheme read the same bottlenecks, so another question costs seconds. A head whose rows and settings are
those of the last run is kept as it is.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.application import run_stage
from pipeline.config.multihead import MultiheadStage
from pipeline.config.unknown import LEARNED
from pipeline.files import layout, write_bytes, write_text
from pipeline.heads.head_file import INDEX, index_of_heads, to_bytes
from pipeline.keys.key import hash_of
from pipeline.takes.answers import Answers, read_answers
from pipeline.takes.engines import engine_of
from pipeline.takes.rows import Rows, read_rows
from pipeline.takes.splits import Take, read_takes
from pipeline.takes.staging import staged

if TYPE_CHECKING:
    from pipeline.heads.further import FurtherHead

STAGE = "multihead"


def multihead(config: MultiheadStage) -> None:
    """Train and score each further head, and write them, all or none."""
    takes = read_takes(layout.SPLITS)
    answers = read_answers(layout.LABELS, config.heads, [take.full_name for take in takes])
    known, found, rows = _known(config.scheme), dict[str, Any](), None
    models, plots = layout.further_heads(config.scheme), layout.further_plots(config.scheme)
    with staged(plots) as new_plots, staged(models) as new_models:
        for name, kind in config.heads.items():
            rows = rows or _rows(config, takes)  # of hundreds of megabytes, so only if somebody asks
            key = _key(rows, kind, answers[name], config)
            if known.get(name, {}).get("key") == key:
                _copy(models, new_models, _heads_of(name))
                _copy(plots, new_plots, [_table_of(name)])
                found[name] = known[name]
                continue
            title = f"{STAGE}@{config.scheme} {name}"
            trained = _trained(rows, kind, answers[name], config, title)
            for file, head in zip(_heads_of(name), (trained.final, trained.held_out), strict=True):
                write_bytes(new_models / file, to_bytes(head))
            write_text(new_plots / _table_of(name), trained.predictions.to_csv(index=False, lineterminator="\n"))
            found[name] = {"kind": kind, "key": key, "answers": answers[name], **asdict(trained.score)}
            sys.stderr.write(f"{title}: {_told(trained.score.figures)}\n")
        for folder in (new_models, new_plots):  # without a head there would be nothing in them
            write_text(folder / INDEX, index_of_heads(config.heads))
    write_text(layout.further_figures(config.scheme), json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def _heads_of(name: str) -> tuple[str, str]:
    """Return the files of the head that is shipped, and of one that has never seen the test takes."""
    return f"{name}.safetensors", f"held_out/{name}.safetensors"


def _table_of(name: str) -> str:
    return f"{name}.csv"


def _copy(source: Path, target: Path, files: Iterable[str]) -> None:
    for file in files:
        (target / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / file, target / file)


def _rows(config: MultiheadStage, takes: list[Take]) -> Rows:
    strangers = layout.STRANGERS if config.unknown.mode == LEARNED else None
    return read_rows(layout.bottlenecks(config.scheme), takes, strangers=strangers)


def _known(scheme: str) -> dict[str, Any]:
    """Return what the last run wrote of each head, if its files are there."""
    try:
        found: dict[str, Any] = json.loads(layout.further_figures(scheme).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    models, plots = layout.further_heads(scheme), layout.further_plots(scheme)

    def is_whole(name: str) -> bool:
        paths = [*(models / file for file in _heads_of(name)), plots / _table_of(name)]
        return all(path.is_file() for path in paths)

    return {name: one for name, one in found.items() if is_whole(name)}


def _trained(rows: Rows, kind: str, answers: Answers, config: MultiheadStage, title: str) -> "FurtherHead":
    # scikit-learn's second is for those who ask for heads.
    from pipeline.heads.further import Settings, train_further  # noqa: PLC0415

    engine = engine_of(config.engine, at_once_here=1)  # a fold of cross-validation uses all processors by itself
    settings = Settings(config.training, config.unknown, config.crossval)
    return train_further(rows, kind, answers, settings, title=title, engine=engine)


def _key(rows: Rows, kind: str, answers: Answers, config: MultiheadStage) -> str:
    """Return what tells whether a head would come out as before: all that it is made of."""
    code = layout.code(STAGE).read_text(encoding="utf-8") if layout.code(STAGE).is_file() else ""
    settings = [asdict(config.training), asdict(config.unknown), asdict(config.crossval)]
    return hash_of({"kind": kind, "answers": answers, "settings": settings, "rows": rows.sha256(), "code": code})


def _told(figures: Mapping[str, Any]) -> str:
    if not figures:
        return "no figures, since the backbone has learned from the takes"
    frames = f"{figures['num_test_frames']} frames of {figures['num_test_takes']} takes"
    return f"accuracy {figures['accuracy']:.3f} over {frames}, each held out once"


def main() -> None:
    """Run the stage from the command line."""
    run_stage(STAGE, MultiheadStage, multihead)


if __name__ == "__main__":
    main()
