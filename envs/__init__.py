"""Environments: importing this registers them with Gymnasium."""

import gymnasium

if __name__ == "envs":
    raise ImportError("import it as entroreg.envs: a bare 'envs' would exist twice")

gymnasium.register("entroreg/Navigation-v0", entry_point="entroreg.envs.navigation.environment:NavigationEnv")
