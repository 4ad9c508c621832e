"""Environments: importing this registers them with Gymnasium."""

if __name__ == "envs":
    raise ImportError("import it as entroreg.envs: a bare 'envs' would exist twice")

try:
    import gymnasium
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: environments need pip install 'entroreg[rl]'", name=error.name) from error

from gymnasium.envs.registration import WrapperSpec

gymnasium.register(
    "entroreg/Navigation-v0",
    entry_point="entroreg.envs.navigation.environment:NavigationEnv",
    additional_wrappers=(WrapperSpec("EpisodeClock", "entroreg.envs.navigation.episode_clock:EpisodeClock", {}),),
)
