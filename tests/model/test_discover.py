from __future__ import annotations

import numpy as np

import twinlens as tl
from tests.conftest import STORY
from twinlens.model.discover import discover
from twinlens.model.model import Model


def test_structure_shows_what_the_table_says(family):
    found, row = discover(family.hf), family.anatomy
    assert (found.embed, found.blocks, found.unembed) == (row.embed, row.blocks, row.unembed)
    there = tuple(path for path in row.tail if _exists(family, path))
    assert found.tail == there
    if row.adds_up:
        assert (found.heads, found.neurons) == (row.heads, row.neurons)
    again = tl.load(family.hf, tokenizer=family.tokenizer, anatomy=found)
    assert tl.check(again).passed
    assert np.allclose(
        tl.logit_lens(again, STORY).logits, tl.logit_lens(family, STORY).logits, atol=1e-5
    )


def _exists(model: Model, path: str) -> bool:
    from twinlens.model.model import find_module

    return find_module(model.hf, path) is not None
