"""A fitted lens reads better than the plain one, and a stopped fit goes on to the same bits."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import STORY
from tests.results.test_storage import assert_same
from twinlens import cli
from twinlens.errors import InputError, LensError, ResultFileError
from twinlens.see import fitting
from twinlens.see.decoders import Decoder

TEXT = [STORY, "Tom and the big dog went to the park. " * 3, "A cat. " * 20, "One day it rained."]
SMALL = {"length": 16, "held_out": 0.25, "steps": 6, "batch_tokens": 64}


@pytest.fixture(scope="module")
def hamlet() -> tl.Model:
    return tl.load("hamlet")


@pytest.fixture(scope="module")
def tuned(hamlet) -> tl.FittedLens:
    return tl.fit_lens(hamlet, tl.hamlet.text(), steps=30, batch_tokens=512, lr=3e-3)


def test_closer_to_the_answer_than_the_plain_lens_on_held_out_text(tuned):
    assert tuned.layers == ("embed", "0", "1", "2", "3", "4")
    assert (tuned.kl < tuned.kl_plain).all()
    assert tuned.notes == ()


def test_a_report_on_other_text_agrees_with_a_plain_reckoning(hamlet, tuned):
    text = tl.hamlet.text("final")[:4]
    found = tl.compare_lenses(hamlet, text, {"plain": None, "tuned": tuned}, length=64)
    assert (found.kl[1, :-1] < found.kl[0, :-1]).all()
    assert (found.kl[:, -1] == 0).all()
    assert (found.agreement[:, -1] == 1).all()
    ids = [hamlet.encode(document["text"]).ids for document in text]
    parts = [torch.from_numpy(one[at : at + 64]) for one in ids for at in range(0, len(one), 64)]
    parts = [part for part in parts if len(part) > 1]
    with torch.no_grad():
        outs = [hamlet.hf(part[None], output_hidden_states=True) for part in parts]
    final = torch.cat([made.logits[0] for made in outs]).log_softmax(-1).double()
    hidden = torch.cat([made.hidden_states[3][0] for made in outs])  # after block 2
    moved = hidden + hidden @ torch.from_numpy(tuned.matrix[3]).T + torch.from_numpy(tuned.bias[3])
    for lens, residual in enumerate((hidden, moved)):
        with torch.no_grad():
            normed = hamlet.hf.transformer.ln_f(residual)
            row = hamlet.hf.lm_head(normed).log_softmax(-1).double()
        kl = (final.exp() * (final - row)).sum(-1).mean()
        same = (final.argmax(-1) == row.argmax(-1)).double().mean()
        means = final.exp().mean(0), row.exp().mean(0)
        bias = (means[0] * (means[0] / means[1]).log()).nan_to_num(0.0).sum()
        assert found.kl[lens, 3] == pytest.approx(float(kl), rel=1e-4)
        assert found.agreement[lens, 3] == pytest.approx(float(same))
        assert found.bias[lens, 3] == pytest.approx(float(bias), rel=1e-3)


def test_on_the_grid_it_is_named_and_its_last_row_is_the_models(hamlet, tuned):
    plain = tl.logit_lens(hamlet, STORY)
    lens = tl.logit_lens(hamlet, STORY, decoder=tuned)
    assert lens.settings["decoder"] == "tuned"
    np.testing.assert_array_equal(lens.top_ids[-1], plain.top_ids[-1])
    assert (lens.top_ids[2] != plain.top_ids[2]).any()


class _StopError(Exception):
    pass


def test_a_stopped_fit_goes_on_to_the_same_bits(gpt2, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_SECONDS", 0.0)
    whole = tl.fit_lens(gpt2, TEXT, **SMALL)
    path = tmp_path / "lens.part"

    def stop_at(done, total):
        if total == SMALL["steps"] and done >= 3:
            raise _StopError

    with pytest.raises(_StopError):
        tl.fit_lens(gpt2, TEXT, checkpoint=path, progress=stop_at, **SMALL)
    assert path.exists()
    again = tl.fit_lens(gpt2, TEXT, checkpoint=path, **SMALL)
    assert not path.exists()
    for name in ("matrix", "bias", "kl"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(again, name))
    with pytest.raises(_StopError):
        tl.fit_lens(gpt2, TEXT, checkpoint=path, progress=stop_at, **SMALL)
    with pytest.raises(LensError, match="half of another fit: its seed"):
        tl.fit_lens(gpt2, TEXT, checkpoint=path, seed=2, **SMALL)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResultFileError, match="is damaged"):
        tl.fit_lens(gpt2, TEXT, checkpoint=path, **SMALL)


def test_round_trip_and_another_models_lens_is_refused(gpt2, make_model, tmp_path):
    lens = tl.fit_lens(gpt2, TEXT, **SMALL)
    path = lens.save(tmp_path / "lens.safetensors")
    assert_same(lens, tl.open_lens(path))
    with pytest.raises(LensError, match="was fitted to"):
        tl.logit_lens(make_model("llama"), STORY, decoder=tl.open_lens(path))
    with pytest.raises(InputError, match="is not read by a fitted lens"):
        tl.logit_lens(gpt2, STORY, decoder=lens, rows="mid")
    other = tl.logit_lens(gpt2, STORY).save(tmp_path / "other.safetensors")
    with pytest.raises(ResultFileError, match="is a LensResult; expected a lens"):
        tl.open_lens(other)


def _saved_by_tuned_lens(folder, model, **changed):
    """The layout of tuned-lens 0.2: a configuration, and the translators' linear layers."""
    generator = torch.Generator().manual_seed(0)
    width, rows = model.d_model, model.n_layers
    state = {}
    for row in range(rows):
        state[f"{row}.weight"] = 0.1 * torch.randn(width, width, generator=generator)
        state[f"{row}.bias"] = 0.1 * torch.randn(width, generator=generator)
    config = {
        "base_model_name_or_path": "some/model", "d_model": width, "num_hidden_layers": rows,
        "bias": True, "base_model_revision": None, "unembed_hash": "0",
        "lens_type": "linear_tuned_lens",
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config | changed))
    torch.save(state, folder / "params.pt")
    return state


