"""Perturbations of MuJoCo tasks: physical parameters by name, noise and delay, undone exactly."""

from entroreg.envs.perturbations.model_state import ModelState
from entroreg.envs.perturbations.observed_parameters import ObservedParameters
from entroreg.envs.perturbations.parameters import PHYSICS, read_parameter, set_parameter
from entroreg.envs.perturbations.wrapper import Perturbed, Randomised

__all__ = [
    "PHYSICS",
    "ModelState",
    "ObservedParameters",
    "Perturbed",
    "Randomised",
    "read_parameter",
    "set_parameter",
]
