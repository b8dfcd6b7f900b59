"""One free number: least squares find it, its standard error is its scatter, and known numbers are recognised."""

import math

import numpy as np
import pytest

from ref.hypotheses.numbers import FACTORS, fit_number, known_roots, recognised

X = np.linspace(0.1, 3, 400)


@pytest.mark.parametrize(
    ("model", "wanted", "starts"),
    [
        (lambda p: p * X, 1.7, [1.0]),
        (lambda p: p * np.tanh(X / p), 2.5, [1.0, 10.0, 100.0]),
        (lambda p: X / np.sqrt(X + p), 1e-3, [1e-5, 1e-2]),
        (lambda p: np.cos(p * X), 4.0, np.geomspace(0.1, 30, 40)),
    ],
)
def test_a_number_is_found_from_values_without_noise(model, wanted, starts):
    found, stderr = fit_number(model, model(wanted), starts)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert stderr < 1e-6


def test_a_negative_number_is_found_when_steps_are_no_multiples():
    found, _ = fit_number(lambda p: X + p, X - 3.0, [0.0], relative=False)
    assert found == pytest.approx(-3)


def test_the_standard_error_is_the_scatter_over_draws():
    rng, wanted = np.random.default_rng(0), 1.7
    fits = [fit_number(lambda p: p * X, wanted * X + 0.1 * X * rng.normal(size=X.size), [1.0]) for _ in range(300)]
    found, stderr = np.array(fits).T
    assert np.std(found) == pytest.approx(np.mean(stderr), rel=0.15)
    assert abs(np.mean(found) - wanted) < 0.01


def test_a_number_without_effect_has_no_error():
    assert fit_number(lambda p: np.ones_like(X), X, [2.0]) == (2.0, math.inf)


ROOTS = known_roots(D=640.0)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (25.0, "int(sqrt(D))"),
        (math.sqrt(640), "sqrt(D)"),
        (25.25, "bfloat16(sqrt(D))"),
        (640.0, "D"),
        (1 / math.sqrt(640), "1/sqrt(D)"),
    ],
)
def test_roots_of_the_sizes_are_recognised(value, name):
    known = recognised(value * (1 + 1e-7), 1e-6 * value, ROOTS)
    assert known is not None
    assert known[1] == name
    assert known[0] == pytest.approx(value, rel=1e-6)


def test_a_number_within_three_errors_is_known_and_one_beyond_is_not():
    assert recognised(0.5 + 0.0029, 0.001, FACTORS) == (0.5, "1/2")
    assert recognised(0.5 + 0.0031, 0.001, FACTORS) is None


def test_a_number_that_is_known_badly_is_taken_for_nothing():
    assert recognised(0.5, 0.1, FACTORS) is None
