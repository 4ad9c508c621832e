"""Benchmark suites: one module each, with ``cells(preset)`` and ``run(cell, folder)``.

A suite whose results are no scores has ``summarise(cells, out)`` and ``as_text(summary)`` of its own, and one that
draws has ``plot(summary, picture)``. ``MOST_JOBS`` limits the cells that run at once, ``BOUNDS`` names methods that
are no rivals. ``readings``, ``curves`` and ``grid`` are what it says to reports and comparisons, see readings.py.
"""

SUITES = {
    "sac": "SAC and DiscreteSAC: learning against Stable-Baselines3 at equal settings",
    "sac-mujoco": "SAC on the engine and Stable-Baselines3's: learning on MuJoCo's locomotion tasks",
    "sac-speed": "SAC: time of a training step against Stable-Baselines3, SBX and RLtools, on one and two threads",
    "robust": "robustness on MuJoCo: QARL and RARL against SAC and domain randomisation, over uncertainty sets",
    "robust-speed": "adversarial views beside the plain task, QARL's iterations stage by stage",
    "rlvr": "entropy controls of language-model policy gradients: a transformer that learns to add",
    "mil": "multiple instance learning: attention models without and with attention-entropy maximisation",
    "mil-speed": "multiple instance learning: packed bags against a loop and padding, huge bags streamed",
    "adaptation": "adaptation of a planner at test time, under shift: entropy over plans, over groups of them",
    "image-adaptation": "test-time adaptation on streams of corrupted images: TENT, EATA, SAR and MEMO",
    "curriculum": "steps of QARL's curriculum: a bracketed search against SciPy's trust-constr",
    "distillation": "adversarial robustness of small students: training, distillation, balanced teachers",
    "overhead": "the runner itself: time of a cell that does nothing beside the start of a process",
    "token-entropy": "log-probability and entropy of tokens: time, memory and error against TRL and verl",
    "trust": "trainings killed at random instants and resumed, beside Stable-Baselines3's; what checkpoints cost",
}

MINUTES: dict[str, dict[str, float]] = {
    "sac": {"smoke": 1, "small": 60},
    "sac-mujoco": {"smoke": 1, "small": 180},
    "sac-speed": {"smoke": 1, "small": 10},
    "robust": {"smoke": 1, "small": 240},
    "robust-speed": {"smoke": 1, "small": 10},
    "rlvr": {"smoke": 1, "small": 80},
    "mil": {"smoke": 1, "small": 110},
    "mil-speed": {"smoke": 1, "small": 6},
    "adaptation": {"smoke": 1, "small": 60},
    "image-adaptation": {"smoke": 1, "small": 25},
    "curriculum": {"smoke": 1, "small": 3},
    "distillation": {"smoke": 1, "small": 80},
    "overhead": {"smoke": 1, "small": 3},
    "token-entropy": {"smoke": 1, "small": 15},
    "trust": {"smoke": 1, "small": 40},
}
"""Core-minutes of a whole preset, by the times that its cells took; half on a fast machine, twice on a slow one."""
