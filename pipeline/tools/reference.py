"""Writes what dvc.yaml, params.yaml, conf/ and the dataclasses in pipeline/config/ say into docs/pages/reference/.

`python -m pipeline.tools.reference` does it. In each page, what stands above `MARK` is written by hand and stays. The
pages are committed, and tests/test_docs.py fails if they are stale.
"""

import inspect
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, cast, get_type_hints

import yaml

from pipeline.check import schemas
from pipeline.config.cache import CacheConfig
from pipeline.config.choose import Exponents, Targets
from pipeline.config.engine import EngineConfig
from pipeline.config.plain import CONF_FOLDER, load
from pipeline.config.sweep import SearchConfig, SweepConfig
from pipeline.errors import ConfigurationError
from pipeline.tools import reruns
from pipeline.tools.markdown import code, listed, paths, prose, table, value

PROJECT = CONF_FOLDER.parent
FOLDER = Path("docs/pages/reference")
MARK = "<!-- What follows is written by `python -m pipeline.tools.reference`: edit what it reads, not this. -->\n"

# Files in conf/ that no stage composes, and what types them. They say how work is done, never what comes out.
_PLAIN_FILES: Mapping[str, type[Any]] = {
    "cache": CacheConfig,
    "choose": Exponents,
    "engine/local": EngineConfig,
    "engine/ray": EngineConfig,
    "search": SearchConfig,
    "sweep": SweepConfig,
}


