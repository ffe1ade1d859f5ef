from __future__ import annotations

import copy
import json
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import STORY, random_model, saved_model
from twinlens.errors import AnatomyError, LoadError, PromptError
from twinlens.model.load import find_anatomy, refuse_missing


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer):
    return saved_model("llama", tokenizer, tmp_path_factory.mktemp("models") / "tiny")


def _copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_a_directory_and_the_same_model_in_memory_are_alike(saved, tokenizer):
    from_files = tl.load(saved)
    in_memory = tl.load(random_model("llama", tokenizer), tokenizer=tokenizer)
    assert from_files.name == "tiny"
    assert from_files.weights_hash() == in_memory.weights_hash()
    lenses = [tl.logit_lens(model, STORY) for model in (from_files, in_memory)]
    assert np.allclose(lenses[0].logits, lenses[1].logits)
    assert tl.load(str(saved)).name == "tiny"


def _downloaded(folder, cache, commit, monkeypatch):
    """`folder` as someone/tiny in the cache of the hub."""
    repo = cache / "models--someone--tiny"
    shutil.copytree(folder, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    import huggingface_hub.constants as constants
    import transformers.utils.hub as hub

    for module in (constants, hub):
        for name in ("HF_HUB_CACHE", "TRANSFORMERS_CACHE"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, str(cache))


def test_an_adapter_of_the_hub_is_there_without_a_configuration(tmp_path, monkeypatch):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "adapter_config.json").write_text("{}")
    _downloaded(tmp_path / "saved", tmp_path / "cache", "0123456789abcdef", monkeypatch)
    refuse_missing("someone/tiny")
    with pytest.raises(LoadError, match="someone/other"):
        refuse_missing("someone/other")


def test_a_hub_id_is_read_through_transformers(saved, tmp_path, monkeypatch):
    """The hub's cache as a download leaves it: the same path of code, no network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    _downloaded(saved, tmp_path, commit, monkeypatch)
    model = tl.load("someone/tiny")
    assert model.name == "someone/tiny"
    assert model.weights_hash() == tl.load(saved).weights_hash()
    assert tl.load("someone/tiny", revision=commit).n_layers == 3
    with pytest.raises(LoadError, match="no directory, so read as a hub id"):
        tl.load("someone/other")


def test_dtype_and_device_are_passed_on(saved):
    model = tl.load(saved, dtype="bfloat16", device="cpu")
    assert model.dtype is torch.bfloat16
    assert tl.load(saved, dtype=torch.float64).dtype is torch.float64
    assert tl.load(saved).dtype is torch.float32


def test_a_model_spread_by_a_device_map(saved):
    pytest.importorskip("accelerate")
    model = tl.load(saved, device_map="cpu")
    plain = tl.load(saved)
    assert np.allclose(tl.logit_lens(model, STORY).logits, tl.logit_lens(plain, STORY).logits)


def test_pickled_weights_are_refused(saved, tmp_path):
    folder = _copy(saved, tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"evil": 1}))
    with pytest.raises(LoadError, match="safetensors"):
        tl.load(folder)


def test_damaged_weights_are_refused(saved, tmp_path):
    folder = _copy(saved, tmp_path)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(LoadError, match="cannot load the model"):
        tl.load(folder)


def test_a_checkpoint_without_some_weights_is_refused(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = _copy(saved, tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.down_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LoadError, match=r"has no weights for .*down_proj"):
        tl.load(folder)


def _with_weights(folder, names, **settings):
    """The checkpoint with more weights, and other settings in its config.json."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors") | {n: torch.ones(2) for n in names}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