def test_what_the_tuned_lens_library_saved_is_its_formula(gpt2, tmp_path):
    state = _saved_by_tuned_lens(tmp_path / "lens", gpt2)
    lens = tl.open_lens(tmp_path / "lens")
    tokens = gpt2.encode(STORY)
    found = tl.logit_lens(gpt2, tokens, decoder=lens, top_k=3)
    with torch.no_grad():
        hidden = gpt2.hf(torch.from_numpy(tokens.ids)[None], output_hidden_states=True)
        for row in range(gpt2.n_layers):
            h = hidden.hidden_states[row][0]
            moved = h + torch.nn.functional.linear(h, state[f"{row}.weight"], state[f"{row}.bias"])
            logits = gpt2.hf.lm_head(gpt2.hf.transformer.ln_f(moved))
            expected = logits.softmax(-1).topk(3)
            np.testing.assert_allclose(found.top_probs[row], expected.values, atol=1e-5)
            np.testing.assert_array_equal(found.top_ids[row], expected.indices)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "params.pt").unlink(), "has no params.pt"),
        (lambda f: (f / "config.json").write_text("{"), "is damaged"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "is damaged"),
        (lambda f: (f / "params.pt").write_bytes(b"PK\x03\x04"), "is damaged"),
        (lambda f: torch.save({"0.weight": torch.zeros(3, 3)}, f / "params.pt"), "expected"),
        (lambda f: torch.save({"x": torch.zeros(3)}, f / "params.pt"), "no translator"),
        (lambda f: torch.save({}, f / "params.pt"), "no translator of row 0"),
        (lambda f: torch.save([1, 2], f / "params.pt"), "no table of named tensors"),
    ],
)
def test_a_damaged_folder(gpt2, tmp_path, spoil, message):
    _saved_by_tuned_lens(tmp_path / "lens", gpt2)
    spoil(tmp_path / "lens")
    with pytest.raises(ResultFileError, match=message):
        tl.open_lens(tmp_path / "lens")


class _Hostile:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (open, (self.target, "w"))


def test_nothing_in_a_folder_is_run(gpt2, tmp_path):
    _saved_by_tuned_lens(tmp_path / "lens", gpt2)
    target = tmp_path / "ran"
    (tmp_path / "lens" / "params.pt").write_bytes(pickle.dumps(_Hostile(target)))
    with pytest.raises(ResultFileError, match="damaged or holds more than tensors"):
        tl.open_lens(tmp_path / "lens")
    assert not target.exists()


def test_a_lens_of_another_shape_is_refused(gpt2, make_model, tmp_path):
    _saved_by_tuned_lens(tmp_path / "lens", gpt2)
    hamlet = tl.load("hamlet")
    with pytest.raises(LensError, match="needs 6 of width 192"):
        tl.logit_lens(hamlet, "a b", decoder=tl.open_lens(tmp_path / "lens"))


def test_the_plain_decoder_is_the_model(gpt2):
    residual = torch.randn(3, gpt2.d_model)
    made = Decoder(gpt2).logits("0", residual, slice(0, 3))
    assert torch.equal(made, gpt2.unembed(residual))


def _run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    return stop.value.code


def test_on_the_command_line(capsys, tmp_path):
    text, path = tmp_path / "text.jsonl", tmp_path / "mine.safetensors"
    lines = [json.dumps({"text": document["text"]}) for document in tl.hamlet.text()[:12]]
    text.write_text("\n".join(lines))
    fit = ("lens", "fit", "--text", str(text), "-o", str(path))
    assert _run(*fit, "--steps", "2", "--length", "32") == 0
    output, _ = capsys.readouterr()
    assert "held-out tokens" in output
    assert _run("lens", "report", "--text", str(text), "--lens", str(path), "--json") == 0
    report = json.loads(capsys.readouterr()[0])
    assert report["lenses"] == ["plain", "mine"]
    page = tmp_path / "page.html"
    assert _run("look", "The Silent Tower is", "--lens", str(path), "-o", str(page), "-q") == 0
    assert "tuned lens" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "--text", "nowhere.txt", "-o", "x.safetensors"), "nowhere.txt does not exist"),
        (("fit", "--text", "hamlet", "-o", "x.pt"), "choose a name in .safetensors"),
        (("fit", "--text", "hamlet", "-o", "none/x.safetensors"), "the folder none does not exist"),
        (("report", "--text", "hamlet", "--lens", "none.safetensors"), "none.safetensors"),
    ],
)
def test_wrong_input_on_the_command_line(capsys, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _run("lens", *arguments) == 2
    _, error = capsys.readouterr()
    assert message in error
    assert error.count("\n") == 1
