"""Benchmark suites: one module each, with ``cells(preset)`` and ``run(cell, folder)``."""

SUITES = {"sac": "SAC and DiscreteSAC: learning against Stable-Baselines3 at equal settings"}
