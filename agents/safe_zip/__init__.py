"""Safe loading: zips of Stable-Baselines3 and entroreg, and replay buffers, read without running what they hold."""

from entroreg.agents.safe_zip.archive import read_file, read_members
from entroreg.agents.safe_zip.errors import UnsafeZipError
from entroreg.agents.safe_zip.optimizers import check_optimizer
from entroreg.agents.safe_zip.reading import check_zip, read_params
from entroreg.agents.safe_zip.replay import read_replay_buffer

__all__ = [
    "UnsafeZipError",
    "check_optimizer",
    "check_zip",
    "read_file",
    "read_members",
    "read_params",
    "read_replay_buffer",
]
