"""What results depend on: a hash of all that goes into a run and does not come out of it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]

from pipeline.config.plain import CONF_FOLDER, PARAMS, load
from pipeline.errors import ConfigurationError
from pipeline.files import sha256_of_file
from pipeline.keys.description import description
from pipeline.keys.key import hash_of

# What decides only which results there are, where they go or how they are computed.
NOT_WHAT_COMES_OUT = ("backbone", "quantization", "deploy", "engine", "choose", "gate")

_GUARDS = ("code", "check")
_ENTERS_A_RUN = ("data/videos", "data/photos", "data/calibration", "data/strangers", "conf", "pipeline")
_ENTERS_WITH_HEADS = ("data/labels.csv",)  # without further heads `check` makes it, and nobody reads it


def fingerprint() -> str:
    """Return the hash of data, code, conf/ and params.yaml that a run's metrics depend on, as 64 hexadecimal digits.

    Which backbone and which schemes are run is not part of it: those tell the results of one fingerprint apart.
    """
    params = load(PARAMS)
    with Repo() as repo:
        stages = {stage.name.split("@")[0] for stage in _stages(repo)}
        leaves = dict(_leaves(repo))
    files = [CONF_FOLDER / f"{stage}.yaml" for stage in stages]
    files += (CONF_FOLDER / "quantization").glob("*.yaml")  # conf/backbone/ is among the leaves
    return hash_of(
        {
            "params": {key: value for key, value in params.items() if key not in NOT_WHAT_COMES_OUT},
            "conf": {str(path.relative_to(CONF_FOLDER)): sha256_of_file(path) for path in files if path.exists()},
            "leaves": leaves,
            "code": {stage: description(stage) for stage in stages},
            "dvc.yaml": sha256_of_file(Path("dvc.yaml")),
        }
    )


def _leaves(repo: Repo) -> Iterator[tuple[str, str]]:
    """Yield path and hash of each dependency that no stage makes. DVC hashes only what changed since it last looked."""
    made = [Path(out.fs_path) for stage in [*_stages(repo), *_guards(repo)] for out in stage.outs]
    for dependency in {dep.fs_path: dep for stage in _stages(repo) for dep in stage.deps}.values():
        path = Path(dependency.fs_path)
        is_made = any(path.is_relative_to(out) or out.is_relative_to(path) for out in made)
        if not is_made and not isinstance(dependency, ParamsDependency) and path.exists():
            yield str(path.relative_to(repo.root_dir)), dependency.get_hash().value


def _stages(repo: Repo) -> list[Any]:
    """Return the stages that make results."""
    return [stage for stage in repo.index.stages if not stage.is_data_source and stage.name not in _GUARDS]


def _guards(repo: Repo) -> list[Any]:
    """Return the stages that come before them, and change no result."""
    return [stage for stage in repo.index.stages if stage.name in _GUARDS]


def refuse_what_git_does_not_know() -> None:
    """Check that experiments, which run in a checkout of their own, see all that this folder holds.

    Raises:
        ConfigurationError: If this is no Git repository with a commit, or a take, a conf file or code is in neither Git
            nor DVC.
    """
    if _git("rev-parse", "--verify", "--quiet", "HEAD") is None:
        raise ConfigurationError(
            found="no commit of Git here",
            expected="a Git repository with a commit: DVC keeps experiments beside it",
            remedy='git init, then git add -A && git commit -m "Begin"',
        )
    entering = _ENTERS_A_RUN + (_ENTERS_WITH_HEADS if load(PARAMS).get("heads") else ())
    unknown = (_git("ls-files", "--others", "--exclude-standard", "-z", "--", *entering) or "").split("\0")[:-1]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise ConfigurationError(
            found=f"{unknown[0]}{more} in neither Git nor DVC",
            expected="all takes, conf files and code in one of the two: an experiment sees nothing else",
            remedy="git add them, or dvc add data/videos if they are large (no commit is needed)",
        )


def _git(*arguments: str) -> str | None:
    """Return what Git prints, or None if it fails."""
    finished = subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", check=False)
    return finished.stdout if finished.returncode == 0 else None
