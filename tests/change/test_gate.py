"""The gate judges by independent reckonings, and says so where it cannot tell."""

from __future__ import annotations

import pytest

import twinlens as tl


@pytest.fixture(scope="module")
def hamlet() -> tl.Model:
    return tl.load("hamlet")


def test_the_same_model_passes_with_an_increase_of_exactly_zero(hamlet):
    reference = tl.Gate(tl.hamlet.text()[:20]).of(hamlet)
    verdict = reference.check(hamlet, look=1)
    assert verdict.passed
    assert verdict.increase == verdict.upper == verdict.lower == 0
    assert verdict.worst.kl == verdict.worst.flips == 0
