"""Heads: time and memory of induction scores, attention patterns, and a word that comes back.

    python benchmarks/heads.py [--model hamlet | --gpt2] [--tokens 127] [--pairs 3] [--json]

Each is compared with the plain forward pass of the same tokens: `tl.induction` with one pass over
its sequences, `tl.attention` of all heads and tokens with a pass over the prompt, `tl.recurrence`
with one pass over the corrupted samples of the prompt. Printed are medians, ratios, and what the
process' largest resident set grew by. `--gpt2` is a random model of GPT-2's size.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import twinlens as tl
from benchmarks.lens_memory import prompt_of, random_gpt2, status
from twinlens.model.model import Model

SAMPLES = 10


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and the growth of the largest resident set in MB."""
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the largest resident set so far
    before, start = status("VmRSS"), time.perf_counter()
    work()
    return time.perf_counter() - start, max(0, status("VmHWM") - before) / 1e6


def forward(model: Model, ids: torch.Tensor, **given: Any) -> None:
    with torch.no_grad():
        model.hf(ids.to(model.device), use_cache=False, **given)


def cases(model: Model, n_tokens: int) -> dict[str, tuple[Callable[[], object], Callable]]:
    """What is measured, and the plain pass beside it."""
    long = prompt_of(n_tokens, model.n_vocab)
    ids = torch.from_numpy(long.ids)[None]
    sequences = torch.randint(0, model.n_vocab, (10, 101))
    found: dict[str, tuple[Callable[[], object], Callable]] = {
        "induction": (lambda: tl.induction(model), lambda: forward(model, sequences)),
        "attention": (
            lambda: tl.attention(model, long),
            lambda: forward(model, ids),
        ),
        "attention, value-weighted": (
            lambda: tl.attention(model, long, value_weighted=True),
            lambda: forward(model, ids),
        ),
    }
    if model.name == "hamlet":
        story = tl.hamlet.story()
        rows = torch.from_numpy(model.encode(story).ids)[None].expand(SAMPLES, -1)
        for name, neurons in (("recurrence", True), ("recurrence, no neurons", False)):
            found[name] = (
                lambda neurons=neurons: tl.recurrence(model, story, "Dursley", neurons=neurons),
                lambda: forward(model, rows),
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="hamlet")
    parser.add_argument("--gpt2", action="store_true")
    parser.add_argument("--tokens", type=int, default=127)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = random_gpt2() if given.gpt2 else tl.load(given.model)
    tl.attention(model, prompt_of(4, model.n_vocab))  # the model's checks and lazy imports
    lines = []
    for name, (work, plain) in cases(model, given.tokens).items():
        pairs = [(measured(work), measured(plain)) for _ in range(given.pairs)]
        ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
        (seconds, memory), (base, base_memory) = (
            [statistics.median(column) for column in zip(*side, strict=True)]
            for side in zip(*pairs, strict=True)
        )
        lines.append(
            {"what": name, "seconds": seconds, "forward_s": base, "ratio": ratio,
             "memory_mb": memory, "forward_memory_mb": base_memory}
        )  # fmt: skip
        if not given.json:
            print(
                f"{name:26} {seconds:7.2f} s, {ratio:6.1f} forward passes of {base:.3f} s;"
                f" memory {memory:.0f} MB above before ({base_memory:.0f} MB the pass)"
            )
    if given.json:
        print(json.dumps(lines))


if __name__ == "__main__":
    main()
