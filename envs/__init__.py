"""Environments: importing this registers them with Gymnasium."""

if __name__ == "envs":
    raise ImportError("import it as entroreg.envs: a bare 'envs' would exist twice")

try:
    import gymnasium
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: environments need pip install 'entroreg[rl]'", name=error.name) from error

import importlib
from typing import Any

from gymnasium.envs.registration import WrapperSpec

gymnasium.register(
    "entroreg/Navigation-v0",
    entry_point="entroreg.envs.navigation.environment:NavigationEnv",
    additional_wrappers=(WrapperSpec("EpisodeClock", "entroreg.envs.navigation.episode_clock:EpisodeClock", {}),),
)
for _name in ("Perturbed", "Randomised", "Protagonist", "Adversary", "Windy"):
    gymnasium.register(
        f"entroreg/{_name}-v0",
        entry_point=f"entroreg.envs.registered:make_{_name.lower()}",
        order_enforce=False,  # the task within has both already
        disable_env_checker=True,
    )

_HOMES = {
    "ActionShare": "adversarial",
    "AdversaryView": "adversarial",
    "Forces": "adversarial",
    "MixedActions": "adversarial",
    "ObservedParameters": "perturbations",
    "ObservedTemperature": "adversarial",
    "Perturbed": "perturbations",
    "ProtagonistView": "adversarial",
    "PushedTask": "adversarial",
    "Randomised": "perturbations",
    "Range": "uncertainty_sets",
    "UncertaintySet": "uncertainty_sets",
    "find_forces": "adversarial",
    "find_set": "uncertainty_sets",
    "make_task": "tasks",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    # When first used: registering the tasks must not load MuJoCo.
    if name in _HOMES:
        return getattr(importlib.import_module(f"entroreg.envs.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'entroreg.envs' has no attribute {name!r}")
