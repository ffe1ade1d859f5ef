from __future__ import annotations

import pytest

from twinlens.change.recipe import Noise, Prune, Recover, recipe_of
from twinlens.errors import SettingsError

TOML = """
seed = 3
[[stage]]
do = "prune"
by = "wanda"
units = "heads"
recover = { steps = 5 }
[[stage]]
do = "noise"
scale = 0.01
times = 4
[[stage]]
do = "recover"
steps = 7
own = 0.25
"""


def _answers(stage, passes):
    """The shares that are proposed while `passes(share)` says what the gate would."""
    plan, found = stage.plan(), []
    proposal = next(plan)
    while True:
        found.append(proposal)
        try:
            proposal = plan.send(passes(proposal))
        except StopIteration:
            return found


def test_a_recipe_is_read_and_told_back(tmp_path):
    (tmp_path / "recipe.toml").write_text(TOML)
    recipe = recipe_of(tmp_path / "recipe.toml")
    assert [type(stage) for stage in recipe.stages] == [Prune, Noise, Recover]
    assert recipe.stages[0].recover.steps == 5
    assert recipe.stages[0].recover.seed == recipe.stages[2].budget.seed == recipe.seed == 3
    assert recipe_of(recipe.plain()) == recipe


@pytest.mark.parametrize("limit", [0.0, 0.013, 0.3, 0.9, 1.0])
def test_pruning_doubles_while_it_passes_and_ends_just_below_the_limit(limit):
    stage = Prune(first=0.02, least=0.005, most=0.9)
    found = [p.share for p in _answers(stage, lambda proposal: proposal.share <= limit)]
    passed = [share for share in found if share <= limit]
    assert found[0] == 0.02
    assert max(passed, default=0.0) >= min(limit, stage.most) - 2 * stage.least
    assert passed == sorted(passed)
    assert len(found) == len(set(found)) < 20  # nothing twice


def test_noise_and_recovery_propose_each_draw_once():
    assert [p.number for p in _answers(Noise(scale=0.1, times=3), lambda _: False)] == [0, 1, 2]
    assert [p.number for p in _answers(Recover(times=2), lambda _: True)] == [0, 1]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "has no stage"),
        ({"stage": []}, "has no stage"),
        ({"stage": [{"do": "burn"}]}, "stage 1: do='burn'; expected one of prune, noise, recover"),
        ({"stage": [{"do": "noise"}]}, "stage 1.*scale"),
        ({"stage": [{"do": "noise", "scale": -1}]}, "stage 1: scale=-1"),
        ({"stage": [{"do": "noise", "scale": 1, "time": 2}]}, "'time' is not known; known are sca"),
        ({"stage": [{"do": "recover", "steps": 0}]}, "stage 1: steps=0"),
        ({"stage": [{"do": "prune", "recover": 3}]}, "recover must be a table"),
        ({"stage": [{"do": "prune", "first": 0.9, "most": 0.5}]}, "0 < least <= first"),
        ({"stage": [{"do": "prune", "units": "weights", "by": "use"}]}, "single weights"),
        ({"stage": [{"do": "recover"}], "sead": 1}, "'sead' is not known"),
        ({"stage": [{"do": "recover"}], "seed": -1}, "seed=-1"),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_place(given, says):
    with pytest.raises(SettingsError, match=says):
        recipe_of(given)


def test_a_file_that_is_none_is_told(tmp_path):
    with pytest.raises(SettingsError, match="does not exist"):
        recipe_of(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("[[stage")
    with pytest.raises(SettingsError, match="cannot be read"):
        recipe_of(tmp_path / "bad.toml")
