"""For all tests: Hypothesis measures no time, since two noisy cores say nothing about it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "watershed", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("watershed")
