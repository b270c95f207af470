"""What `engine:` in params.yaml and conf/engine/<choice>.yaml may hold.

The stages read it themselves, not through DVC: where a take is computed changes no result, so it re-runs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from pipeline.config.application import CONF_FOLDER
from pipeline.config.plain import load, read_plain
from pipeline.config.ranges import at_least, one_of

PARAMS = Path("params.yaml")

LOCAL, RAY = KINDS = ("local", "ray")


@dataclass
class EngineConfig:
    """Where and how many at a time takes are computed.

    Attributes:
        kind: `local` (threads of this process) or `ray` (processes of a Ray cluster).
        num_workers: Takes computed at the same time; 0 means as many as there are processors.
    """

    kind: str = MISSING
    num_workers: int = MISSING

    def __post_init__(self) -> None:
        """Check the values."""
        if MISSING not in (self.kind, self.num_workers):
            one_of("engine.kind", self.kind, KINDS)
            at_least("engine.num_workers", self.num_workers, 0)


@dataclass
class RayConfig(EngineConfig):
    """What a Ray cluster needs besides.

    Attributes:
        address: Of a running cluster; empty to start one on this machine.
        max_retries: Times that a take is begun again after its worker process has died.
    """

    address: str = MISSING
    max_retries: int = MISSING

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.max_retries != MISSING:
            at_least("engine.max_retries", self.max_retries, 0)


_SCHEMAS: Mapping[object, type[EngineConfig]] = {RAY: RayConfig}


def engine_choices() -> list[str]:
    """Return the names of the files in conf/engine/."""
    return sorted(path.stem for path in (CONF_FOLDER / "engine").glob("*.yaml"))


def engine_config(choice: str) -> EngineConfig:
    """Read conf/engine/<choice>.yaml.

    Raises:
        PipelineError: If there is no such file, or it does not hold what it should.
    """
    one_of("engine", choice, engine_choices())
    kind = load(CONF_FOLDER / f"engine/{choice}.yaml").get("kind")
    return read_plain(f"engine/{choice}.yaml", _SCHEMAS.get(kind, EngineConfig))


def engine_of_project() -> EngineConfig:
    """Read which engine params.yaml of this folder names; without that file or that key it is `local`.

    Raises:
        PipelineError: If params.yaml or the file of the choice does not hold what it should.
    """
    params = load(PARAMS) if PARAMS.exists() else {}
    return engine_config(str(params.get("engine", LOCAL)))
