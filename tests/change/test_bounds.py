"""Bounds of an increase hold as often as they say, and shrink as documents are added."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twinlens.change.bounds import (
    LEAST,
    Paired,
    both_bounds,
    documents_needed,
    formula_bound,
    least_documents,
    level_of,
    lower_bound,
    t_quantile,
    upper_bound,
)

SHAPES = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "damage": lambda random, shape: random.exponential(size=shape) - 1,
    "improvement": lambda random, shape: 1 - random.exponential(size=shape),
    "rare damage": lambda random, shape: 5 * ((random.random(shape) < 0.05) - 0.05),
}


def drawn(shape: str, sets: int, n: int, increase: float = 0.0) -> Paired:
    random = np.random.default_rng(0)
    tokens = random.lognormal(5, 0.6, (sets, n))
    return Paired((increase + SHAPES[shape](random, (sets, n))) * tokens, tokens)


def passed(pairs: Paired, level: float) -> float:
    """Share of the sets that pass at a margin of 0; resampled only where it can matter."""
    found = formula_bound(pairs, level) < 0
    if found.any():
        kept = Paired(pairs.nats[found], pairs.tokens[found])
        found[found] = upper_bound(kept, level) < 0
    return float(found.mean())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [LEAST, 160])
def test_a_model_at_the_margin_passes_in_at_most_5_percent(shape, n):
    error = math.sqrt(0.05 * 0.95 / 600)
    assert passed(drawn(shape, 600, n), 0.05) <= 0.05 + 2 * error


def test_students_t_alone_would_let_too_many_pass():
    pairs = drawn("rare damage", 600, LEAST)
    t = pairs.increase + t_quantile(0.95, LEAST - 1) * pairs.error
    assert (t < 0).mean() > 0.1


def test_a_good_model_passes_and_a_bad_one_does_not():
    for shape in SHAPES:
        assert passed(drawn(shape, 40, 160, -0.9), 0.05) > 0.7
        assert passed(drawn(shape, 40, 160, 0.3), 0.05) == 0


def test_the_lower_bound_is_the_upper_one_of_the_mirrored():
    pairs = drawn("damage", 3, 120)
    np.testing.assert_allclose(lower_bound(pairs, 0.05), -upper_bound(pairs.mirrored(), 0.05))
    assert (lower_bound(pairs, 0.05) < pairs.increase).all()
    one = Paired(pairs.nats[:1], pairs.tokens[:1])
    ends = (lower_bound(one, 0.02)[0], upper_bound(one, 0.05)[0])
    assert both_bounds(one, 0.02, 0.05) == pytest.approx(ends)
    assert (pairs.increase < upper_bound(pairs, 0.05)).all()


def test_bounds_do_not_depend_on_the_units():
    pairs = drawn("damage", 2, 120)
    scaled = Paired(pairs.nats * 1e-7, pairs.tokens * 1e-3)
    np.testing.assert_allclose(
        upper_bound(scaled, 0.05), upper_bound(pairs, 0.05) * 1e-4, rtol=1e-9
    )


def test_the_studentised_bootstrap_is_that_of_a_plain_loop():
    from twinlens.change import bounds

    pairs = drawn("damage", 1, 30)
    nats, tokens = pairs.nats[0], pairs.tokens[0]

    def both(nats: np.ndarray, tokens: np.ndarray) -> tuple[float, float]:
        ratio = nats.sum() / tokens.sum()
        spread = np.sqrt(((nats - ratio * tokens) ** 2).sum() * len(nats) / (len(nats) - 1))
        return ratio, spread / tokens.sum()

    whole, error = both(nats, tokens)
    random, student = np.random.default_rng(7), []
    for _ in range(20_000):
        picked = random.integers(0, 30, 30)
        ratio, its_error = both(nats[picked], tokens[picked])
        student.append((ratio - whole) / its_error)
    expected = whole - np.quantile(student, 0.05) * error
    made = whole - np.quantile(bounds._students(pairs, 1)[:, 0], 0.05) * error
    assert made - whole == pytest.approx(expected - whole, rel=0.05)


def test_documents_that_all_change_alike_leave_nothing_to_bound():
    pairs = Paired(np.zeros((1, 9)), np.full((1, 9), 4.0))
    assert upper_bound(pairs, 0.05) == lower_bound(pairs, 0.05) == 0
    one = Paired(np.ones((1, 1)), np.ones((1, 1)))
    assert upper_bound(one, 0.05) == np.inf == -lower_bound(one, 0.05)


def test_the_reckoned_number_of_documents_decides_more_often_than_not():
    """Of sets that cannot tell, most are decided by as many documents as were reckoned."""
    decided = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        few = Paired(random.normal(-0.1, 1, (1, 120)), np.ones((1, 120)))
        upper = float(upper_bound(few, 0.05)[0])
        if upper < 0 or few.increase[0] > -0.08:
            continue
        needed = documents_needed(few, upper, 0.05, 0.05, 0.0)
        assert needed is not None
        assert needed > 120
        more = Paired(random.normal(few.increase[0], 1, (1, needed)), np.ones((1, needed)))
        decided += 1 if formula_bound(more, 0.05)[0] < 0 else -1
    assert decided > 3


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [(0.95, 30, 1.69726), (0.975, 60, 2.00030), (0.99, 100, 2.36422), (0.999, 40, 3.30688)],
)
def test_quantiles_of_students_t_are_those_of_the_tables(probability, freedom, value):
    assert t_quantile(probability, freedom) == pytest.approx(value, abs=2e-5)


def test_all_looks_together_spend_alpha():
    total = sum(level_of(k, 0.05) for k in range(1, 20_000))
    assert 0.0499 < total < 0.05


def test_damage_in_a_rare_share_is_seen_with_half_of_the_level_to_spare():
    for level in (0.05, 0.001, 1e-5):
        n = least_documents(level)
        assert n >= LEAST
        assert 0.95**n <= level / 2
    assert least_documents(0.05, 0.01) > 300
