"""The logit lens of a long prompt: its peak memory above the model, and its time as a multiple of
the matrix products that it cannot do without.

    python benchmarks/lens_memory.py [--tokens 1024] [--pairs 3] [--json]

The model is GPT-2-sized (transformers' default GPT2Config) with random weights. The floor is one
forward pass and one product of every row's residuals with the unembedding, in the same slices, with
nothing kept. Memory is the process' largest resident set, read in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import twinlens as tl
from twinlens.model.model import Model
from twinlens.results import Tokens

GOAL_BYTES = 1e9


def random_gpt2() -> Model:
    """GPT-2 small's shape; the prompt is given as ids, so the tokenizer only names tokens."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config()).eval()
    names = {f"t{i}": i for i in range(hf.config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="t0"))
    return tl.load(hf, tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer))


def prompt_of(n_tokens: int, vocabulary: int) -> Tokens:
    ids = np.random.RandomState(0).randint(0, vocabulary, n_tokens)
    labels = tuple(f"t{i}" for i in ids)
    ends = np.cumsum([len(label) + 1 for label in labels])
    starts = np.concatenate([[0], ends[:-1]])
    return Tokens(" ".join(labels), ids, labels, starts, ends, np.zeros(n_tokens, bool))


def products(model: Model, tokens: Tokens) -> None:
    """One forward pass, and every row's residuals times the unembedding."""
    rows, width, slice_size = model.n_layers + 1, model.d_model, 256
    weight = model.hf.lm_head.weight
    with torch.no_grad():
        model.hf(torch.from_numpy(tokens.ids)[None], logits_to_keep=1, use_cache=False)
        residual = torch.randn(slice_size, width)
        for _ in range(rows):
            for start in range(0, len(tokens), slice_size):
                torch.nn.functional.linear(residual[: len(tokens) - start], weight)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def status(field: str) -> int:
    """A memory field of this process (VmHWM: largest resident set), in bytes."""
    with open("/proc/self/status") as lines:
        line = next(line for line in lines if line.startswith(field))
    return int(line.split()[1]) * 1024


def peak_above_model(n_tokens: int) -> int:
    """Largest resident set during the lens, less the resident set with the model loaded."""
    model = random_gpt2()
    tokens = prompt_of(n_tokens, model.n_vocab)
    tl.logit_lens(model, prompt_of(4, model.n_vocab))  # the model's checks and lazy imports
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the largest resident set so far
    before = status("VmRSS")
    tl.logit_lens(model, tokens)
    return status("VmHWM") - before


def times(n_tokens: int, pairs: int) -> tuple[float, float, float]:
    """Median seconds of lens and floor, and the median of their ratio, measured in pairs."""
    model = random_gpt2()
    tokens = prompt_of(n_tokens, model.n_vocab)
    tl.logit_lens(model, prompt_of(4, model.n_vocab))
    found = [
        (seconds(lambda: tl.logit_lens(model, tokens)), seconds(lambda: products(model, tokens)))
        for _ in range(pairs)
    ]
    lens, floor = (statistics.median(side) for side in zip(*found, strict=True))
    return lens, floor, statistics.median(a / b for a, b in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak:
        print(peak_above_model(given.tokens))
        return
    command = [sys.executable, __file__, "--peak", "--tokens", str(given.tokens)]
    command += ["--threads", str(given.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = int(done.stdout.split()[-1])
    lens, floor, ratio = times(given.tokens, given.pairs)
    report(given, {"peak_bytes": peak, "lens_s": lens, "products_s": floor, "ratio": ratio})


def report(given: argparse.Namespace, found: dict[str, Any]) -> None:
    found |= {"tokens": given.tokens, "threads": given.threads, "goal_bytes": GOAL_BYTES}
    if given.json:
        print(json.dumps(found))
        return
    within = "within" if found["peak_bytes"] <= GOAL_BYTES else "ABOVE"
    print(f"logit lens of {given.tokens} tokens, GPT-2-sized model, {given.threads} threads")
    peak = found["peak_bytes"] / 1e9
    print(f"peak memory above the model  {peak:.2f} GB ({within} the goal, 1 GB)")
    print(f"time                         {found['lens_s']:.1f} s")
    print(f"bare matrix products         {found['products_s']:.1f} s")
    print(f"time / products              {found['ratio']:.2f}")


if __name__ == "__main__":
    main()
