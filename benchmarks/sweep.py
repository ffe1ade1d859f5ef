"""What a sweep costs: facts a second, growth with facts, memory, size of the store, exactness.

    python benchmarks/sweep.py scaling  [--model tiny|DIR|hamlet] [--facts 100,200,400]
    python benchmarks/sweep.py exact    [--model DIR]
    python benchmarks/sweep.py company  [--model tiny|DIR|hamlet]
    python benchmarks/sweep.py real     --model DIR --facts FILE [--limit N]
    python benchmarks/sweep.py reckon   [--teraflops 30]

`scaling`: time and memory of sweeps of more and more facts, and the store's size for 1,000.
`exact`: a sweep against single calls with as many threads, and against calls with other threads.
`company`: what facts gain by sharing passes (`share=True`), and by how much their scores move,
which is why they do so only when asked. `real`: time of a sweep of a file. `reckon`: counts
the FLOP of 1,209 facts on GPT-2 XL; no time is measured there. `tiny` is a random GPT-2.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import twinlens as tl

WORDS = ["clay", "iron", "salt", "wood", "stone", "paper", "silver", "wool"]
WORDS += ["glass", "bread", "water", "honey", "amber", "coal", "silk", "ink"]


def model_of(name: str) -> Any:
    if name != "tiny":
        return tl.load(name)
    torch.manual_seed(0)
    hamlet = tl.load("hamlet")
    config = GPT2Config(
        vocab_size=hamlet.n_vocab, n_embd=64, n_layer=4, n_head=4, n_positions=128,
        initializer_range=0.2, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return tl.load(GPT2LMHeadModel(config), tokenizer=hamlet.tokenizer)


def facts_of(count: int) -> list[dict[str, str]]:
    """Different prompts of a few lengths."""
    found = []
    for n in range(count):
        subject = f"{WORDS[n % 16]} {WORDS[n // 16 % 16]} {WORDS[n // 256 % 16]}"
        rest = ["is made of", "can be found in", "was sold to the man of"][n % 3]
        found.append({"prompt": f"The {subject} {rest}", "subject": subject})
    return found


def swept(model: Any, facts: Any, folder: Path, **options: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    run = tl.sweep_facts(model, facts, folder, progress=False, threads=1, **options)
    return time.perf_counter() - started, run


def scaling(model: Any, counts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as root:
        swept(model, facts_of(3), Path(root) / "warm")
        first = None
        for count in counts:
            seconds, run = swept(model, facts_of(count), Path(root) / f"{count}")
            size = sum(p.stat().st_size for p in run.path.rglob("*") if p.is_file())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            first = first or seconds / count
            print(
                f"{count:5d} facts  {seconds:7.1f} s  {count / seconds:6.2f} facts/s"
                f"  time a fact / that of the first row {seconds / count / first:.2f}"
                f"  peak memory {peak:,.0f} MiB  store {size / count / 1024:.1f} KiB a fact,"
                f" {size / count * 1000 / 2**20:.1f} MiB for 1,000"
            )


def exact(model: Any) -> None:
    facts = facts_of(6)
    with tempfile.TemporaryDirectory() as root:
        _, run = swept(model, facts, Path(root) / "run", restored=10)
        noise = tl.Noise(sigma=run.manifest["resolved"]["sigma"])
        for threads in (1, 2):
            torch.set_num_threads(threads)
            worst, same, cells = 0.0, 0, 0
            for number, fact in enumerate(facts):
                for kind in ("block", "mlp", "attn"):
                    engine = run.manifest["resolved"]["engines"][kind]
                    asked = {"kind": kind, "corruption": noise, "engine": engine}
                    made = tl.causal_trace(model, fact["prompt"], fact["subject"], **asked)
                    kept = run.grid(number, kind, "score")
                    worst = max(worst, float(np.abs(kept - made.scores).max()))
                    same, cells = same + int((kept == made.scores).sum()), cells + kept.size
            print(
                f"sweep (1 thread) against single calls with {threads}: {same} of {cells} cells"
                f" equal to the last bit, largest difference {worst:.1e}"
            )


def company(model: Any) -> None:
    """Traces of facts alone and with shared passes, in pairs, and how far their scores differ."""
    facts, pairs = facts_of(40), 3
    with tempfile.TemporaryDirectory() as root:
        swept(model, facts_of(3), Path(root) / "warm")
        ratios = []
        for pair in range(pairs):
            times, runs = [], []
            for share in (False, True):
                folder = Path(root) / f"{pair} {share}"
                seconds, run = swept(model, facts, folder, measure=["trace"], share=share)
                times.append(seconds)
                runs.append(run.cells["score"].to_numpy())
            ratios.append(times[0] / times[1])
        differ = np.abs(runs[0] - runs[1])
        print(
            f"traces of {len(facts)} facts with shared passes: {np.median(ratios):.2f} times as"
            f" fast as alone (median of {pairs} pairs); {int((differ > 0).sum())} of"
            f" {len(differ)} scores differ, by at most {differ.max():.1e}"
        )


_NAMED = r"^([^.!?\n]*? (?:named|called) ([A-Z][a-z]+)\.[^.!?\n]*) ([a-z]+)\."


def stories(path: Path) -> list[dict[str, str]]:
    """The first sentence of each story that names someone, without its last word, the answer."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        text = json.loads(line)["text"]
        match = re.search(_NAMED, text)
        if match:
            found.append(dict(zip(("prompt", "subject", "answer"), match.groups(), strict=True)))
    return found


def real(model: Any, facts: Any, limit: int | None) -> None:
    with tempfile.TemporaryDirectory() as root:
        for unknown in (False, True):
            seconds, run = swept(
                model, facts, Path(root) / str(unknown), limit=limit, unknown=unknown
            )
            counts = run.counts()
            size = sum(p.stat().st_size for p in run.path.rglob("*") if p.is_file())
            print(
                f"unknown={unknown}: {seconds:.1f} s, {counts['done'] / seconds:.2f} facts/s;"
                f" {counts}; store {size / 1024:.0f} KiB"
            )


def reckon(teraflops: float, facts: int = 1209, tokens: int = 8, subject: int = 2) -> None:
    """FLOP of the replay: for a state at layer l and token t, the blocks below it on the tokens
    from t on; two FLOP a weight and token. Attention over short prompts is left out."""
    layers, width, samples = 48, 1600, 10
    block = 2 * 12 * width**2
    # the subject's first token is at 1; cells before it need no run
    spans = [tokens - t for t in range(1, tokens)]
    one_kind = samples * block * sum((layers - layer) * n for layer in range(layers) for n in spans)
    head = 2 * 50257 * width * samples * layers * len(spans)
    total = facts * 3 * (one_kind + head)
    print(
        f"reckoned, not measured: GPT-2 XL, {facts:,} facts of {tokens} tokens, three kinds:"
        f" {one_kind / 1e12:.1f} TFLOP a kind and fact, {total / 1e15:.1f} PFLOP in all;"
        f" {total / teraflops / 1e12 / 3600:.1f} h at {teraflops:g} TFLOP/s reached"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=("scaling", "exact", "company", "real", "reckon"))
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--facts", default="100,200,400")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--teraflops", type=float, default=30.0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if given.what == "reckon":
        reckon(given.teraflops)
        return
    model = model_of(given.model)
    if given.what == "scaling":
        scaling(model, [int(n) for n in given.facts.split(",")])
    elif given.what == "exact":
        exact(model)
    elif given.what == "company":
        company(model)
    else:
        named = "stories" in Path(given.facts).name
        real(model, stories(Path(given.facts)) if named else given.facts, given.limit)


if __name__ == "__main__":
    main()
