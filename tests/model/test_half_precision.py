"""A model in half precision, as checkpoints come, has the parts that it has in float32."""

from __future__ import annotations

import pytest
import torch

import twinlens as tl
from tests.conftest import random_model
from twinlens.model.discover import discover


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "granite", "mpt", "glm4", "falcon_new"])
def test_sub_blocks_are_found_whatever_sums_are_rounded_to(tokenizer, name, dtype):
    hf = random_model(name, tokenizer)
    expected = discover(hf)
    assert expected.attn
    assert expected.mlp
    assert discover(hf.to(dtype)) == expected


def test_experts_in_half_precision_pass_the_checks(tokenizer):
    model = tl.load(random_model("mixtral", tokenizer).to(torch.bfloat16), tokenizer=tokenizer)
    assert model.experts(1) is not None
    assert tl.check(model).passed
