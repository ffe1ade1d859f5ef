"""Models that were loaded otherwise: adapters, other number types, spread, quantised."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import twinlens as tl
from tests.conftest import STORY, random_model, saved_model
from tests.families_ import REFUSED
from tests.families_page import refused_folder
from twinlens.errors import ChangeError, LoadError
from twinlens.model.kinds import refuse_other_kinds

INSTEAD = tl.Replace(prompt=STORY.replace("Lily", "Paris"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer):
    return saved_model("llama", tokenizer, tmp_path_factory.mktemp("models") / "tiny")


def _trace(model, **given):
    return tl.causal_trace(
        model, STORY, "Lily", corruption=INSTEAD, metric="log_probability", answer=" to", **given
    )


def _alike(one, other, within, **given):
    """Lens and trace of two models agree to `within` nats."""
    lenses = [tl.logit_lens(model, STORY, targets=[" to"]) for model in (one, other)]
    assert np.abs(lenses[0].log_probs[..., 2] - lenses[1].log_probs[..., 2]).max() < within
    traces = [_trace(model, **given) for model in (one, other)]
    assert np.abs(traces[0].scores - traces[1].scores).max() < within
    assert np.abs(traces[1].effects()).max() > within
    return traces[0]


def test_bfloat16_is_float32_to_its_rounding(saved):
    half, same = tl.load(saved, dtype="bfloat16"), tl.load(saved, dtype="bfloat16")
    same.hf.float()  # the same weights, reckoned in float32
    _alike(half, tl.load(same.hf, tokenizer=same.tokenizer), 0.1)


def test_a_model_spread_over_processor_and_disk(saved, tmp_path):
    pytest.importorskip("accelerate")
    spread = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    spread |= {"model.rotary_emb": "cpu", "model.layers.0": "cpu"}
    spread |= {"model.layers.1": "disk", "model.layers.2": "disk"}
    model = tl.load(saved, device_map=spread)
    assert any(p.device.type == "meta" for p in model.hf.parameters())
    made = _alike(model, tl.load(saved), 1e-4)
    assert made.settings["engine"] == "replay"
    with pytest.raises(ChangeError, match=r"is offloaded"), tl.changed(model, tl.Silence("1.N3")):
        pass


@pytest.fixture
def adapted(tokenizer):
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    return peft.get_peft_model(random_model("llama", tokenizer), config).eval()


def test_an_adapter_is_read_as_the_merged_model(adapted, tokenizer, make_model):
    model = tl.load(adapted, tokenizer=tokenizer)
    traced = _trace(model)
    units = tl.neuron_trace(
        model, STORY, "Lily", corruption=INSTEAD, method="exact", cells=[(1, 12)]
    )
    with pytest.raises(ChangeError, match=r"down_proj has an adapter beside its weights; merge it"):
        tl.Silence("1.N3").values(model)
    with pytest.raises(ChangeError, match=r"layers\.0\..*q_proj has an adapter beside its weights"):
        tl.zero_weights(model, 0.1, by="magnitude").values(model)
    merged = tl.load(adapted.merge_and_unload(), tokenizer=tokenizer)
    np.testing.assert_allclose(traced.scores, _trace(merged).scores, atol=1e-4)
    again = tl.neuron_trace(
        merged, STORY, "Lily", corruption=INSTEAD, method="exact", cells=[(1, 12)]
    )
    np.testing.assert_allclose(units.scores, again.scores, atol=1e-5)
    plain = _trace(make_model("llama"))
    assert np.abs(traced.scores - plain.scores).max() > 0.1, "the adapter does something"


def test_a_folder_with_an_adapter_is_a_model(saved, tmp_path, tokenizer):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    config = peft.LoraConfig(r=4, target_modules=["v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(saved), config).eval()
    adapted.save_pretrained(tmp_path)
    model = tl.load(tmp_path, tokenizer=tokenizer)
    ids = torch.from_numpy(model.encode(STORY).ids)[None]
    with torch.no_grad():
        expected = adapted(ids).logits[0]
    lens = tl.logit_lens(model, STORY)
    found = expected.gather(1, torch.from_numpy(lens.top_ids[-1]))
    np.testing.assert_allclose(lens.top_logits[-1], found.numpy(), atol=1e-4)


def test_tokens_that_an_adapter_puts_before_the_prompt_are_refused(tokenizer):
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    adapted = peft.get_peft_model(random_model("llama", tokenizer), config)
    with pytest.raises(LoadError, match="PROMPT_TUNING puts tokens of its own before the prompt"):
        tl.load(adapted, tokenizer=tokenizer)


def _quantised(saved, kind):
    """A model in 8 bits by torchao, or in 8 or 4 bits by bitsandbytes."""
    import transformers

    if kind == "torchao":
        pytest.importorskip("torchao", reason="torchao is not installed")
        from torchao.quantization import Int8WeightOnlyConfig

        how = transformers.TorchAoConfig(Int8WeightOnlyConfig())
    else:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
        bits = {"load_in_8bit": True} if kind == "8bit" else {"load_in_4bit": True}
        how = transformers.BitsAndBytesConfig(**bits, bnb_4bit_compute_dtype=torch.float32)
    return transformers.AutoModelForCausalLM.from_pretrained(
        saved, quantization_config=how, device_map="cpu"
    ).eval()


@pytest.fixture(scope="module")
def wide(tmp_path_factory, tokenizer):
    """Four bits come in groups of 64 weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "wide"
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _dequantised(hf, folder, tokenizer):
    """The numbers that quantised weights stand for, as a plain model."""
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder)
    for path, module in plain.named_modules():
        if isinstance(module, torch.nn.Linear) and path != "lm_head":
            with torch.no_grad():  # one input at a time gives one column of the weight
                module.weight.copy_(hf.get_submodule(path)(torch.eye(module.in_features)).T)
    return tl.load(plain, tokenizer=tokenizer)


