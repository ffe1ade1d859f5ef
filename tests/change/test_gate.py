"""The gate agrees with plain reckonings, counts its looks, and says where it cannot tell."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import twinlens as tl
from twinlens.change import losses
from twinlens.change.change import Assigned, changed
from twinlens.change.losses import passages_of
from twinlens.errors import ChangeError, InputError, OverlapError, ResultFileError
from twinlens.see.texts import windows

WORDS = ["Lily", "Tom", "dog", "park", "play", "loved", "little", "girl", "day", "time", "the"]


def texts(n: int, seed: int = 0, words: int = 9) -> list[str]:
    """Short documents of random words; none comes twice."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, words)) for _ in range(n)]


def scaled(model: tl.Model, factor: float) -> Assigned:
    """Logits times a factor: surer of itself, and for random weights the worse for it."""
    name = model.anatomy.tail[0] + ".weight"
    return Assigned({name: dict(model.hf.named_parameters())[name].detach() * factor})


def noise(model: tl.Model, size: float) -> Assigned:
    generator = torch.Generator().manual_seed(0)
    found = {name: p.detach() for name, p in model.hf.named_parameters() if p.dim() > 1}
    drawn = {name: torch.randn(p.shape, generator=generator) for name, p in found.items()}
    return Assigned({name: p + size * p.std() * drawn[name] for name, p in found.items()})


@pytest.fixture(scope="module")
def reference(gpt2):
    return tl.Gate(texts(120)).of(gpt2)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "opt", "cohere"])
def test_losses_by_document_are_those_of_transformers(name, make_model):
    model, documents = make_model(name), [*texts(2, words=30), "Lily the dog", *texts(1, 1)]
    for batch_tokens in (1, 200):
        made = tl.Gate(documents, length=20, batch_tokens=batch_tokens).of(model)
        expected = []
        for document in windows(model, documents, 20):
            ids = [torch.from_numpy(window)[None] for window in document.ids]
            with torch.no_grad():
                found = [model.hf(one, labels=one).loss.item() * (one.shape[1] - 1) for one in ids]
            expected.append(sum(found))
        np.testing.assert_allclose(made.domains["text"].losses.nats, expected, rtol=2e-5)


def test_divergence_and_flips_are_those_of_both_models_side_by_side(gpt2):
    documents = texts(6, words=12)
    whole = tl.Gate(documents, sample=10_000).of(gpt2)
    some = tl.Gate(documents, sample=7).of(gpt2)

    def rows():
        parts = [window for one in windows(gpt2, documents, 128) for window in one.ids]
        with torch.no_grad():
            logits = [gpt2.hf(torch.from_numpy(ids)[None]).logits[0, :-1] for ids in parts]
        return torch.cat(logits).double().log_softmax(-1)

    before = rows()
    with changed(gpt2, noise(gpt2, 0.3)):
        after, one, few = rows(), whole.check(gpt2).worst, some.check(gpt2).worst
    apart = (before.exp() * (before - after)).sum(-1)
    assert one.kl_positions == len(apart) > 50
    assert one.kl == pytest.approx(apart.mean().item(), rel=1e-4)
    assert one.flips == pytest.approx((before.argmax(-1) != after.argmax(-1)).double().mean())
    assert one.flips > 0.1
    assert few.kl_positions == 7
    sampled = some.domains["text"].sample
    assert few.kl == pytest.approx(apart[sampled].mean().item(), rel=1e-4)
    assert few.flips == one.flips


def test_the_increase_is_all_nats_over_all_tokens(gpt2):
    made = tl.Gate([*texts(3), texts(1, 9, words=40)[0]]).of(gpt2)
    with changed(gpt2, noise(gpt2, 0.1)):
        found = made.check(gpt2).worst
    assert found.increase == pytest.approx(found.after - found.before)
    tokens = made.domains["text"].passages.tokens
    assert found.tokens == tokens.sum()
    assert found.before == pytest.approx(made.domains["text"].losses.nats.sum() / tokens.sum())


def test_the_same_model_passes_with_an_increase_of_exactly_zero(gpt2):
    verdict = tl.Gate({"a": texts(3), "b": texts(4, 1)}).of(gpt2).check(gpt2, look=1)
    assert verdict.passed
    for one in verdict.domains:
        assert one.increase == one.upper == one.lower == one.kl == one.flips == 0


