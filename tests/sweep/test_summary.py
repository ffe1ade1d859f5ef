"""Averages and intervals agree with plain numpy; two runs are compared fact by fact."""

from __future__ import annotations

import numpy as np
import pytest

import twinlens as tl
from twinlens.errors import InputError
from twinlens.see.roles import ROLES
from twinlens.sweep.bootstrap import bootstrap
from twinlens.sweep.summary import _at_depths, summed_up

pytest.importorskip("pyarrow")
polars = pytest.importorskip("polars")

SUBJECTS = ["Lily", "The Eiffel Tower", "Mr Dursley", "Paris"]
FACTS = [{"prompt": f"Then {s} went home to the", "subject": s} for s in SUBJECTS]
FEW = {"restored": 2, "top_neurons": 5, "threads": 1, "progress": False}


@pytest.fixture(scope="module")
def runs(make_model, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")

    def make(name: str, samples: int, facts: list[dict[str, str]], kinds=("block", "mlp")):
        noise = tl.Noise(samples=samples)
        return tl.sweep_facts(
            make_model("gpt2"), facts, root / name, corruption=noise, kinds=kinds, **FEW
        )

    return make("one", 2, FACTS), make("other", 3, FACTS[::-1][:3], ("mlp",))


def test_averages_are_means_over_facts_of_means_over_tokens(runs):
    summary = tl.summarize(runs[0], resamples=50).summary
    for kind in ("block", "mlp", "neurons"):
        made = summary.kinds[kind]
        for column, role in enumerate(made.roles):
            rows = []
            for fact in range(len(FACTS)):
                tokens = runs[0].tokens.filter(polars.col("fact") == fact)
                at = (tokens["role"] == role).to_numpy()
                if at.any():
                    rows.append(runs[0].grid(fact, kind)[:, at].mean(1))
            assert made.count[column] == len(rows)
            if rows:
                np.testing.assert_allclose(made.mean[:, column], np.mean(rows, 0), atol=1e-12)
                inside = (made.low <= made.mean + 1e-12) & (made.mean <= made.high + 1e-12)
                assert inside[:, column].all() or len(rows) < 2  # one has no interval
    assert summary.n_facts == len(FACTS)
    assert made.roles == ROLES[:-1]
    assert len(tl.summarize(runs[0], resamples=50).to_dataframe()) == (4 + 3 + 3) * 7


def test_intervals_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        values = random.exponential(size=(60, 1))
        _, low, high = bootstrap(values, resamples=300, seed=seed)
        covered += bool(low[0] <= 1.0 <= high[0])
    assert 0.87 <= covered / 200 <= 0.98


def test_a_bootstrap_leaves_out_what_a_fact_does_not_have():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    mean, low, high = bootstrap(values, resamples=200)
    np.testing.assert_array_equal(mean, [2.0, 5.0, np.nan])
    assert (low[0], high[0]) == (1.0, 3.0)
    assert np.isnan([low[1], high[2]]).all()


def test_two_runs_are_compared_on_their_common_facts(runs):
    one, other = runs
    found = tl.summarize(one, other.path, resamples=50).summary
    assert found.is_difference
    assert found.n_facts == 3
    assert list(found.kinds) == ["mlp", "neurons"]
    column = found.kinds["mlp"].roles.index("last subject")
    expected = []
    for number, fact in enumerate(FACTS[::-1][:3]):
        grids = (one.grid(FACTS.index(fact), "mlp"), other.grid(number, "mlp"))
        roles = other.tokens.filter(polars.col("fact") == number)["role"].to_list()
        last = roles.index("last subject")
        expected.append(grids[0][:, last] - grids[1][:, last])
    np.testing.assert_allclose(found.kinds["mlp"].mean[:, column], np.mean(expected, 0), atol=1e-12)
    same = tl.summarize(one, one, resamples=50).summary
    assert all(np.nanmax(np.abs(made.mean)) == 0 for made in same.kinds.values())


def test_models_of_different_depth_meet_at_shares_of_it():
    values = np.arange(5.0)[None, :, None] * 10
    made = _at_depths(values, tuple("abcde"), tuple("xyz"))
    assert made[0, :, 0].tolist() == [0.0, 20.0, 40.0]
    made = _at_depths(values, tuple("abcde"), tuple("wxyz"))
    np.testing.assert_allclose(made[0, :, 0], [0, 40 / 3, 80 / 3, 40])


def test_what_cannot_be_summed_up_is_refused(make_model, runs, tmp_path):
    with pytest.raises(InputError, match=r"level=1\.5 must be"):
        summed_up(runs[0], level=1.5)
    for wrong in ({"resamples": 1}, {"seed": -1}, {"top": -1}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}=.*must be a whole number"):
            summed_up(runs[0], **wrong)
    bare = [{"prompt": "word " * 200, "subject": "word"}]
    empty = tl.sweep_facts(make_model("gpt2"), bare, tmp_path / "empty", measure=["lens"], **FEW)
    with pytest.raises(InputError, match="no fact was measured"):
        tl.summarize(empty)


@pytest.mark.parametrize("against", [False, True])
def test_the_figure_is_written_and_is_the_same_bytes(runs, tmp_path, against):
    pytest.importorskip("matplotlib")
    view = tl.summarize(runs[0], runs[1] if against else None, resamples=50)
    for ending in ("png", "svg"):
        one, two = (view.save(tmp_path / f"{n}.{ending}") for n in (1, 2))
        assert one.read_bytes() == two.read_bytes()
    text = (tmp_path / "1.svg").read_text()
    assert text.count('<g id="axes_') > 4
    with pytest.raises(InputError, match="its ending must be"):
        view.save(tmp_path / "x.html")
