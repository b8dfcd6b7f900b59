"""Refusals: a name that does not exist is told the nearest ones, in one line."""

import pytest

from ref.errors import nearest, unknown
from ref.mutants import tap_mutants

NAMES = ["gelu_erf", "gelu_quick", "rope_interleaved", "norm_eps_1e-5", "Pan & Scan"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("gelu_erv", "gelu_erf"),
        ("GELU_ERF", "gelu_erf"),
        ("interleaved", "rope_interleaved"),
        ("eps", "norm_eps_1e-5"),
        ("pan&scan", "Pan & Scan"),
    ],
)
def test_the_nearest_name_comes_first(name, near):
    assert nearest(name, NAMES).split(", ")[0] == near


@pytest.mark.parametrize("name", ["", "zzzz", "\x00"])
def test_what_is_like_none_has_none_near(name):
    assert nearest(name, NAMES) == ""


def test_there_are_no_more_than_asked_for():
    assert len(nearest("rope", tap_mutants(), 2).split(", ")) == 2


def test_every_mistake_with_a_letter_lost_is_found_again():
    for name in tap_mutants():
        assert name in nearest(name[:2] + name[3:], tap_mutants()).split(", ")


def test_the_refusal_is_one_line_that_names_them():
    said = str(unknown("mistake", "break_port", "gelu\nerf\x1b", NAMES))
    assert said.startswith("break_port: no mistake is called gelu erf\\x1b; near: gelu_erf")
    said = str(unknown("mistake", "break_port", "zzzz", NAMES))
    assert said == "break_port: no mistake is called zzzz; there are 5, such as gelu_erf, gelu_quick"
