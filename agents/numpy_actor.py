"""Acting for a few environments on a CPU: the actor's forward pass in NumPy, on the memory of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor, SACPolicy
from torch import Tensor, nn

LARGEST_BATCH = 8  # beyond it torch is as fast

_ACTIVATIONS: dict[type[nn.Module], Callable[[np.ndarray], np.ndarray]] = {
    nn.ReLU: lambda x: np.maximum(x, 0.0, out=x),
    nn.Tanh: lambda x: np.tanh(x, out=x),
}


class NumpyActor:
    """Actions of a multilayer SAC actor, as ``actor(observations)`` gives them, without torch's cost per call.

    Noise is drawn from torch's global generator as Stable-Baselines3 does, so the stream of random numbers is the
    same. Weights are read in place: there is nothing to keep in step.

    Args:
        actor: for which ``can_run`` holds.
        parameters: on the host, in the order of ``parameters_of``, in place of the actor's own.
    """

    def __init__(self, actor: Actor, parameters: list[Tensor] | None = None) -> None:
        self._activations = [_ACTIVATIONS[type(m)] for m in actor.latent_pi if not isinstance(m, nn.Linear)]
        self._actor, self._given = actor, parameters
        self._pointers: list[int] = []

    @staticmethod
    def parameters_of(actor: Actor) -> list[Tensor]:
        """Return weight and bias of each layer, then of the heads for mean and log standard deviation."""
        layers: list[Any] = [module for module in actor.latent_pi if isinstance(module, nn.Linear)]
        return [p for layer in (*layers, actor.mu, actor.log_std) for p in (layer.weight, layer.bias)]

    def _find_weights(self) -> None:
        """See to it that the arrays are the memory of the parameters, which casts, moves and loads may replace."""
        parameters = self.parameters_of(self._actor) if self._given is None else self._given
        pointers = [parameter.data_ptr() for parameter in parameters]
        if pointers == self._pointers:
            return
        self._pointers = pointers
        arrays = [parameter.detach().numpy() for parameter in parameters]
        self._layers = [(weight.T, bias) for weight, bias in zip(arrays[::2], arrays[1::2], strict=True)]

    def sample(self, observations: np.ndarray) -> np.ndarray:
        """Return actions (n, A) in [-1, 1], float32, for observations (n, ...)."""
        hidden = self._hidden(observations)
        (mean_weight, mean_bias), (std_weight, std_bias) = self._layers[-2:]
        mean = hidden @ mean_weight + mean_bias
        log_std = np.clip(hidden @ std_weight + std_bias, LOG_STD_MIN, LOG_STD_MAX)
        noise = torch.empty(mean.shape).normal_().numpy()
        actions: np.ndarray = np.tanh(mean + np.exp(log_std) * noise)
        return actions

    def mode(self, observations: np.ndarray) -> np.ndarray:
        """Return the deterministic actions (n, A) in [-1, 1], float32, for observations (n, ...)."""
        hidden = self._hidden(observations)
        weight, bias = self._layers[-2]
        actions: np.ndarray = np.tanh(hidden @ weight + bias)
        return actions

    def _hidden(self, observations: np.ndarray) -> np.ndarray:
        self._find_weights()
        hidden = observations.reshape(len(observations), -1).astype(np.float32)
        for (weight, bias), activation in zip(self._layers, self._activations, strict=False):
            hidden = hidden @ weight
            hidden += bias
            hidden = activation(hidden)
        return hidden


def can_run(actor: Any) -> bool:
    """Whether NumPy can stand in for an actor: plain layers with known activations, float32."""
    if type(actor) is not Actor or actor.use_sde or type(actor.features_extractor) is not FlattenExtractor:
        return False
    layers = list(actor.latent_pi)
    alternate = all(isinstance(m, nn.Linear) == (i % 2 == 0) for i, m in enumerate(layers))
    known = all(type(module) in _ACTIVATIONS for module in layers[1::2]) and len(layers) % 2 == 0
    parameters = list(actor.parameters())
    plain = all(p.dtype == torch.float32 for p in parameters)
    biased = all(module.bias is not None for module in layers[::2] if isinstance(module, nn.Linear))
    space = actor.observation_space  # others are one-hot encoded, and images scaled
    vectors = isinstance(space, spaces.Box) and len(space.shape) == 1
    return alternate and known and plain and biased and vectors


def asks_its_actor(policy: Any) -> bool:
    """Whether a policy's predictions are its actor's, and nothing of its own."""
    return all(
        getattr(type(policy), name) is getattr(SACPolicy, name) for name in ("predict", "_predict", "forward")
    )