def test_a_checkpoint_with_more_blocks_than_its_config_is_refused(saved, tmp_path):
    folder = _with_weights(_copy(saved, tmp_path), [], num_hidden_layers=2, layer_types=None)
    with pytest.raises(LoadError, match=r"has 3 blocks .*says 2: .* number there to 3"):
        tl.load(folder)
    for told in ("num_nextn_predict_layers", "num_mtp_modules"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = tl.load(_with_weights(folder, [], **{told: 1}))
        assert model.n_layers == 2, "that block guesses ahead, and is no part of it"
        _with_weights(folder, [], **{told: 0})


def test_weights_without_a_place_are_told_and_old_masks_are_none(saved, tmp_path):
    masks = ["model.layers.0.self_attn.masked_bias", "model.layers.0.self_attn.rotary_emb.inv_freq"]
    folder = _with_weights(_copy(saved, tmp_path), masks)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tl.load(folder)
    _with_weights(folder, ["model.layers.0.self_attn.q_norm.weight", "vision.layers.9.weight"])
    with pytest.warns(UserWarning, match=r"no place for some .*q_norm.weight, vision.layers.9"):
        tl.load(folder)


def test_a_checkpoint_of_another_shape_is_refused(saved, tmp_path):
    folder = _copy(saved, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["intermediate_size"] = 40
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError):
        tl.load(folder)


def test_a_folder_that_is_no_model_is_refused(saved, tmp_path):
    with pytest.raises(LoadError, match=r"no config\.json"):
        tl.load(tmp_path)
    with pytest.raises(LoadError, match="is a file"):
        tl.load(saved / "config.json")
    folder = _copy(saved, tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(LoadError, match="cannot load"):
        tl.load(folder)


def test_a_tokenizer_that_does_not_fit_is_refused(saved, sentencepiece):
    with pytest.raises(LoadError, match="does not belong to this model"):
        tl.load(saved, tokenizer=sentencepiece)


def test_code_from_a_checkpoint_is_not_run(saved, tmp_path):
    folder = _copy(saved, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.EvilConfig"}
    config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(LoadError):
        tl.load(folder)
    assert not (tmp_path / "ran").exists()


def test_nan_weights_are_refused_before_a_measurement(tokenizer):
    hf = random_model("llama", tokenizer)
    with torch.no_grad():
        hf.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(AnatomyError, match="'logits are finite'"):
        tl.logit_lens(tl.load(hf, tokenizer=tokenizer), STORY)


def test_the_hash_follows_the_weights(tokenizer):
    model = tl.load(random_model("gpt2", tokenizer), tokenizer=tokenizer)
    before = model.weights_hash()
    assert model.weights_hash() == before
    with torch.no_grad():
        model.hf.transformer.h[0].mlp.c_fc.weight[0, 0] += 1
    assert model.weights_hash() != before


def test_dropout_is_off(tokenizer):
    hf = random_model("gpt2", tokenizer).train()
    model = tl.load(hf, tokenizer=tokenizer)
    assert tl.check(model).passed


def test_an_older_layout_of_a_known_family_is_found_by_structure(make_model):
    hf = make_model("llama").hf
    renamed = torch.nn.Module.__new__(type(hf))
    renamed.__dict__.update({k: v for k, v in hf.__dict__.items() if k != "_modules"})
    renamed._modules = {"model": hf.model, "output": hf.lm_head}
    renamed.get_output_embeddings = lambda: hf.lm_head
    renamed.forward = lambda **kw: type(
        "Out", (), {"logits": hf.lm_head(hf.model(**kw).last_hidden_state)}
    )
    assert find_anatomy(renamed).unembed == "output"


def test_added_tokens_without_a_row_are_refused_where_they_are_used(tokenizer):
    """As with Gemma 3 and Code Llama, whose tokenizers know more tokens than the embedding."""
    hf = random_model("llama", tokenizer)
    more = copy.deepcopy(tokenizer)
    more.add_tokens(["<image>"], special_tokens=True)
    model = tl.load(hf, tokenizer=more)
    assert len(model.encode("Once upon a time")) > 2
    with pytest.raises(PromptError, match="does not belong to this model"):
        model.encode("Once <image> a time")
