"""A policy-gradient loop in plain PyTorch with Clip-Cov: write two digits with a given sum.

Most sums have many answers, so a policy can be right and keep its entropy. PPO alone settles for a few of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from entroreg.measures import token_logprob_entropy
from entroreg.policy_gradient import ClipCov, PolicyLoss, PPOClip, Quantiles

STEPS, SUMS, SAMPLES = 200, 19, 16  # all sums from 0 to 18 in every batch, with so many answers for each


class Policy(nn.Module):
    """A recurrent policy over the digits 0 to 9, two of them after a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.sums, self.digits = nn.Embedding(SUMS, 64), nn.Embedding(10, 64)
        self.cell, self.head = nn.GRUCell(64, 64), nn.Linear(64, 10)

    def forward(self, sums: Tensor, answers: Tensor) -> Tensor:
        """Return the logits (B, 2, 10) of the digits of answers (B, 2)."""
        first = self.cell(self.sums(sums))
        second = self.cell(self.digits(answers[:, 0]), first)
        return self.head(torch.stack([first, second], dim=1))

    @torch.no_grad()
    def write(self, sums: Tensor) -> Tensor:
        """Return answers (B, 2) to sums (B,)."""
        answers = torch.zeros(len(sums), 2, dtype=torch.int64)
        for place in range(2):
            answers[:, place] = self(sums, answers)[:, place].softmax(dim=-1).multinomial(1)[:, 0]
        return answers


def main(control: PolicyLoss, steps: int = STEPS) -> tuple[float, float]:
    """Train, print reward and entropy on the way, and return those of the last batch."""
    torch.manual_seed(0)
    policy = Policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=2e-3)
    sums = torch.arange(SUMS).repeat_interleave(SAMPLES)
    for step in range(1, steps + 1):
        answers = policy.write(sums)
        rewards = (answers.sum(dim=1) == sums).float()
        advantages = rewards - rewards.reshape(SUMS, SAMPLES).mean(dim=1).repeat_interleave(SAMPLES)
        old_log_probs = None
        for _ in range(2):  # two updates on a batch: from the second on the policy has moved, and the clip acts
            log_probs, entropy = token_logprob_entropy(policy(sums, answers), answers)
            old_log_probs = log_probs.detach() if old_log_probs is None else old_log_probs
            loss, metrics = control(log_probs, old_log_probs, advantages, entropy=entropy)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: reward {rewards.mean():.2f}, entropy {metrics.entropy:.2f} nats")
    return float(rewards.mean()), float(metrics.entropy)


if __name__ == "__main__":
    print("PPO")
    main(PPOClip())
    print("Clip-Cov")
    main(ClipCov(fraction=0.3, band=Quantiles(0.5, 1.0), clip=(0.2, 0.2)))
