"""Fitted lenses: what fitting and reading costs, in forward passes, and how well each reads.

    python benchmarks/lenses.py [--model hamlet] [--steps 250] [--windows 16] [--threads 2] [--json]

Fits a tuned lens and Jacobian lenses (of all later targets, and of a position's own) to hamlet's
validation text, and compares them with the plain lens on its final text. Seconds are set against
forward passes of as many tokens as were read, timed just before and after; memory is what the
process' largest resident set grew by.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import twinlens as tl
from benchmarks.heads import measured
from twinlens.see import texts


def forward_seconds(model: Any, n_tokens: int, length: int) -> float:
    """Of one pass over so many tokens, in batches of 2,048."""
    ids = torch.randint(0, model.n_vocab, (max(1, 2048 // length), length))
    with torch.no_grad():
        model.hf(ids, use_cache=False)
        start = time.perf_counter()
        for _ in range(3):
            model.hf(ids, use_cache=False)
    return (time.perf_counter() - start) / 3 / ids.numel() * n_tokens


def trained_on(model: Any, steps: int) -> int:
    """Tokens that so many steps see: 16 windows each, of at most 128 tokens and often fewer."""
    fitted_to, _ = texts.split(texts.windows(model, tl.hamlet.text(), 128), 0.1)
    return round(steps * 16 * fitted_to.n_tokens / len(fitted_to))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="hamlet")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model, made, lines = tl.load(given.model), {}, []
    tl.logit_lens(model, "a b")  # the model's checks and lazy imports
    asked = {
        "tuned": {"steps": given.steps},
        "jacobian": {"windows": given.windows},
        "jacobian own": {"windows": given.windows, "reach": "own"},
        "jacobian own rank 16": {"windows": given.windows, "reach": "own", "rank": 16},
    }
    for name, more in asked.items():

        def fit(name: str = name, more: Any = more) -> None:
            made[name] = tl.fit_lens(model, tl.hamlet.text(), name.split()[0], **more)

        before = forward_seconds(model, 2048, 128)
        seconds, memory = measured(fit)
        after = forward_seconds(model, 2048, 128)
        read = (
            trained_on(model, given.steps) if name == "tuned" else made[name].settings["n_tokens"]
        )
        plain = (before + after) / 2 / 2048 * read
        lines.append(
            {"fit": name, "seconds": seconds, "tokens": read, "passes": seconds / plain,
             "memory_mb": memory}
        )  # fmt: skip
    final = texts.joined(texts.windows(model, tl.hamlet.text("final"), 128))
    found = tl.compare_lenses(model, tl.hamlet.text("final"), {"plain": None, **made})
    story = tl.hamlet.story()
    for name in found.lenses:
        decoder = made.get(name)
        seconds, memory = measured(
            lambda decoder=decoder: tl.logit_lens(model, story, decoder=decoder)
        )
        plain = forward_seconds(model, len(model.encode(story)), 128)
        lines.append(
            {"read": name, "seconds": seconds, "passes": seconds / plain, "memory_mb": memory}
        )
    if given.json:
        print(json.dumps({"costs": lines, "comparison": found.to_dict()}))
        return
    for line in lines:
        what = f"fitting {line['fit']}" if "fit" in line else f"reading by {line['read']}"
        print(
            f"{what:28} {line['seconds']:7.2f} s, {line['passes']:6.1f} forward passes of as many"
            f" tokens; memory {line['memory_mb']:.0f} MB"
        )
    print(f"\n{final.n_tokens} tokens of other text: KL to the final row (top-1 agreement; bias)")
    for n, row in enumerate(found.layers):
        cells = [
            f"{found.kl[i, n]:.2f} ({found.agreement[i, n]:.0%}; {found.bias[i, n]:.2f})"
            for i in range(len(found.lenses))
        ]
        print(f"{row:6}", *(f"{cell:22}" for cell in cells))
    print("lenses:", ", ".join(found.lenses))


if __name__ == "__main__":
    main()
