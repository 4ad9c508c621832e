"""Safe loading: zips of Stable-Baselines3 and entroreg, and replay buffers, read without running what they hold."""

from entroreg.agents.safe_zip.archive import read_file, read_members
from entroreg.agents.safe_zip.errors import UnsafeZipError
from entroreg.agents.safe_zip.reading import check_zip, read_params
from entroreg.agents.safe_zip.replay import read_replay_buffer
from entroreg.agents.safe_zip.state_dicts import check_optimizer, check_state

__all__ = [
    "UnsafeZipError",
    "check_optimizer",
    "check_state",
    "check_zip",
    "read_file",
    "read_members",
    "read_params",
    "read_replay_buffer",
]
