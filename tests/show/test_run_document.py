"""A fact of a run is shown as a look at its prompt is; the average has the summary's numbers."""

from __future__ import annotations

import numpy as np
import pytest

import twinlens as tl
from tests.show.test_document import grid, read
from twinlens.errors import InputError
from twinlens.show.document import document
from twinlens.show.run_document import average_document, fact_document
from twinlens.sweep.summary import averaged_lens, summed_up


def test_a_fact_is_shown_as_a_look_at_its_prompt(make_model, small_run):
    made = fact_document(small_run, 0, "a run")
    (look,) = made.looks
    row = small_run.facts.row(0, named=True)
    model = make_model("gpt2")
    noise = tl.Noise(sigma=small_run.manifest["resolved"]["sigma"], samples=2)
    asked = {"subject": row["subject"], "corruption": noise, "engine": "replay", "progress": False}
    results = [
        tl.logit_lens(model, row["prompt"], targets=row["answer_id"]),
        *(tl.causal_trace(model, row["prompt"], kind=k, **asked) for k in ("block", "mlp")),
    ]
    whole = document({"a run": results})
    assert (made.tokens, look.name) == (whole.tokens, "a run")
    (other,) = whole.looks
    assert (look.rows, look.subject, look.focus) == (other.rows, other.subject, other.focus)
    for kind in ("block", "mlp"):
        ours, theirs = (grid(one, f"trace.{kind}") for one in (look, other))
        for name in ("title", "name", "group", "side", "meaning", "scale"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert ours.asked.answer == theirs.asked.answer
        assert ours.asked.corrupted == pytest.approx(theirs.asked.corrupted, abs=1e-5)
        for name in ("score", "spread"):
            one, two = (read(made.details[name]) for made in (ours, theirs))
            np.testing.assert_allclose(one, two, atol=1e-5)
        np.testing.assert_allclose(read(ours.values), read(theirs.values), atol=1e-5)
    answer = read(grid(look, "lens.block.probability.answer").values)
    theirs = results[0].metric("probability", str(row["answer_id"]))
    np.testing.assert_allclose(answer, theirs, atol=1e-5)


def test_the_lens_says_its_first_token_and_stars_the_answer(make_model, small_run):
    (look,) = fact_document(small_run, 0).looks
    row = small_run.facts.row(0, named=True)
    lens = tl.logit_lens(make_model("gpt2"), row["prompt"], top_k=1)
    ids = read(look.lenses[0].ids)[:, :, 0]
    said = [[look.vocabulary[str(i)] for i in line] for line in ids]
    assert said == [[lens.label(i) for i in line] for line in lens.top_ids[:, :, 0]]
    starred = read(grid(look, "lens.block.rank.answer").details["marked"]) == 1
    assert (starred == (lens.top_ids[:, :, 0] == row["answer_id"])).all()
    assert starred[-1, -1], "it is the model's own prediction"
    assert (np.isfinite(read(look.lenses[0].values)[:, :, 0]) == starred).all()


def test_the_neurons_that_the_run_keeps_stand_in_their_cells(small_run):
    (look,) = fact_document(small_run, 0).looks
    made = grid(look, "neurons.map")
    values, units, exact = (
        read(a) for a in (made.values, made.details["unit"], made.details["exact"])
    )
    found = {
        (look.rows[row], token, units[row, token, n], bool(exact[row, token, n])): value
        for (row, token, n), value in np.ndenumerate(values)
        if np.isfinite(value)
    }
    kept = small_run.of_fact("neurons", 0).to_dicts()
    expected = {(str(k["layer"]), k["token"], k["neuron"], k["exact"]): k["effect"] for k in kept}
    assert found == pytest.approx(expected, abs=1e-6)
    assert set(look.neurons) == {f"{k['layer']}.{k['neuron']}" for k in kept}
    mean = read(grid(look, "neurons.mean").values)
    assert np.isnan(mean[0]).all()
    np.testing.assert_allclose(mean[1:], small_run.grid(0, "neurons"), atol=1e-7)


def test_the_average_has_the_numbers_of_the_summary(small_run):
    summary, lens = summed_up(small_run, resamples=50), averaged_lens(small_run, resamples=50)
    made = average_document(summary, lens, "a run")
    (look,) = made.looks
    assert made.tokens.labels == list(summary.kinds["block"].roles)
    names = {
        "trace.block": summary.kinds["block"], "trace.mlp": summary.kinds["mlp"],
        "neurons.mean": summary.kinds["neurons"], "lens.block.probability.answer": lens,
    }  # fmt: skip
    assert [g.id for g in look.grids] == [list(names)[-1], *list(names)[:-1]]
    for name, average in names.items():
        shown = grid(look, name)
        assert (shown.columns, shown.column) == (list(average.roles), "role")
        first = len(look.rows) - len(average.layers)  # only blocks and the lens have the embedding
        for values, wanted in (
            (shown.values, average.mean),
            (shown.details["low"], average.low),
            (shown.details["high"], average.high),
        ):
            np.testing.assert_allclose(read(values)[first:], wanted, atol=1e-6)
        assert (read(shown.details["facts"])[-1] == average.count).all()
    probabilities = [small_run.grid(fact, "lens", "score")[:, -1] for fact in (0, 2)]
    focus = lens.roles.index("focus")
    np.testing.assert_allclose(lens.mean[:, focus], np.mean(probabilities, 0), atol=1e-12)


def test_what_has_no_grids_is_refused(small_run):
    with pytest.raises(InputError, match="has no fact 99"):
        fact_document(small_run, 99)
    with pytest.raises(InputError, match="was not measured: unknown"):
        fact_document(small_run, 1)
    with pytest.raises(InputError, match="was not measured: the prompt"):
        fact_document(small_run, 3)


def test_a_summary_of_one_run_or_two_is_a_page(small_run, tmp_path):
    for against in (None, small_run):
        page = tl.summarize(small_run, against, resamples=50).page()
        assert page.save(tmp_path / "average.html").stat().st_size > 10_000
        assert {grid.column for grid in page.document.looks[0].grids} == {"role"}
    assert "difference of: probability of the answer" in page.document.looks[0].grids[0].meaning
