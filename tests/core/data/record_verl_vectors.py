"""Records the losses and gradients of verl's own Clip-Cov and KL-Cov on random inputs.

Run with the python of an environment that has verl 0.9.0: `python record_verl_vectors.py`. Clip-Cov's random choice
is taken out by a ratio of 1, with which every candidate is chosen.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import verl
from verl.trainer.ppo.core_algos import compute_policy_loss_clip_cov, compute_policy_loss_kl_cov

CASES = 200
MODES = ("token-mean", "seq-mean-token-mean", "seq-mean-token-sum-norm")


def main() -> None:
    rng = np.random.default_rng(0)
    recorded: dict[str, np.ndarray] = {"verl": np.array(verl.__version__), "torch": np.array(torch.__version__)}
    for case in range(CASES):
        batch, length = int(rng.integers(1, 6)), int(rng.integers(1, 12))
        old = -rng.exponential(rng.uniform(0.2, 2.0), (batch, length))
        new = np.minimum(old + rng.normal(0.0, rng.uniform(0.05, 0.6), old.shape), 0.0)
        # One sequence with one advantage has covariances of 0 only, among which no choice means anything.
        per_token = case % 2 == 0 or batch == 1
        advantages = rng.normal(0.0, 1.5, (batch, length if per_token else 1)) * np.ones((1, length))
        mask = rng.random((batch, length)) < 0.8
        mask[0, 0] = True
        mode = case % len(MODES)
        low, high = rng.uniform(0.05, 1.0, 2)
        floor, ceiling = np.sort(rng.uniform(-0.5, 5.0, 2))
        ratio, beta = rng.choice([2e-4, 0.05, 0.3, 1.0]), rng.uniform(0.05, 1.5)
        recorded |= {
            f"{case}.inputs": np.stack([new, old, advantages, mask]),
            f"{case}.settings": np.array([mode, low, high, floor, ceiling, ratio, beta]),
        }
        policy_loss = SimpleNamespace(
            clip_cov_ratio=1.0, clip_cov_lb=floor, clip_cov_ub=ceiling, kl_cov_ratio=ratio, ppo_kl_coef=beta
        )
        config = SimpleNamespace(
            policy_loss=policy_loss, clip_ratio=0.2, clip_ratio_low=low, clip_ratio_high=high, global_batch_info={}
        )
        for name, function in (("clip", compute_policy_loss_clip_cov), ("kl", compute_policy_loss_kl_cov)):
            leaf = torch.tensor(new, requires_grad=True)
            loss, _ = function(
                old_log_prob=torch.tensor(old),
                log_prob=leaf,
                advantages=torch.tensor(advantages),
                response_mask=torch.tensor(mask).to(torch.int64),
                loss_agg_mode=MODES[mode],
                config=config,
            )
            loss.backward()
            recorded[f"{case}.{name}"] = np.concatenate([[loss.item()], leaf.grad.numpy().ravel()])
    np.savez_compressed(Path(__file__).with_name("verl_vectors.npz"), **recorded)


if __name__ == "__main__":
    main()
