from __future__ import annotations

import numpy as np
import pytest

from twinlens.see.roles import ROLES, roles


def _mask(*marked: int, size: int = 8) -> np.ndarray:
    return np.isin(np.arange(size), marked)


CASES = [
    (_mask(1, 2, 3), 6, "b f m l a o F x"),
    (_mask(0), 2, "l a F x x x x x"),
    (_mask(4), 4, "b b b b l x x x"),
    (_mask(3, 4), 5, "b b b f l F x x"),
    (_mask(0, 4, 5), 7, "b b b b f l a F"),
    (_mask(), 3, "o o o F x x x x"),
]
SHORT = dict(zip("bfmlaoFx", ROLES, strict=True))


@pytest.mark.parametrize(("mask", "focus", "expected"), CASES, ids=[c[2] for c in CASES])
def test_roles_are_those_of_the_published_figure(mask, focus, expected):
    assert list(roles(mask, focus)) == [SHORT[letter] for letter in expected.split()]
