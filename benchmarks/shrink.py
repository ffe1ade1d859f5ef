"""Shrink: how much faster a model is when its silenced neurons are really removed.

    python benchmarks/shrink.py [--model hamlet | --gpt2] [--left 0.75 0.5 0.25] [--rows 4]
                                [--length 128] [--pairs 15] [--json]

A random share of each layer's neurons is silenced, then removed; passes over random prompts are
timed in pairs with the model that has them all. Printed are the width, the parameters as a share of
before, the largest difference of a logit over 512 tokens of hamlet's text (and the largest logit),
and the speed: the median of the pairs' ratios, with quartiles. `--gpt2` is a random model of
GPT-2's size.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers.pre_tokenizers import WhitespaceSplit

sys.path.insert(0, str(Path(__file__).parents[1]))

import twinlens as tl
from benchmarks.lens_memory import random_gpt2
from twinlens.change.beside import logit_gap, speed_ratio
from twinlens.change.parts import n_parts


def text_of(model: tl.Model) -> Any:
    """hamlet's text, or words that the tokenizer of a random model knows."""
    if not model.name.startswith("GPT2"):
        return "hamlet"
    model.tokenizer.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    drawn = np.random.default_rng(1).integers(model.n_vocab, size=512)
    return [" ".join(f"t{i}" for i in drawn)]


def row(model: tl.Model, left: float, asked: argparse.Namespace) -> dict[str, Any]:
    random, width = np.random.default_rng(1), n_parts(model, "neuron", 0)
    dead = [
        f"{layer}.N{number}"
        for layer in range(model.n_layers)
        for number in random.permutation(width)[round(left * width) :]
    ]
    with tl.changed(model, tl.Silence(dead)):
        made = tl.shrink(model)
        gap = logit_gap(model, made.model, text_of(model), limit=512)
        speed = speed_ratio(
            model, made.model, rows=asked.rows, length=asked.length, pairs=asked.pairs
        )
    return {
        "width": made.width,
        "parameters": made.parameters,
        "logits": gap._asdict(),
        "speed": speed._asdict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="hamlet")
    parser.add_argument("--gpt2", action="store_true")
    parser.add_argument("--left", type=float, nargs="+", default=[0.75, 0.5, 0.25])
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    model = random_gpt2() if asked.gpt2 else tl.load(asked.model)
    print(f"{model.name}, {torch.get_num_threads()} threads", file=sys.stderr)
    for left in asked.left:
        found = row(model, left, asked)
        if asked.json:
            print(json.dumps(found), flush=True)
            continue
        (wide, narrow), (before, after) = found["width"], found["parameters"]
        gap, speed = found["logits"], found["speed"]
        print(
            f"{wide} -> {narrow} neurons a layer, {after / before:.1%} of the parameters,"
            f" logits {gap['difference']:.1e} apart (largest {gap['largest']:.1f}),"
            f" speed {speed['ratio']:.2f} ({speed['low']:.2f} to {speed['high']:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
