"""Lenses that the tuned-lens library saved: read as its formula, and nothing in them is run."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import STORY
from twinlens.errors import LensError, ResultFileError


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


def _configure(folder, **changed):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_folder_cut_anywhere_is_damaged(gpt2, tmp_path):
    _saved_by_tuned_lens(tmp_path / "lens", gpt2)
    path = tmp_path / "lens" / "params.pt"
    payload = path.read_bytes()
    for size in (0, 1, 100, len(payload) // 2, len(payload) - 1):
        path.write_bytes(payload[:size])
        with pytest.raises(ResultFileError, match="damaged"):
            tl.open_lens(tmp_path / "lens")


def test_another_unembedding_is_noted(gpt2, tmp_path):
    own = np.array_str(gpt2.hf.lm_head.weight.detach().numpy(), precision=1)
    for told, noted in ((hashlib.sha256(own.encode()).hexdigest(), 0), ("0", 1), (None, 0)):
        _saved_by_tuned_lens(tmp_path / "lens", gpt2, unembed_hash=told)
        lens = tl.logit_lens(gpt2, STORY, decoder=tl.open_lens(tmp_path / "lens"))
        assert len(lens.notes) == noted
        assert all("another unembedding" in note for note in lens.notes)


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
        (lambda f: _configure(f, d_model=99_999, num_hidden_layers=99_999), "expected numbers"),
        (lambda f: _configure(f, d_model="32"), "d_model '32'"),
        (lambda f: _configure(f, lens_type="other"), "lens_type 'other'"),
        (
            lambda f: torch.save({"0.weight": torch.zeros(1).expand(32, 32)}, f / "params.pt"),
            "expected numbers",
        ),
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
