"""Makes an archive of this folder: `python make.py OUT`, in an environment with the Stable-Baselines3 in question.

It holds what that release's `SAC.save` wrote after a few updates, beside the deterministic actions of the agents
that were saved. README.md says which versions the committed ones were made with, and how to install them.
"""

import io
import json
import platform
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common import utils
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv

OLD_GYM = stable_baselines3.__version__.startswith("1.")
if OLD_GYM:
    import gym
else:
    import gymnasium as gym

_STEPS = 24  # of the environment, of which 8 come before the first update


class Point(gym.Env):
    """A point on a line that is pushed towards 0, with the interface of gym and of gymnasium."""

    def __init__(self, goal=False):
        box = gym.spaces.Box(-np.ones(2, np.float32), np.ones(2, np.float32))
        one = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.goal = goal
        self.observation_space = box
        if goal:
            parts = {"observation": box, "achieved_goal": one, "desired_goal": one}
            self.observation_space = gym.spaces.Dict(parts)
        self.action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
        self.rng = np.random.default_rng(0)

    def reset(self, seed=None, options=None):
        self.state, self.steps = self.rng.uniform(-1, 1, 2).astype(np.float32), 0
        return self._observation() if OLD_GYM else (self._observation(), {})

    def step(self, action):
        self.steps += 1
        self.state = np.clip(self.state + 0.1 * np.float32([self.state[1], action[0]]), -1, 1)
        reward, late = self.compute_reward(self.state[:1], np.zeros(1), {}), self.steps >= 7
        if OLD_GYM:
            return self._observation(), float(reward), late, {"TimeLimit.truncated": late}
        return self._observation(), float(reward), False, late, {}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -np.abs(achieved_goal - desired_goal).sum(-1)

    def _observation(self):
        if not self.goal:
            return self.state.copy()
        goal = np.zeros(1, np.float32)
        return {"observation": self.state.copy(), "achieved_goal": self.state[:1].copy(), "desired_goal": goal}


def sb3_schedule():
    """Stable-Baselines3's own linear schedule: a class from 2.7 on, a closure before."""
    if hasattr(utils, "LinearSchedule"):
        return utils.LinearSchedule(1e-3, 1e-4, 0.5)
    return utils.get_linear_fn(1e-3, 1e-4, 0.5)


def cases():
    """Name -> (policy, environment, arguments)."""
    small = {"net_arch": [8, 8]}
    custom = {
        "net_arch": {"pi": [8, 8], "qf": [8]},
        "activation_fn": torch.nn.Tanh,
        "optimizer_class": torch.optim.AdamW,
        "optimizer_kwargs": {"weight_decay": 1e-3},
        "log_std_init": -2,
        "n_critics": 1,
        "share_features_extractor": True,
    }
    two = DummyVecEnv([Point, Point])
    ou = OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.1 * np.ones(1))
    her = {"n_sampled_goal": 2, "goal_selection_strategy": "final"}
    return {
        "default": ("MlpPolicy", Point(), {"policy_kwargs": small}),
        "kwargs": ("MlpPolicy", Point(), {"policy_kwargs": custom, "ent_coef": "auto_0.3", "target_entropy": -0.5}),
        "lambda": ("MlpPolicy", Point(), {"policy_kwargs": small, "learning_rate": lambda left: 1e-3 * left}),
        "schedule": ("MlpPolicy", Point(), {"policy_kwargs": small, "learning_rate": sb3_schedule()}),
        "noise": (
            "MlpPolicy",
            Point(),
            {
                "policy_kwargs": small,
                "action_noise": NormalActionNoise(np.zeros(1), 0.1 * np.ones(1)),
                "ent_coef": 0.2,
                "train_freq": (1, "episode"),
            },
        ),
        "two": ("MlpPolicy", two, {"policy_kwargs": small, "action_noise": ou, "gradient_steps": -1}),
        "sde": ("MlpPolicy", Point(), {"policy_kwargs": small, "use_sde": True, "sde_sample_freq": 4}),
        "her": (
            "MultiInputPolicy",
            Point(goal=True),
            {"policy_kwargs": small, "replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": her},
        ),
    }


def expected(agent):
    """Fixed observations and what the agent does there."""
    rng = np.random.default_rng(1)
    observations = [
        {key: rng.uniform(-1, 1, space.shape).astype(np.float32) for key, space in spaces.items()}
        for spaces in [getattr(agent.observation_space, "spaces", {"": agent.observation_space})] * 4
    ]
    actions = [agent.predict(o.get("", o), deterministic=True)[0].tolist() for o in observations]
    return {
        "observations": [{key: value.tolist() for key, value in o.items()} for o in observations],
        "actions": actions,
    }


def make(folder):
    """Write the zips, two replay buffers and the table of actions."""
    platform.platform = lambda *_, **__: "Linux"  # each zip says where it was made, which is nobody's business
    table = {}
    for name, (policy, env, arguments) in cases().items():
        agent = SAC(policy, env, seed=0, learning_starts=8, buffer_size=32, batch_size=8, device="cpu", **arguments)
        agent.learn(_STEPS)
        agent.save(folder / f"{name}.zip")
        if name in ("default", "her"):
            agent.save_replay_buffer(folder / f"{name}.pkl")
        table[name] = expected(agent)
    (folder / "expected.json").write_text(json.dumps(table, indent=1) + "\n")


def main(out):
    """Write the archive of this release; xz, since the same weights are in many of its zips."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tarfile.open(out / f"{stable_baselines3.__version__}.tar.xz", "w:xz", preset=9) as archive,
    ):
        make(Path(folder))
        for path in sorted(Path(folder).iterdir()):
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            archive.addfile(entry, io.BytesIO(path.read_bytes()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
