"""Policies of DiscreteSAC: a categorical actor and critics that value all actions at once. B batch, A actions."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
    create_mlp,
    get_actor_critic_arch,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn


class CategoricalActor(BasePolicy):
    """Policy network: features -> logits of the actions."""

    features_extractor: BaseFeaturesExtractor
    action_space: spaces.Discrete
    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module],
        normalize_images: bool,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
        )
        self.logits = nn.Sequential(*create_mlp(features_dim, int(action_space.n), net_arch, activation_fn))

    def log_probs(self, observations: PyTorchObs) -> Tensor:
        """Return (B, A) log pi."""
        features = self.extract_features(observations, self.features_extractor)
        return torch.log_softmax(self.logits(features), dim=1)

    def forward(self, observations: PyTorchObs, deterministic: bool = False) -> Tensor:
        """Return (B,) actions: sampled, or the most probable ones."""
        log_probs = self.log_probs(observations)
        if deterministic:
            return log_probs.argmax(dim=1)
        return torch.multinomial(log_probs.exp(), 1).squeeze(1)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self.forward(observation, deterministic)


class DiscreteCritic(BaseModel):
    """Critics: features -> one (B, A) tensor of Q-values for each."""

    features_extractor: BaseFeaturesExtractor
    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module],
        normalize_images: bool,
        n_critics: int,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
        )
        actions = int(action_space.n)
        self.q_networks = nn.ModuleList(
            nn.Sequential(*create_mlp(features_dim, actions, net_arch, activation_fn)) for _ in range(n_critics)
        )

    def forward(self, observations: PyTorchObs) -> tuple[Tensor, ...]:
        """Return one (B, A) tensor for each critic."""
        features = self.extract_features(observations, self.features_extractor)
        return tuple(network(features) for network in self.q_networks)


class DiscreteSACPolicy(BasePolicy):
    """Actor, critics and their targets, each with its own features extractor.

    Args:
        observation_space: any that Stable-Baselines3 takes.
        action_space: Discrete.
        lr_schedule: learning rate as a function of the remaining progress.
        net_arch: hidden widths, or a dict with "pi" and "qf"; two of 256 by default.
        activation_fn: of the hidden layers.
        features_extractor_class: of Stable-Baselines3's kind.
        features_extractor_kwargs: its arguments.
        normalize_images: divide images by 255.
        optimizer_class: Adam by default.
        optimizer_kwargs: its arguments besides the learning rate.
        n_critics: number of critics.
    """

    actor: CategoricalActor
    critic: DiscreteCritic
    critic_target: DiscreteCritic
    action_space: spaces.Discrete

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        n_critics: int = 2,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class,
            features_extractor_kwargs,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            normalize_images=normalize_images,
        )
        self.net_arch = [256, 256] if net_arch is None else net_arch
        self.activation_fn = activation_fn
        self.n_critics = n_critics
        self._build(lr_schedule)

    def _build(self, lr_schedule: Schedule) -> None:
        actor_arch, critic_arch = get_actor_critic_arch(self.net_arch)
        shared = {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "activation_fn": self.activation_fn,
            "normalize_images": self.normalize_images,
        }
        actor_kwargs = {**shared, "net_arch": actor_arch}
        critic_kwargs = {**shared, "net_arch": critic_arch, "n_critics": self.n_critics}
        self.actor = CategoricalActor(**self._update_features_extractor(actor_kwargs))
        self.actor_target = CategoricalActor(**self._update_features_extractor(actor_kwargs))
        self.critic = DiscreteCritic(**self._update_features_extractor(critic_kwargs))
        self.critic_target = DiscreteCritic(**self._update_features_extractor(critic_kwargs))
        for network, target in ((self.actor, self.actor_target), (self.critic, self.critic_target)):
            target.load_state_dict(network.state_dict())
            target.set_training_mode(False)
            network.optimizer = self.optimizer_class(
                network.parameters(),
                lr=lr_schedule(1),  # type: ignore[call-arg]
                **self.optimizer_kwargs,
            )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "net_arch": self.net_arch,
            "activation_fn": self.activation_fn,
            "n_critics": self.n_critics,
            "lr_schedule": self._dummy_schedule,  # not needed to load a policy alone
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
            "features_extractor_class": self.features_extractor_class,
            "features_extractor_kwargs": self.features_extractor_kwargs,
        }

    def forward(self, observations: PyTorchObs, deterministic: bool = False) -> Tensor:
        """Return (B,) actions."""
        return self._predict(observations, deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self.actor(observation, deterministic)  # type: ignore[no-any-return]

    def set_training_mode(self, mode: bool) -> None:
        """Put actor and critics in training or evaluation mode; targets stay in evaluation mode."""
        self.actor.set_training_mode(mode)
        self.critic.set_training_mode(mode)
        self.training = mode


MlpPolicy = DiscreteSACPolicy


class CnnPolicy(DiscreteSACPolicy):
    """DiscreteSACPolicy on images, with the features extractor of the Nature DQN."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"features_extractor_class": NatureCNN, **kwargs})


class MultiInputPolicy(DiscreteSACPolicy):
    """DiscreteSACPolicy on Dict observations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"features_extractor_class": CombinedExtractor, **kwargs})
