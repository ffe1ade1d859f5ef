"""What the last occurrence owes to each earlier one is what plain runs say, and heads are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

import twinlens as tl
from tests.results.test_storage import assert_same
from tests.see.circuit import induction_circuit
from twinlens import cli
from twinlens.errors import SubjectError
from twinlens.see.recurrence import recurrence_story

TEXT = "The Dursley house was old. Mr Dursley sat in a small room. Then Mrs Dursley"


@pytest.fixture(scope="module")
def hamlet() -> tl.Model:
    return tl.load("hamlet")


@pytest.fixture(scope="module")
def story(hamlet) -> tl.Recurrence:
    other = tl.Replace(prompt=tl.hamlet.story("Wellford"))
    return tl.recurrence(hamlet, tl.hamlet.story(), "Dursley", corruption=other, neurons=False)


def test_occurrences_in_several_forms(story):
    found = story.story
    assert [found.text(span) for span in found.occurrences] == [
        "Dursley", "Dursley", "Dursley", "Dursley", "Dursleys", "Dursley",
    ]  # fmt: skip
    assert found.focus == found.explained[-1] - 1
    assert found.label(found.answer) == "urs"


def test_effects_are_those_of_prompts_with_that_name_replaced(hamlet, story):
    found, text = story.story, tl.hamlet.story()
    pieces = text.split("Dursley")

    def probability(replaced: set[int]) -> float:
        names = ["Wellford" if n in replaced else "Dursley" for n in range(len(pieces) - 1)]
        words = [p for pair in zip(pieces, names, strict=False) for p in pair]
        changed = hamlet.encode("".join(words))
        lens = tl.logit_lens(hamlet, changed, targets=[found.answer])
        return float(lens.metric("probability", str(found.answer))[-1, found.focus])

    every = set(range(5))
    assert found.clean == pytest.approx(probability(set()), abs=1e-5)
    assert found.corrupted == pytest.approx(probability(every), abs=1e-5)
    for n in range(5):
        assert found.lost[n] == pytest.approx(probability(set()) - probability({n}), abs=1e-5)
        kept = probability(every - {n}) - probability(every)
        assert found.kept[n] == pytest.approx(kept, abs=1e-5)


def test_earlier_occurrences_carry_the_effect_and_unrelated_spans_do_not(story):
    found = story.story
    assert found.all_lost > 0.9
    assert abs(found.control_all_lost) < 0.01
    assert np.abs(found.control_lost).max() < 0.01
    assert len(found.controls) == 10
    covered = {at for a, b in found.occurrences for at in range(a, b)}
    spans = [set(range(a, b)) for a, b in found.controls]
    assert not any(span & covered for span in spans)
    assert sum(map(len, spans)) == len(set.union(*spans)), "controls do not overlap"


def test_heads_are_those_of_the_head_trace(gpt2):
    asked = {"corruption": tl.Noise(samples=2)}
    found = tl.recurrence(gpt2, TEXT, "Dursley", neurons=False, **asked).story
    earlier = [(int(a), int(b)) for a, b in found.occurrences[:-1]]
    trace = tl.causal_trace(
        gpt2, TEXT, earlier, focus=found.focus, answer="next", kind="head", **asked
    )
    effects = trace.effects()[:, found.places].transpose(0, 2, 1)
    np.testing.assert_allclose(found.head_effects, effects, atol=1e-6)
    assert np.abs(effects).max() > 1e-5


def test_hamlets_induction_head_carries_the_name(story):
    assert story.story.top_heads(1)[0][0] == "5.H2"


def test_in_the_circuit_set_by_hand_the_induction_head_looks_and_carries(tokenizer):
    model = tl.load(induction_circuit(), tokenizer=tokenizer)
    text = "So Mrs Dursley lived in a small house. The cat was old. Then Mrs Dursley"
    found = tl.recurrence(model, text, "Dursley", neurons=False, metric="logit").story
    assert found.top_heads(1)[0][0] == "1.H0"
    assert found.attention[1, 0].sum() > 0.9
    assert np.abs(found.at_focus[0]).max() < 1e-3 * found.at_focus[1, 0]


def test_the_story_alone_has_the_same_numbers(gpt2):
    asked = {"corruption": tl.Noise(samples=2), "controls": 2}
    whole = tl.recurrence(gpt2, TEXT, "Dursley", neurons=False, **asked).story
    for heads, places in (("everywhere", slice(None)), ("focus", slice(-1, None))):
        story = recurrence_story(gpt2, TEXT, "Dursley", heads=heads, **asked)
        effects = whole.head_effects[..., places]
        assert story.places.tolist() == whole.places[places].tolist()
        assert story.head_effects == pytest.approx(effects, abs=1e-6)
        for name in ("surprisal_bits", "attention", "lost", "kept", "control_lost"):
            assert getattr(story, name) == pytest.approx(getattr(whole, name), abs=1e-6)


def test_results_belong_together(gpt2):
    found = tl.recurrence(gpt2, TEXT, "Dursley", controls=2, corruption=tl.Noise(samples=1))
    assert found.neurons is not None
    page = tl.twin(*found.results)
    names = [grid.id for grid in page.page().document.looks[0].grids]
    assert sum(name.startswith("recurrence.") for name in names) == 4
    assert any("corrupting all 2 earlier occurrences" in note for note in page.picture.notes)
    assert np.array_equal(found.trace.subject_mask, found.neurons.subject_mask)


def test_round_trip(story, tmp_path):
    path = story.story.save(tmp_path / "r.safetensors")
    assert_same(story.story, tl.open_result(path))
    assert list(story.story.to_dataframe()["occurrence"]) == [1, 2, 3, 4, 5, 6]
    assert story.story.to_xarray()["lens"].dims == ("layer", "occurrence")


@pytest.mark.parametrize(
    ("word", "part", "message"),
    [
        ("Potter", None, "'Potter' is not in the prompt"),
        ("house", None, "'house' stands only once"),
        ("Dursley", 99, "expected 0 to"),
    ],
)
def test_a_word_that_does_not_come_back(gpt2, word, part, message):
    with pytest.raises(SubjectError, match=message):
        tl.recurrence(gpt2, TEXT, word, part=part)


def test_no_room_for_controls(gpt2):
    found = tl.recurrence(gpt2, "Dursley Dursley Dursley", "Dursley", neurons=False).story
    assert len(found.controls) == len(found.control_lost) == 0
    assert np.isnan(found.control_all_lost)
    assert found.controls_together == 0


def test_a_divergence_grows_where_probability_falls(gpt2):
    """Both corrupted metrics are above the clean one, which is 0."""
    asked = {"neurons": False, "metric": "kl", "corruption": tl.Noise(samples=2)}
    found = tl.recurrence(gpt2, TEXT, "Dursley", **asked).story
    assert found.clean == pytest.approx(0, abs=1e-6)
    assert found.all_lost == pytest.approx(found.corrupted)
    assert found.control_corrupted > 0
    assert found.control_corrupted == pytest.approx(found.control_all_lost, abs=1e-6)


def test_notes_are_said_once(gpt2):
    with pytest.warns(UserWarning, match="effects this small|prediction") as said:
        found = tl.recurrence(gpt2, TEXT, "Dursley", corruption=tl.Noise(samples=1))
    assert [str(one.message) for one in said] == list(found.notes)
    assert len(set(found.notes)) == len(found.notes) >= 1


def test_on_the_command_line(capsys, tmp_path):
    page = tmp_path / "page.html"
    text = "Mr and Mrs Dursley lived in Pellam. One day Mr Dursley and Mrs Dursley"
    with pytest.raises(SystemExit) as stop:
        cli.main(["recur", text, "-w", "Dursley", "--no-neurons", "-o", str(page)])
    assert stop.value.code == 0
    output, _ = capsys.readouterr()
    assert "with all 2 earlier occurrences corrupted" in output
    assert "1@4 Dursley" in output
    assert json.loads(
        page.read_text().partition('id="twinlens-document">')[2].partition("</script>")[0]
    )["looks"]


def test_a_word_that_the_text_begins_with_has_no_bits_there(capsys):
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["recur", "Pellam is here. Pellam", "-w", "Pellam", "--samples", "2", *more])
        assert stop.value.code == 0
    table, _, told = capsys.readouterr().out.strip().rpartition("\n")
    assert "nan" not in table
    assert next(line for line in table.splitlines() if "1@0" in line).split()[2] == "-"
    assert json.loads(told, parse_constant=pytest.fail)["surprisal_bits"][0] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["some text"], "--word is missing"),
        (["a b", "--word", "c"], "'c' is not in the prompt"),
        (["Lily saw Lily", "--word", "lily"], "near it: 'Lily'"),
        (["a b", "--word", " "], "the word is empty"),
        (["a b a b", "--word", "a", "--crop", "0:99", "-o", "x.png"], "--crop (0, 99)"),
        (["--model", "elsewhere"], "a PROMPT is missing"),
    ],
)
def test_wrong_input_on_the_command_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        cli.main(["recur", *arguments])
    assert stop.value.code == 2
    _, error = capsys.readouterr()
    assert message in error
    assert error.count("\n") == 1
