"""The second moment of keys: what it is, and that the cache gives the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from twinlens.change import covariance as module
from twinlens.change.covariance import key_covariance
from twinlens.change.parts import projection
from twinlens.errors import InputError, ResultFileError
from twinlens.run.sampling import sampled

TEXT = ["The Eiffel Tower is in the city of Paris. " * 6, "He said that the other man went home."]


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "opt"])
def test_it_is_the_mean_outer_product_over_the_tokens(family, make_model):
    model = make_model(family)
    found = key_covariance(model, 1, TEXT, length=40, batch_tokens=80, cache=None)
    inputs = []
    layer = projection(model, "mlp", 1).module
    handle = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    for text in TEXT:
        ids = torch.from_numpy(model.encode(text).ids)
        for start in range(0, len(ids), 40):
            if len(ids[start : start + 40]) > 1:
                with torch.no_grad():
                    model.hf(ids[None, start : start + 40])
    handle.remove()
    rows = torch.cat([x.reshape(-1, x.shape[-1]) for x in inputs]).double()
    assert found.n_tokens == len(rows)
    torch.testing.assert_close(found.matrix, rows.T @ rows / len(rows), rtol=1e-5, atol=1e-7)


def test_solving_is_the_inverse(gpt2):
    found = key_covariance(gpt2, 0, samples=6, length=64, cache=None)
    key = torch.randn(found.matrix.shape[0], generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(found.matrix @ found.solve(key), key, rtol=1e-6, atol=1e-6)


def test_a_cache_hit_is_what_was_measured(gpt2, tmp_path, monkeypatch):
    fresh = key_covariance(gpt2, 1, TEXT, length=40, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1

    def measured(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "_measured", measured)
    again = key_covariance(gpt2, 1, TEXT, length=40, cache=tmp_path)
    assert torch.equal(again.matrix, fresh.matrix)
    assert (again.n_tokens, again.about, again.notes) == (fresh.n_tokens, fresh.about, ())


def test_other_weights_layers_and_texts_have_files_of_their_own(gpt2, make_model, tmp_path):
    key_covariance(gpt2, 1, TEXT, length=40, cache=tmp_path)
    key_covariance(gpt2, 0, TEXT, length=40, cache=tmp_path)
    key_covariance(gpt2, 1, TEXT[:1], length=40, cache=tmp_path)
    key_covariance(gpt2, 1, samples=2, length=40, cache=tmp_path)
    key_covariance(make_model("llama"), 1, TEXT, length=40, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("how", ["cut", "garbage", "bit"])
def test_a_damaged_file_is_made_anew_with_a_note(gpt2, tmp_path, how):
    fresh = key_covariance(gpt2, 1, TEXT, length=40, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    flipped = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    file.write_bytes({"cut": whole[:-100], "garbage": b"nothing", "bit": flipped}[how])
    with pytest.warns(UserWarning, match="damaged"):
        again = key_covariance(gpt2, 1, TEXT, length=40, cache=tmp_path)
    assert torch.equal(again.matrix, fresh.matrix)
    assert "made anew" in again.notes[0]
    assert file.read_bytes() == whole


def test_the_users_cache_folder_is_the_default(gpt2, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    key_covariance(gpt2, 1, TEXT, length=40)
    assert len(list((tmp_path / "twinlens" / "covariance").iterdir())) == 1
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    key_covariance(gpt2, 1, TEXT, length=40)  # a home that cannot be written stops nothing
    with pytest.raises(ResultFileError, match="cannot make"):
        key_covariance(gpt2, 1, TEXT, length=40, cache=tmp_path / "file" / "x")


@pytest.mark.parametrize(
    "wrong",
    [{}, {"text": TEXT, "samples": 3}, {"samples": 0}, {"text": []}, {"text": "nowhere.txt"},
     {"text": TEXT, "length": 4096}],
)  # fmt: skip
def test_wrong_input_is_refused(gpt2, wrong):
    with pytest.raises(InputError):
        key_covariance(gpt2, 1, cache=None, **wrong)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gpt_neox", "opt"])
def test_what_is_sampled_are_the_models_own_predictions(family, make_model):
    model = make_model(family)
    ids = sampled(model, 3, 12, seed=3, top_k=2)
    assert ids.shape == (3, 13)
    assert np.array_equal(ids, sampled(model, 3, 12, seed=3, top_k=2))
    assert not np.array_equal(ids, sampled(model, 3, 12, seed=4, top_k=2))
    with torch.no_grad():
        best = model.hf(torch.from_numpy(ids)).logits.topk(2).indices.numpy()
    assert (best[:, :-1] == ids[:, 1:, None]).any(-1).all()
