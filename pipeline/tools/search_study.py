"""The study of a search: what was tried, and what is still to try."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipeline.choosing.architectures import names_of
from pipeline.config.sweep import SearchConfig
from pipeline.config.train import HEAD
from pipeline.keys.key import hash_of

STUDIES = Path(".cache/search/study.sqlite3")
NUM_DIGITS = 12  # of the hash in a study's name
FAILURE, SETTINGS, OUTCOME, SECONDS = "failure", "settings", "outcome", "seconds"  # what is kept of a trial


@dataclass(frozen=True)
class Settings:
    """What a trial tries.

    Attributes:
        backbone: As in params.yaml; the name may say a resolution.
        scheme: Of quantization.
    """

    backbone: str
    scheme: str

    def of_params(self, params: Mapping[str, Any]) -> dict[str, object]:
        """Return keys and values that make this of what params.yaml holds."""
        schemes = params["quantization"]
        more: dict[str, object] = {} if self.scheme in schemes else {"quantization": [*schemes, self.scheme]}
        more |= {} if params["training"]["mode"] == HEAD else {"training.mode": HEAD}  # a search is about heads
        return {"backbone": self.backbone, **more, "deploy": self.scheme}

    def __str__(self) -> str:
        return f"{self.backbone} {self.scheme}"


def open_study(config: SearchConfig, inputs: str, params: Mapping[str, Any], head: str | None = None) -> optuna.Study:
    """Open the study of these inputs and this space, or begin it; what it lacks is lined up.

    Args:
        config: The space.
        inputs: Hash of data, code and configuration: trials on others cannot be compared.
        params: What params.yaml holds.
        head: By which models are compared; None for the first.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # this module tells what happens
    STUDIES.parent.mkdir(parents=True, exist_ok=True)
    space = {key: value for key, value in asdict(config).items() if not key.startswith("num_")}
    space |= {} if head is None else {"head": head}
    study = optuna.create_study(
        study_name=hash_of({"inputs": inputs, "space": space})[:NUM_DIGITS],
        storage=f"sqlite:///{STUDIES}",
        load_if_exists=True,
        directions=["maximize", "minimize", "minimize"],
    )
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)  # its process was killed
    for settings in to_try(study, config, params):
        study.enqueue_trial(asdict(settings), skip_if_exists=True)
    return study


def to_try(study: optuna.Study, config: SearchConfig, params: Mapping[str, Any]) -> list[Settings]:
    """Return what a study lacks: first what params.yaml has now, then the others in an order drawn by `seed`."""
    backbones = names_of(config.backbones, config.input_pixels)
    space = [Settings(backbone, scheme) for backbone in backbones for scheme in config.quantization]
    random.Random(config.seed).shuffle(space)
    space.sort(key=lambda settings: settings != Settings(params["backbone"], params["deploy"]))
    tried = {str(Settings(**trial.user_attrs[SETTINGS])) for trial in [*finished(study), *failed(study)]}
    return [settings for settings in space if str(settings) not in tried][: num_missing(study, config)]


def num_missing(study: optuna.Study, config: SearchConfig) -> int:
    """Return how many trials a study lacks: no more than there is to try."""
    num_all = len(names_of(config.backbones, config.input_pixels)) * len(config.quantization)
    return max(0, min(config.num_trials, num_all) - len(finished(study)) - len(failed(study)))


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that gave something."""
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def failed(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that went wrong; those that were interrupted are not among them, and run again."""
    return [
        trial for trial in study.get_trials(deepcopy=False, states=[TrialState.FAIL]) if FAILURE in trial.user_attrs
    ]


def model_of(trial: FrozenTrial) -> tuple[str, str]:
    """Return backbone and scheme, which the costs follow from."""
    settings = Settings(**trial.user_attrs[SETTINGS])
    return settings.backbone, settings.scheme
