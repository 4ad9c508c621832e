from __future__ import annotations

from hypothesis import HealthCheck, settings

# Torch's first call of an operator is slow, which Hypothesis takes for a slow example.
settings.register_profile(
    "mil", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("mil")
