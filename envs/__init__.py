"""Environments; empty so far."""

if __name__ == "envs":
    raise ImportError("import it as entroreg.envs: a bare 'envs' would exist twice")
