"""Agents whose files are read without running what they hold: what differs from Stable-Baselines3 in loading."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Self

import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.her import HerReplayBuffer

from entroreg.agents.safe_zip import (
    UnsafeZipError,
    check_state,
    check_zip,
    read_file,
    read_members,
    read_params,
    read_replay_buffer,
)


class SafelyLoaded(OffPolicyAlgorithm):
    """Base of the agents that load zips and replay buffers of anybody's.

    A learning rate that is code is left out: such an agent predicts, and trains once it is given one.
    """

    _learning_rate_is_code: bool = False  # set by load; saved then, so that the next load knows as well

    @classmethod
    def load(
        cls,
        path: str | Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Load an agent from a zip of entroreg or of Stable-Baselines3; see ``EntropyControlled.load``."""
        if custom_objects is not None and not isinstance(custom_objects, dict):
            raise ValueError(f"custom_objects must be a dict or None, got {type(custom_objects).__name__}")
        content = read_file(path, "zip")
        given = custom_objects or {}
        if trust:
            read_members(content)  # its limits hold for everyone
            file, objects = io.BytesIO(content), given
        else:
            file, objects = check_zip(cls, content, given)
        try:
            model = super().load(file, env, device, objects, print_system_info, force_reset, **kwargs)
        except MemoryError as error:
            raise UnsafeZipError(
                "the replay buffer of the zip's buffer_size does not fit in memory: pass load(..., buffer_size=n)"
            ) from error
        if "learning_rate" in {*kwargs, *given}:
            model._learning_rate_is_code = False
        return model

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: torch.device | str = "auto"
    ) -> None:
        """Load parameters, as in Stable-Baselines3; a file is checked as in ``load``.

        Raises:
            UnsafeZipError: the file is damaged, or of another agent.
        """
        if not isinstance(load_path_or_dict, dict):
            load_path_or_dict, _ = read_params(read_members(read_file(load_path_or_dict, "zip")))
            names, given = set(self._get_torch_save_params()[0]), set(load_path_or_dict)
            if not given or given - names or (exact_match and given != names):
                raise UnsafeZipError(f"the zip has parameters of {sorted(given)}, the agent of {sorted(names)}")
            for name, state in load_path_or_dict.items():
                check_state(name, state, recursive_getattr(self, name), exact=exact_match)
        super().set_parameters(load_path_or_dict, exact_match, device)

    def load_replay_buffer(
        self,
        path: str | Path | io.BufferedIOBase,
        truncate_last_traj: bool = True,
        *,
        trust: bool = False,
    ) -> None:
        """Load a replay buffer that ``save_replay_buffer`` wrote.

        Args:
            path: of the file (".pkl" may be left out), or a binary file object, read from where it is.
            truncate_last_traj: as in Stable-Baselines3, for HER.
            trust: whether to unpickle anything, which runs code that the file may hold.

        Raises:
            UnsafeZipError: without ``trust``: the file is damaged, of another task, or holds other classes than
                Stable-Baselines3's buffers, spaces and NumPy's arrays.
            ValueError: a buffer of HER, and the agent has no environment.
        """
        if trust:
            super().load_replay_buffer(path, truncate_last_traj)
            return
        content = path.read() if isinstance(path, io.BufferedIOBase) else read_file(path, "pkl")
        buffer = read_replay_buffer(content, self.observation_space, self.action_space)
        buffer.device = self.device
        if isinstance(buffer, HerReplayBuffer):
            if self.env is None:
                raise ValueError("a replay buffer of HER needs the environment: call set_env first")
            buffer.set_env(self.env)
            if truncate_last_traj:
                buffer.truncate_last_trajectory()
        self.replay_buffer = buffer

    def require_learning_rate(self) -> None:
        """Raise RuntimeError for an agent that was loaded without its learning rate."""
        if self._learning_rate_is_code:
            raise RuntimeError(
                "this agent was saved with a learning rate that is code, which is not read from a file, so it can "
                "only predict: to train, pass load(..., learning_rate=3e-4) or a schedule, or load with trust=True"
            )

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        self.require_learning_rate()
        return super()._setup_learn(*args, **kwargs)
