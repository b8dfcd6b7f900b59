"""Hypothesis's health checks that go by luck or by the load of the machine: they tell nothing of our code."""

from hypothesis import HealthCheck

LUCK = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example]
WITH_FIXTURES = [
    *LUCK,
    HealthCheck.function_scoped_fixture,
]  # of a test whose fixture may stay as it is