def test_a_plainly_worse_one_fails_in_one_domain_of_two(gpt2, reference):
    with changed(gpt2, scaled(gpt2, 1.5)):
        verdict = reference.check(gpt2, look=1)
    assert verdict.verdict == "fail"
    assert verdict.lower > 0.01
    assert verdict.lower < verdict.increase < verdict.upper
    both = tl.Gate({"some": texts(20, 1), "many": texts(120)}).of(gpt2)
    with changed(gpt2, scaled(gpt2, 1.5)):
        verdict = both.check(gpt2, look=1)
    assert [one.verdict for one in verdict.domains] == ["cannot tell", "fail"]
    assert verdict.verdict == "fail"
    assert "20 documents are fewer than" in verdict.domains[0].why


@pytest.mark.parametrize(("margin", "answer"), [(1.5, "pass"), (1.27, "fail")])
def test_where_it_cannot_tell_it_reckons_how_many_documents_would_do(gpt2, margin, answer):
    before = tl.Gate(texts(105, 2), margin).of(gpt2)
    with changed(gpt2, noise(gpt2, 0.6)):
        verdict = before.check(gpt2)
    assert verdict.verdict == "cannot tell"
    assert 105 < verdict.needed < 3000
    assert f"about {verdict.needed:,} documents would do" in verdict.worst.why
    enough = tl.Gate(texts(verdict.needed, 2), margin).of(gpt2)
    with changed(gpt2, noise(gpt2, 0.6)):
        assert enough.check(gpt2, look=2).verdict == answer


def test_out_of_memory_halves_the_batch(gpt2, monkeypatch):
    whole = tl.Gate(texts(9)).of(gpt2).domains["text"]
    real, rows = losses.read, []

    def read(model, inputs, sites):
        rows.append(inputs.samples)
        if inputs.samples > 2:
            raise torch.OutOfMemoryError("too much")
        return real(model, inputs, sites)

    monkeypatch.setattr(losses, "read", read)
    halved = tl.Gate(texts(9)).of(gpt2).domains["text"]
    assert max(rows) == 9
    assert rows.count(2) >= 4
    np.testing.assert_allclose(halved.losses.nats, whole.losses.nats, rtol=1e-6)
    np.testing.assert_allclose(halved.log_probs, whole.log_probs, atol=1e-5)


def test_a_batch_holds_no_more_tokens_than_asked(gpt2, monkeypatch):
    real, sizes = losses.read, []

    def read(model, inputs, sites):
        sizes.append(inputs.ids.numel())
        return real(model, inputs, sites)

    monkeypatch.setattr(losses, "read", read)
    tl.Gate(texts(30), batch_tokens=100).of(gpt2)
    assert max(sizes) <= 100
    assert len(sizes) > 5


def test_progress_counts_every_token(gpt2):
    told = []
    made = tl.Gate(texts(4), final=texts(3, 1)).of(gpt2, progress=lambda *at: told.append(at))
    total = sum(part.passages.n_positions for part in (made.domains["text"], made.final["text"]))
    assert told[-1] == (total, total)


def test_looks_spend_alpha_and_are_counted(gpt2):
    made = tl.Gate(texts(5)).of(gpt2)
    first = made.check(gpt2)
    with changed(gpt2, noise(gpt2, 0.1)):
        second, same = made.check(gpt2), made.check(gpt2)
        again = made.check(gpt2, look=1)
    assert (first.look, second.look, same.look) == (1, 2, 2)
    assert second.level == pytest.approx(first.level / 4)
    assert first.level == pytest.approx(0.05 * 6 / np.pi**2)
    assert not second.notes
    assert "look 1 was taken before at other weights" in again.notes[-1]


def test_the_final_text_is_looked_at_once(gpt2, tmp_path):
    made = tl.Gate(texts(5), final={"end": texts(4, 1)}).of(gpt2)
    made.save(tmp_path / "kept.safetensors")
    first = made.check_final(gpt2)
    assert first.final
    assert first.level == 0.05
    assert first.domains[0].name == "end"
    assert made.check_final(gpt2) == first  # the same weights: the same look
    opened = tl.open_reference(tmp_path / "kept.safetensors")
    with changed(gpt2, noise(gpt2, 0.1)):
        for one in (made, opened):
            with pytest.raises(ChangeError, match="looked at before"):
                one.check_final(gpt2)
        verdict = opened.check_final(gpt2, again=True)
    assert (verdict.look, "looked at before" in verdict.notes[0]) == (2, True)
    looks = json.loads((tmp_path / "kept.looks.json").read_text())["looks"]
    assert [look["final"] for look in looks] == [True, True]
    with pytest.raises(InputError, match="no final text"):
        tl.Gate(texts(5)).of(gpt2).check_final(gpt2)


