"""The network that scores every plan of a vocabulary for an observation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from entroreg.agents.planner.vocabulary import Vocabulary
from entroreg.envs.navigation.lidar import BEAMS, RANGE, directions
from entroreg.envs.navigation.maps import LENGTH

_SAFE, _PROGRESS, _COMFORT = 5.0, 1.0, 0.1  # exponents of the subscores: a collision weighs most


class PlanScores(NamedTuple):
    """Logits of N plans' subscores for each of B observations, all (B, N).

    Attributes:
        safe: of no collision.
        progress: of the share of the way that is covered.
        comfort: of the comfort.
    """

    safe: Tensor
    progress: Tensor
    comfort: Tensor

    def joint(self) -> Tensor:
        r"""Return the log of the weighted product of the subscores, (B, N): the largest is driven.

        $$s = 5 \log\sigma(safe) + \log\sigma(progress) + 0.1 \log\sigma(comfort)$$

        Its softmax is the distribution over plans whose entropy says how certain the planner is.
        """
        logs = (torch.nn.functional.logsigmoid(part) for part in self)
        return sum(weight * part for weight, part in zip((_SAFE, _PROGRESS, _COMFORT), logs, strict=True))  # type: ignore[return-value]


class PlanScorer(nn.Module):
    """An encoder of what each plan passes, and a decoder of its scores.

    Along a plan's nominal trajectory the encoder sees the distance to the nearest lidar hit and to the goal at each
    step, with the robot's velocity and the plan itself.

    Args:
        vocabulary: of N plans; kept in the state, since scores mean nothing without it.
        width: of all layers.

    Reference:
        The scorers of Hydra-MDP (arXiv 2406.06978) and Centaur (arXiv 2503.11650), at the size of this task.
    """

    actions: Tensor
    positions: Tensor
    directions: Tensor

    def __init__(self, vocabulary: Vocabulary, *, width: int = 128) -> None:
        super().__init__()
        self.register_buffer("actions", vocabulary.actions)
        self.register_buffer("positions", vocabulary.positions)
        self.register_buffer("directions", torch.from_numpy(directions()).float(), persistent=False)
        steps = vocabulary.positions.shape[1]
        self.encoder = nn.Sequential(nn.Linear(6 * steps + 2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 3))

    def forward(self, observations: Tensor) -> PlanScores:
        """Return the subscores of all plans for observations (B, 37) of the navigation task."""
        return PlanScores(*self.decoder(self.encoder(self._seen(observations))).unbind(dim=-1))

    def _seen(self, observations: Tensor) -> Tensor:
        """Return (B, N, 6 T + 2) what each plan passes: lengths in units of the lidar's range."""
        lidar, goal = observations[:, :BEAMS], observations[:, BEAMS : BEAMS + 2] * (LENGTH / RANGE)
        velocity = observations[:, BEAMS + 2 : BEAMS + 4]
        hits = lidar.unsqueeze(-1) * self.directions
        positions = self.positions / RANGE
        places = positions.flatten(0, 1).expand(len(observations), -1, -1)
        distances = torch.cdist(places, hits)
        # A beam that met nothing has no hit; beyond the range all is far.
        distances = torch.where(lidar.unsqueeze(1) < 1.0, distances, 1.0).amin(dim=-1).clamp(max=1.0)
        remaining = (positions - goal[:, None, None]).norm(dim=-1)
        batch, (plans, steps) = len(observations), self.positions.shape[:2]
        return torch.cat(
            [
                distances.view(batch, plans, steps),
                remaining,
                velocity.unsqueeze(1).expand(-1, plans, -1),
                positions.flatten(1).expand(batch, -1, -1),
                self.actions.flatten(1).expand(batch, -1, -1),
            ],
            dim=-1,
        )