@pytest.mark.parametrize(("kind", "within"), [("torchao", 1e-3), ("8bit", 0.5), ("4bit", 0.5)])
def test_quantised_weights_are_read_and_not_written(wide, tokenizer, kind, within):
    """As the model of the numbers they stand for, to the rounding of the kernels: bitsandbytes'
    reckon in 8 bits and in bfloat16."""
    model = tl.load(_quantised(wide, kind), tokenizer=tokenizer)
    assert model.precision is torch.bfloat16
    assert model.is_quantised
    assert len(model.weights_hash()) == 64
    _alike(model, _dequantised(model.hf, wide, tokenizer), within, focus="Lily")
    for change in (tl.Silence("1.N3"), tl.Silence("0.H1,1.MLP")):
        with pytest.raises(ChangeError, match="is quantised"), tl.changed(model, change):
            pass
    with pytest.raises(ChangeError, match="is quantised"):
        tl.zero_weights(model, 0.1, by="magnitude").values(model)


class _Stored(torch.nn.Parameter):
    """Bytes with scales beside them, as bitsandbytes keeps them."""

    SCB = quant_state = None


def _stored(hf, **scales):
    """Zero bytes in place of one matrix of a copy, with these scales."""
    hf = copy.deepcopy(hf)
    module = hf.get_submodule("model.layers.1.mlp.down_proj")
    module.weight = _Stored(torch.zeros(module.weight.shape, dtype=torch.int8), False)
    for name, value in scales.items():
        setattr(module.weight, name, value)
    return hf, module


def test_the_hash_of_quantised_weights_tells_their_scales(make_model, tokenizer):
    plain = make_model("llama")

    def hashed(hf):
        return tl.Model(hf, tokenizer, plain.anatomy, "stored").weights_hash()

    def four(absmax, second, offset):
        state2 = SimpleNamespace(absmax=torch.tensor([second]))
        return SimpleNamespace(
            absmax=torch.tensor([absmax]), offset=torch.tensor(offset), state2=state2
        )

    kinds = [{"quant_state": four(*s)} for s in ((1.0, 1.0, 1.0), (2.0, 1.0, 1.0))]
    kinds += [{"quant_state": four(*s)} for s in ((1.0, 2.0, 1.0), (1.0, 1.0, 2.0))]
    kinds += [{}, {"SCB": torch.ones(32)}, {"SCB": torch.full((32,), 2.0)}]
    found = [hashed(_stored(plain.hf, **scales)[0]) for scales in kinds]
    assert len(set(found)) == len(kinds)
    hf, module = _stored(plain.hf)
    module.state = SimpleNamespace(SCB=torch.ones(32))  # where a first pass puts it
    assert hashed(hf) == found[5]
    hf.register_buffer("scale", torch.ones(2))
    assert hashed(hf) != found[5]


@pytest.mark.parametrize("name", list(REFUSED))
def test_other_kinds_of_model_are_refused_with_the_reason(tmp_path, tokenizer, name):
    """By their configuration alone, before weights are read."""
    said = "is an encoder-decoder" if name in ("t5", "bart") else "is a state-space"
    with pytest.raises(LoadError, match=f"{name} {said}"):
        tl.load(refused_folder(name, tmp_path), tokenizer=tokenizer)


def test_a_model_without_heads_is_called_state_space_only_where_it_has_a_state():
    from transformers import PreTrainedConfig

    config = PreTrainedConfig()
    with pytest.raises(LoadError, match=r"has no `num_attention_heads`: it has no attention that"):
        refuse_other_kinds(config)
    config.ssm_state_size = 16
    with pytest.raises(LoadError, match="is a state-space"):
        refuse_other_kinds(config)


def test_an_encoder_decoder_in_memory_is_refused(tokenizer):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=len(tokenizer), d_model=32, num_layers=1, d_ff=32, num_heads=2)
    with pytest.raises(LoadError, match="t5 is an encoder-decoder: its answer depends on a second"):
        tl.load(T5ForConditionalGeneration(config), tokenizer=tokenizer)
