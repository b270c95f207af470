"""What an edit re-runs first, read from dvc.yaml: pure functions of its stages, as `yaml.safe_load` gives them.

A stage re-runs if a key that it names under `params` changes, or a `${key}` in its command or in a path. Stages behind
it re-run if what they read has changed; that is DVC's to find out.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Stages = Mapping[str, Mapping[str, Any]]

PARAMS = "params.yaml"
_TEMPLATE = re.compile(r"\$\{([\w.]+)\}")


def parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return each key of params.yaml with its value; the keys of a section that has some are `<section>.<key>`."""
    found: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            found |= {f"{name}.{key}": leaf for key, leaf in parameters(value).items()}
        else:
            found[name] = value
    return found


def reruns(stages: Stages, params: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the stages that an edit of each parameter re-runs first, but for those that every edit runs.

    For a list that stages are made from (`quantization`), these are the stages that read the list; see `made_by`.
    """
    return {
        name: {stage for stage, entry in stages.items() if not _reads_all(entry) and _reads(entry, name)}
        for name in parameters(params)
    }


def always(stages: Stages) -> set[str]:
    """Return the stages that every edit of params.yaml runs."""
    return {name for name, entry in stages.items() if _reads_all(entry)}


def made_by(stages: Stages, name: str) -> list[str]:
    """Return the stages that are made anew for each entry of a list in params.yaml, in the order of dvc.yaml."""
    return [stage for stage, entry in stages.items() if name in _templates(entry.get("matrix", {}))]


def trackers(stages: Stages, file: str, key: str) -> list[str]:
    """Return the stages that an edit of one key of a file in conf/ re-runs first, in the order of dvc.yaml."""
    found = [stage for stage, entry in stages.items() if not _reads_all(entry)]
    return [stage for stage in found if any(_covers(*one, file, key) for one in tracked(stages[stage]))]


def tracked(entry: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Return what a stage names under `params`, as pairs of file and key; None is the whole file."""
    found: list[tuple[str, str | None]] = []
    for one in entry.get("params", []):
        files = {PARAMS: [one]} if isinstance(one, str) else one
        found += [(file, key) for file, keys in files.items() for key in (keys or [None])]
    return found


def _reads(entry: Mapping[str, Any], name: str) -> bool:
    rest = {part: value for part, value in entry.items() if part not in ("matrix", "desc")}
    return name in _templates(rest) or any(_covers(*one, PARAMS, name) for one in tracked(entry))


def _reads_all(entry: Mapping[str, Any]) -> bool:
    return (PARAMS, None) in tracked(entry)


def _covers(tracked_file: str, tracked_key: str | None, file: str, key: str) -> bool:
    """Tell whether an edit of a key changes what is tracked: a whole file, a section or a key."""
    same_file = re.fullmatch(r"[^/]+".join(map(re.escape, _TEMPLATE.split(tracked_file)[::2])), file)
    return bool(same_file) and (tracked_key is None or f"{key}.".startswith(f"{tracked_key}."))


def _templates(value: object) -> set[str]:
    return {name for text in _texts(value) for name in _TEMPLATE.findall(text)}


def _texts(value: object) -> Iterator[str]:
    """Yield every text in nested lists and mappings."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
