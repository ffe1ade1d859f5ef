"""The leaderboard of hand-made cells, with its statistics by hand."""

from __future__ import annotations

import json
import math

import pytest

from twinlens.contest.board import leaderboard, mcnemar
from twinlens.contest.judgement import student_quantile
from twinlens.errors import RunFolderError

DEFAULT = {"tier": "full", "counts": True, "blind": True, "verdict": "deleted", "increase": 0.0,
           "upper": 0.005, "seconds": {"clean": 2.0, "judge": 1.0}}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """A tournament's folder with cells: (recipe, seed, what differs from the default)."""

    def make(cells, seeds=4, tiers=("full",)):
        names = list(dict.fromkeys(name for name, _, _ in cells))
        about = {"tiers": list(tiers), "seeds": seeds, "entrants": [{"name": n} for n in names]}
        (tmp_path / "tournament.json").write_text(json.dumps(about))
        (tmp_path / "cells").mkdir()
        for name, seed, other in cells:
            cell = DEFAULT | {"recipe": name, "seed": seed} | other
            path = tmp_path / "cells" / f"{cell['tier']}-{seed}-{name}.json"
            path.write_text(json.dumps(cell))
        return tmp_path

    return make


def test_shares_have_wilsons_interval(write):
    cells = [("prune", n, {"verdict": "deleted" if n < 3 else "surviving"}) for n in range(10)]
    (found,) = leaderboard(write(cells, seeds=10)).standings
    # 3 of 10 by hand: (0.3 + z²/20 ± z sqrt(0.021 + z²/400)) / (1 + z²/10), z = 1.96
    assert found.shares["deleted"] == pytest.approx((0.3, 0.1078, 0.6032), abs=1e-4)
    assert found.shares["surviving"].mean == pytest.approx(0.7)
    assert found.shares["broken"] == pytest.approx((0, 0, 0.2775), abs=1e-4)
    assert sum(one.mean for one in found.shares.values()) == pytest.approx(1)
    assert (found.n, found.seconds) == (10, 2.0)


def test_what_failed_its_check_is_not_counted(write):
    cells = [("prune", 1, {}), ("prune", 2, {"counts": False, "verdict": "surviving"})]
    found = leaderboard(write(cells, seeds=2))
    assert (found.implants, found.counted) == (2, 1)
    assert found.standings[0].n == 1
    assert found.standings[0].shares["surviving"].mean == 0
    assert "1 of 2 implants" in found.markdown()


def test_the_mean_increase_has_students_interval_and_a_broken_model_an_endless_bound(write):
    rises = (0.01, 0.02, 0.06)
    cells = [("noise", n, {"increase": rise, "upper": rise + 0.01}) for n, rise in enumerate(rises)]
    broken = ("noise", 3, {"increase": None, "upper": None, "verdict": "broken"})
    found = leaderboard(write([*cells, broken])).standings[0]
    half = 4.3027 * math.sqrt(0.0007) / math.sqrt(3)  # Student's t, two degrees of freedom
    assert found.increase == pytest.approx((0.03, 0.03 - half, 0.03 + half), abs=1e-5)
    assert student_quantile(0.025, 2) == pytest.approx(4.3027, abs=1e-3)
    assert found.upper == math.inf
    assert found.clean.mean == 0


def test_deleted_at_a_price_is_not_clean(write):
    cells = [("prune", n, {"upper": upper}) for n, upper in enumerate((0.005, 0.01, 0.02, 0.03))]
    found = leaderboard(write(cells)).standings[0]
    assert found.shares["deleted"].mean == 1
    assert found.clean.mean == 0.5


def test_recipes_are_compared_on_the_same_implants(write):
    no = {"verdict": "suppressed"}
    cells = [("a", n, {} if n < 6 else no) for n in range(8)]
    cells += [("b", n, no if n < 6 else {}) for n in range(7)]  # the eighth is not played
    (found,) = leaderboard(write(cells, seeds=8)).differences
    assert (found.first, found.second, found.n) == ("a", "b", 7)
    assert (found.only_first, found.only_second) == (6, 1)
    assert found.difference == pytest.approx(5 / 7)
    assert found.p == pytest.approx(2 * (1 + 7) / 2**7)


@pytest.mark.parametrize(
    ("pair", "p"),
    [((0, 0), 1), ((5, 0), 0.0625), ((0, 6), 0.03125), ((3, 3), 1), ((8, 2), 0.109375)],
)
def test_mcnemar_by_hand(pair, p):
    assert mcnemar(*pair) == pytest.approx(p)


def test_the_best_blind_recipe_is_first_and_the_oracle_last(write):
    no = {"verdict": "surviving"}
    cells = [
        ("oracle", 1, {"blind": False}), ("none", 1, no), ("dear", 1, {"increase": 0.02}),
        ("cheap", 1, {"increase": -0.01}),
    ]  # fmt: skip
    found = leaderboard(write(cells, seeds=1))
    assert [one.recipe for one in found.standings] == ["cheap", "dear", "none", "oracle"]
    assert "oracle (not blind)" in found.markdown()


def test_tiers_stand_together_and_apart(write):
    cells = [("a", 1, {}), ("a", 1, {"tier": "late", "verdict": "surviving"})]
    found = leaderboard(write(cells, seeds=2, tiers=("full", "late")))
    assert [(one.tier, one.n) for one in found.standings] == [(None, 2)]
    assert [(one.tier, one.shares["deleted"].mean) for one in found.by_tier] == [
        ("full", 1), ("late", 0),
    ]  # fmt: skip
    assert "2 of 4 cells are played" in found.notes
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["standings"][0]["shares"]["deleted"]["mean"] == 0.5
    assert told["by_tier"][0]["increase"] == {"mean": 0.0, "low": None, "high": None}


def test_what_is_no_tournament_is_refused_and_an_empty_one_is_not(write, tmp_path):
    with pytest.raises(RunFolderError, match="no folder of a tournament"):
        leaderboard(tmp_path / "none")
    found = leaderboard(write([]))
    assert (found.implants, found.standings) == (0, ())
    assert found.markdown().startswith("0 of 0 implants")
