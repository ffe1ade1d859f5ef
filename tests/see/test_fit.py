"""A fitted lens reads better than the plain one, and a stopped fit goes on to the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import twinlens as tl
from tests.conftest import STORY
from tests.results.test_storage import assert_same
from twinlens import cli
from twinlens.errors import InputError, LensError, ResultFileError
from twinlens.see import fitting, texts
from twinlens.see.decoders import Decoder
from twinlens.see.tuned import TunedFit, rows_of_batch

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


def test_a_step_follows_the_gradient_of_the_divergence(family):
    read = texts.joined(texts.windows(family, TEXT[:1], 16))
    fit = TunedFit(family, read, steps=2, batch_tokens=64, lr=0.01, seed=1)
    fit.step(0)
    assert fit.matrix.abs().max() > 0
    (batch,) = read.batches(64)
    rows, final = rows_of_batch(family, batch)
    matrix, bias = fit.matrix.clone().requires_grad_(), fit.bias.clone().requires_grad_()
    target, loss = family.unembed(final).log_softmax(-1), torch.zeros(())
    for row, h in enumerate(rows):
        made = family.unembed(h + h @ matrix[row].T + bias[row]).log_softmax(-1)
        loss = loss + (target.exp() * (target - made)).sum(-1).mean()
    expected = torch.autograd.grad(loss, (matrix, bias))
    for found, exact in zip(fit._gradients(rows, final), expected, strict=True):
        assert torch.allclose(found, exact, atol=1e-5, rtol=1e-3)


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
    changed = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        told = file.metadata()
    changed["matrix"] = changed["matrix"][:1]
    safetensors.torch.save_file(changed, path, metadata=told)
    with pytest.raises(ResultFileError, match=r"matrix is .* not"):
        tl.fit_lens(gpt2, TEXT, checkpoint=path, **SMALL)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResultFileError, match="is damaged"):
        tl.fit_lens(gpt2, TEXT, checkpoint=path, **SMALL)


def test_what_stops_a_checkpoint_midway_leaves_the_last_one_whole(gpt2, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_SECONDS", 0.0)
    whole = tl.fit_lens(gpt2, TEXT, **SMALL)
    path, write, written = tmp_path / "lens.part", Path.write_bytes, []

    def half(self, payload):
        written.append(self)
        if len(written) < 3:
            return write(self, payload)
        write(self, payload[: len(payload) // 2])
        raise _StopError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(_StopError):
            tl.fit_lens(gpt2, TEXT, checkpoint=path, **SMALL)
    assert list(tmp_path.iterdir()) == [path]
    told = []
    again = tl.fit_lens(
        gpt2, TEXT, checkpoint=path, progress=lambda *now: told.append(now), **SMALL
    )
    assert told[0] == (2, SMALL["steps"])
    np.testing.assert_array_equal(whole.matrix, again.matrix)


def test_the_checkpoint_goes_only_once_the_lens_is_written(gpt2, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_SECONDS", 0.0)
    path = tmp_path / "lens.part"
    with pytest.raises(ResultFileError, match="cannot write"):
        tl.fit_lens(gpt2, TEXT, checkpoint=path, output=tmp_path / "none" / "x", **SMALL)
    assert path.exists()
    made = tl.fit_lens(gpt2, TEXT, checkpoint=path, output=tmp_path / "x.safetensors", **SMALL)
    assert not path.exists()
    assert_same(made, tl.open_lens(tmp_path / "x.safetensors"))


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
    picture = tmp_path / "picture.svg"
    assert _run("look", "The Silent Tower is", "--lens", str(path), "-o", str(picture), "-q") == 0
    assert "tuned lens" in picture.read_text()


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