def test_a_reference_from_its_file_judges_the_same(gpt2, tmp_path):
    path = tmp_path / "original.safetensors"
    gate = tl.Gate(texts(5), final=texts(3, 1), items=[("Lily loved", " the dog")], margin=0.02)
    made = gate.of(gpt2, file=path)
    opened = gate.of(gpt2, file=path)
    with changed(gpt2, noise(gpt2, 0.1)):
        one = made.check(gpt2, look=3)
        assert opened.check(gpt2, look=3) == one
        assert tl.open_reference(path).looks == made.looks
        with pytest.raises(ChangeError, match="another original"):
            gate.of(gpt2, file=path)
    json.dumps(one.to_dict(), allow_nan=False)
    for other in (tl.Gate(texts(5), margin=0.03), tl.Gate(texts(6))):
        with pytest.raises(ChangeError, match="another gate"):
            other.of(gpt2, file=path)


def test_a_damaged_file_is_refused(gpt2, tmp_path):
    path = tl.Gate(texts(3)).of(gpt2).save(tmp_path / "kept.safetensors")
    (tmp_path / "kept.looks.json").write_text("{")
    with pytest.raises(ResultFileError, match="cannot be left out"):
        tl.open_reference(path)
    for content in (b"", path.read_bytes()[:-40], b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(ResultFileError, match="damaged"):
            tl.open_reference(path)
    with pytest.raises(ResultFileError, match="does not exist"):
        tl.open_reference(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"\.safetensors"):
        tl.Gate(texts(3)).of(gpt2).save(tmp_path / "kept.pickle")


def test_a_model_with_another_vocabulary_is_refused(gpt2, reference, sentencepiece):
    from tests.conftest import random_model

    other = tl.load(random_model("gpt2", sentencepiece), tokenizer=sentencepiece)
    with pytest.raises(InputError, match="another vocabulary"):
        reference.check(other)


def test_broken_weights_are_an_error_and_no_verdict(gpt2, reference):
    with torch.no_grad():
        weight = gpt2.hf.transformer.ln_f.weight
        kept = weight.clone()
        weight[0] = float("inf")
        try:
            with pytest.raises(ChangeError, match="not finite"):
                reference.check(gpt2)
        finally:
            weight.copy_(kept)


def test_texts_that_share_words_are_refused_or_left_out(gpt2):
    first, second, chosen = texts(6, words=20), texts(6, 1, words=20), texts(6, 2, words=20)
    second[3] = "And then: " + first[2].upper()
    with pytest.raises(OverlapError, match="document 2 of 'text' and 3 of 'final text'") as caught:
        tl.Gate(first, final=second)
    assert len(caught.value.pairs) == 1
    with pytest.raises(OverlapError, match="document 5 of 'text' and 0 of 'chosen on text'"):
        tl.Gate(first, chosen_on=[first[5]])
    gate = tl.Gate(first, final=second, chosen_on=[*chosen, second[0]], shared="drop")
    made = gate.of(gpt2)
    assert len(gate.domains["text"]) == len(gate.final["text"]) == 5
    assert len(made.notes) == 2
    with pytest.raises(InputError, match="every document"):
        tl.Gate(first, chosen_on=first, shared="drop")


def test_a_document_that_comes_twice_is_no_second_sample(gpt2):
    gate = tl.Gate([*texts(4), *texts(2)])
    assert len(gate.domains["text"]) == 4
    assert "read once" in gate.of(gpt2).check(gpt2).notes[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": {}}, {"text": []}, {"text": {"": ["a b"]}}, {"text": "no.pdf"}, {"margin": 0},
        {"margin": float("inf")}, {"items_margin": -1.0}, {"alpha": 0.5}, {"alpha": 0},
        {"rare": 0}, {"rare": 1},
        {"length": 2}, {"sample": -1}, {"batch_tokens": 0},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(wrong):
    with pytest.raises(InputError):
        tl.Gate(**{"text": texts(3)} | wrong)


def test_windows_keep_their_documents(gpt2):
    made = passages_of(windows(gpt2, texts(3, words=30), 16))
    assert made.owner.tolist() == sorted(made.owner.tolist())
    assert len(made.tokens) == 3
    assert made.tokens.sum() == made.n_positions == len(made.targets)
