"""Results about heads: their numbers, their names, their way to disk and to tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import twinlens as tl
from tests.conftest import STORY
from tests.results.test_storage import assert_same
from twinlens.errors import InputError, ResultFileError
from twinlens.results.heads import SCORES


@pytest.fixture(scope="module")
def results(gpt2) -> dict[str, tl.HeadResult | tl.AttentionResult]:
    return {
        "heads": tl.induction(gpt2, sequences=3, length=5, repeats=3, threshold=0.1),
        "attention": tl.attention(gpt2, STORY, heads=["2.H1", "0.H3"], queries=[3, -1]),
    }


@pytest.mark.parametrize("kind", ["heads", "attention"])
def test_round_trip(results, tmp_path, kind):
    path = results[kind].save(tmp_path / "r.safetensors")
    assert_same(results[kind], tl.open_result(path))


@pytest.mark.parametrize("kind", ["heads", "attention"])
def test_plain_values_are_strict_json(results, kind):
    assert json.loads(json.dumps(results[kind].to_dict(), allow_nan=False))["layers"]


def test_arrays_that_do_not_fit_are_refused(results, tmp_path):
    path = results["heads"].save(tmp_path / "r.safetensors")
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    arrays = load_file(path)
    for name in SCORES:
        arrays[name] = arrays[name][:-1].copy()
    save_file(arrays, path, metadata=header)
    with pytest.raises(ResultFileError, match="differ in length"):
        tl.open_result(path)


def test_means_spread_top_and_names(results):
    found = results["heads"]
    means = found.mean("copying")
    assert np.array_equal(means, found.copying.mean(-1))
    assert np.array_equal(found.spread("copying"), found.copying.std(-1, ddof=1))
    best = np.unravel_index(means.argmax(), means.shape)
    assert found.top(1, "copying") == [(f"{best[0]}.H{best[1]}", means.max())]
    for score in SCORES:
        named = found.named[score]
        assert len(named) == (found.mean(score) > 0.1).sum()
        assert list(named) == [name for name, _ in found.top(len(named), score)]
    with pytest.raises(InputError, match="score='nonsense'"):
        found.mean("nonsense")


def test_the_strongest_weights(results):
    found = results["attention"]
    head, query, token, weight = found.top(1)[0]
    assert weight == found.patterns.max()
    assert found.pattern(head)[found.queries.tolist().index(query), token] == np.float32(weight)
    with pytest.raises(InputError, match=r"1\.H1"):
        found.pattern("1.H1")


def test_tables(results):
    pytest.importorskip("pandas")
    heads = results["heads"].to_dataframe()
    assert len(heads) == 12
    row = heads[(heads.layer == "2") & (heads["head"] == 3)].iloc[0]
    assert row.prefix_matching == results["heads"].mean()[2, 3]
    weights = results["attention"].to_dataframe()
    assert len(weights) == results["attention"].patterns.size
    row = weights[(weights.layer == "0") & (weights["query"] == 3) & (weights.token == 1)]
    assert row.weight.item() == results["attention"].pattern("0.H3")[0, 1]


def test_named_dimensions(results):
    pytest.importorskip("xarray")
    heads = results["heads"].to_xarray()
    assert heads.prefix_matching.dims == ("layer", "head")
    assert heads.copying_samples.sizes["sequence"] == 3
    weights = results["attention"].to_xarray()
    picked = weights.pattern.sel(head="0.H3", query=3)
    assert np.array_equal(picked, results["attention"].pattern("0.H3")[0])