def pages() -> dict[Path, str]:
    """Return what each page should hold by its path, relative to the project: its own opening, and what is generated.

    Raises:
        ConfigurationError: If a page has lost its mark, or a setting has no meaning in its dataclass.
    """
    stages = cast(reruns.Stages, yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    generated = {
        "stages.md": stages_table(stages),
        "parameters.md": _parameters_table(stages),
        "conf.md": _conf_tables(stages),
        "backbones.md": _backbone_tables(),
        "schemes.md": _scheme_tables(),
    }
    return {FOLDER / name: f"{_opening_of_page(FOLDER / name)}{MARK}\n{text}\n" for name, text in generated.items()}


def meanings(schema: type[Any]) -> dict[str, str]:
    """Return what each field of a dataclass means, as `Attributes:` in its docstring and in those it extends say."""
    found: dict[str, str] = {}
    for one in reversed(schema.__mro__):
        _, _, attributes = inspect.cleandoc(one.__doc__ or "").partition("\nAttributes:\n")
        for name, text in re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", attributes, re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def meaning(key: str, schema: type[Any]) -> str:
    """Return what the last part of a key means, as a field of its dataclass.

    Raises:
        ConfigurationError: If the dataclass does not say.
    """
    found = meanings(schema).get(key.rpartition(".")[2])
    if found is None:
        raise ConfigurationError(
            found=f"no meaning of `{key}` in the docstring of {schema.__name__}",
            expected="a line under `Attributes:`, with the unit",
            remedy=f"write it in {schema.__module__.replace('.', '/')}.py",
        )
    return found


def sections() -> dict[str, type[Any]]:
    """Return the dataclass of each section of params.yaml and of the stages' files in conf/."""
    hints = [hint for schema in schemas().values() for hint in get_type_hints(schema).items()]
    return {"choose": Targets, **{name: hint for name, hint in hints if isinstance(hint, type) and is_dataclass(hint)}}


def stages_table(stages: reruns.Stages) -> str:
    """Return what each stage does, reads (but for code and settings) and writes, in the order of dvc.yaml."""
    made = {path for entry in stages.values() for path in _outputs(entry)}
    rows = [
        [
            code(f"{name}@scheme" if "matrix" in entry else name),
            entry.get("desc", ""),
            paths(_inputs(entry, made)),
            paths(_outputs(entry)),
        ]
        for name, entry in stages.items()
    ]
    return table(["stage", "what it does", "reads", "writes"], rows)


def _inputs(entry: Mapping[str, Any], made: Collection[str]) -> list[str]:
    """Return the data that a stage reads; what another stage has made may be tracked like a file of parameters."""
    data = [path for path in entry.get("deps", []) if not path.startswith("build/code/")]
    return sorted([*data, *(file for file, _ in reruns.tracked(entry) if file in made)])


def _outputs(entry: Mapping[str, Any]) -> list[str]:
    entries = [one for kind in ("outs", "metrics", "plots") for one in entry.get(kind, [])]
    return [one if isinstance(one, str) else next(iter(one)) for one in entries]


def _parameters_table(stages: reruns.Stages) -> str:
    params = load(PROJECT / "params.yaml")
    remarks = _remarks(PROJECT / "params.yaml")
    known = sections()
    rows = []
    for name, found in reruns.parameters(params).items():
        section, _, key = name.partition(".")
        text = meaning(name, known[section]) if key else remarks[name]
        rows.append([code(name), value(found), text, _first(stages, name, params)])
    return table(["parameter", "value", "meaning", "an edit re-runs first"], rows)


def _first(stages: reruns.Stages, name: str, params: Mapping[str, Any]) -> str:
    found = reruns.reruns(stages, params)[name]
    made = reruns.made_by(stages, name)
    parts = [f"for a new entry {listed(made)}" if made else "", listed(stage for stage in stages if stage in found)]
    return "; ".join(filter(None, parts)) or "nothing"


def _conf_tables(stages: reruns.Stages) -> str:
    parts = []
    for path in sorted([*CONF_FOLDER.glob("*.yaml"), *CONF_FOLDER.glob("engine/*.yaml")]):
        name = path.relative_to(CONF_FOLDER).with_suffix("").as_posix()
        rows = _conf_rows(stages, name, load(path))
        if rows:
            heads = ["key", "value", "meaning", "an edit re-runs first"]
            parts.append(f"## conf/{name}.yaml\n\n{table(heads, rows)}")
    return "\n\n".join(parts)


def _conf_rows(stages: reruns.Stages, name: str, values: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each value that a file decides: `???` stands in params.yaml, and `defaults` only composes."""
    known = sections()
    rows = []
    for key, found in reruns.parameters({key: found for key, found in values.items() if key != "defaults"}).items():
        schema = _PLAIN_FILES.get(name, known.get(key.partition(".")[0]))
        if found != "???" and schema is not None:
            first = listed(reruns.trackers(stages, f"conf/{name}.yaml", key)) or "nothing"
            rows.append([code(key), value(found), meaning(key, schema), first])
    return rows


def _backbone_tables() -> str:
    backbones = {path: load(path) for path in sorted(CONF_FOLDER.glob("backbone/*.yaml"))}
    figures = ["parameters, M", "multiply-adds, M", "ImageNet top-1, %"]
    return "\n\n".join(
        [
            table(
                ["`backbone`", "widths", "pixels", *figures, "figures", "weights"],
                [_backbone_row(path, values) for path, values in backbones.items()],
            ),
            "## What they are",
            table(
                ["`backbone`", "what it is", "numbers in a bottleneck", "smallest picture, pixels"],
                [_description(path, values) for path, values in backbones.items()],
            ),
            "## Other widths and resolutions",
            table(["`backbone`", *figures], [row for values in backbones.values() for row in _published(values)]),
        ]
    )


def _backbone_row(path: Path, values: Mapping[str, Any]) -> list[str]:
    source = values.get("source")
    counted = ", counted" if _remarks(path).get("num_parameters", "").startswith("counted") else ""
    weights = values["weights"]
    return [
        code(path.stem),
        ", ".join(f"{width:g}" for width in values.get("widths", [])),
        ", ".join(map(str, values.get("resolutions", [values["input_pixels"]]))),
        *_figures(values),
        f"[{source.split('/')[2]}]({source}){counted}" if source else "",
        code(weights) if weights in ("package", "imagenet", "random") else "path",
    ]


def _description(path: Path, values: Mapping[str, Any]) -> list[str]:
    lengths = {values["feature_length"], *values.get("feature_lengths", {}).values()}
    return [
        code(path.stem),
        path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# "),
        ", ".join(map(str, sorted(lengths))),
        str(values.get("min_input_pixels", "")),
    ]


def _published(values: Mapping[str, Any]) -> list[list[str]]:
    rows = [[code(f"{values['name']}_{key}"), *_figures(found)] for key, found in values.get("published", {}).items()]
    return rows if len(rows) > 1 else []


def _figures(values: Mapping[str, Any]) -> list[str]:
    names = ("num_parameters", "num_multiply_adds", "imagenet_top1_percent")
    shown = zip((values.get(name) for name in names), (1e6, 1e6, 1), (",.1f", ",.0f", ".1f"), strict=True)
    return ["" if number is None else format(number / unit, style) for number, unit, style in shown]


def _scheme_tables() -> str:
    schemes = {path: load(path) for path in sorted(CONF_FOLDER.glob("quantization/*.yaml"))}
    keys = [key for key in meanings(sections()["quantization"]) if key != "scheme"]
    return "\n\n".join(
        [
            table(
                ["scheme", *map(code, keys)],
                [[code(path.stem), *(value(values.get(key, "")) for key in keys)] for path, values in schemes.items()],
            ),
            "## What the keys mean",
            table(["key", "meaning"], [[code(key), meaning(key, sections()["quantization"])] for key in keys]),
            *(f"## {path.stem}\n\n{prose(_opening(path))}" for path in schemes),
        ]
    )


def _opening(path: Path) -> str:
    """Return the remark that a YAML file begins with, as one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.removeprefix("#").strip() for line in lines[:end])


def _remarks(path: Path) -> dict[str, str]:
    """Return the remark behind each top-level key of a YAML file."""
    return dict(re.findall(r"^(\w+):.*?\s# +(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))


def _opening_of_page(path: Path) -> str:
    text = (PROJECT / path).read_text(encoding="utf-8")
    if MARK not in text:
        raise ConfigurationError(
            found=f"{path} has lost the line that tells what is generated",
            expected=MARK.strip(),
            remedy="put it back below what is written by hand",
        )
    return text.partition(MARK)[0]


def main() -> None:
    """Write the pages of this project."""
    for path, text in pages().items():
        (PROJECT / path).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
