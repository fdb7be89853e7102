"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How fast a machine is, and what else it does, says nothing about the code.
settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")
