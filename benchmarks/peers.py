"""Ours against TransformerLens' activation patching, on the same model and the same task.

    python -m venv PEER && PEER/bin/pip install torch==2.13.0 "transformer_lens<4"
    python benchmarks/peers.py --peer PEER/bin/python [--tokens 12] [--pairs 3] [--threads 2]

A random model of GPT-2's size; 10 prompts that differ from the clean one at tokens 2 to 4; the
residual before every block at every token is set to its clean value, and the probability of the
answer is averaged over the 10. The peer runs `get_act_patch_resid_pre` in a process of its own.
Printed are seconds a cell and sample, the ratio, and the largest difference of the numbers.
Goal: at least 40 times faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import twinlens as tl
from twinlens.model.anatomy import Site
from twinlens.run.engine import Engines
from twinlens.run.passes import Inputs, State, read

GOAL = 40.0
SUBJECT, SAMPLES = slice(2, 5), 10
PEER = """
import json, sys, time
import torch
from transformers import GPT2LMHeadModel
from transformer_lens import HookedTransformer, HookedTransformerConfig, patching
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
torch.set_grad_enabled(False)
task = torch.load(folder + "/task.pt")
hf = GPT2LMHeadModel.from_pretrained(folder).eval()
c = hf.config
cfg = HookedTransformerConfig(
    n_layers=c.n_layer, d_model=c.n_embd, n_ctx=c.n_positions, d_head=c.n_embd // c.n_head,
    n_heads=c.n_head, d_vocab=c.vocab_size, act_fn="gelu_new", normalization_type="LN",
    eps=c.layer_norm_epsilon, original_architecture="GPT2LMHeadModel", device="cpu",
)
model = HookedTransformer(cfg)
model.load_state_dict(convert_gpt2_weights(hf, cfg), strict=False)
_, cache = model.run_with_cache(task["clean"])
metric = lambda logits: logits[:, -1].softmax(-1)[:, task["answer"]].mean()
sys.stdout.write("ready\\n"); sys.stdout.flush()
for line in sys.stdin:
    start = time.perf_counter()
    made = patching.get_act_patch_resid_pre(model, task["corrupted"], cache, metric)
    seconds = time.perf_counter() - start
    sys.stdout.write(json.dumps({"seconds": seconds, "scores": made.tolist()}) + "\\n")
    sys.stdout.flush()
"""


class Peer:
    """TransformerLens in its own process, told to run once for every line."""

    def __init__(self, python: str, folder: str, threads: int) -> None:
        script = Path(folder) / "peer.py"
        script.write_text(PEER)
        self.process = subprocess.Popen(
            [python, str(script), folder, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._line("ready")

    def run(self) -> tuple[np.ndarray, float]:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        made = json.loads(self._line("{"))
        return np.array(made["scores"]), made["seconds"]

    def _line(self, start: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise SystemExit("the peer stopped; run its script by hand to see why")


def ours(model: Any, task: dict[str, Any]) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    clean = Inputs(task["clean"])
    source = read(model, clean, [*model.sites("embed"), *model.sites("block")]).values
    tokens = task["clean"].shape[1]
    sites = [Site("embed", 0), *model.sites("block")[:-1]]
    cells = [(State(site, token),) for site in sites for token in range(tokens)]
    engines = Engines(
        model, "replay", Inputs(task["corrupted"]), source, cells,
        lambda z: z.softmax(-1)[:, task["answer"]],
        differing=range(SUBJECT.start, SUBJECT.stop), batch_tokens=8192,
    )  # fmt: skip
    scores = np.empty(len(cells))
    for numbers, made in engines.run():
        scores[numbers] = made.double().mean(1).numpy()
    return scores.reshape(len(sites), tokens), time.perf_counter() - start


def task_of(hf: GPT2LMHeadModel, n: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    clean = torch.randint(0, hf.config.vocab_size, (1, n), generator=draw)
    corrupted = clean.repeat(SAMPLES, 1)
    corrupted[:, SUBJECT] = torch.randint(0, hf.config.vocab_size, (SAMPLES, 3), generator=draw)
    with torch.no_grad():
        answer = int(hf(clean).logits[0, -1].argmax())
    return {"clean": clean, "corrupted": corrupted, "answer": answer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--peer", required=True, help="python of an environment with the peer")
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config()).eval()
    task = task_of(hf, given.tokens)
    with tempfile.TemporaryDirectory() as folder:
        hf.save_pretrained(folder)
        torch.save(task, Path(folder) / "task.pt")
        peer = Peer(given.peer, folder, given.threads)
        model = tl.load(hf, tokenizer=tl.load("hamlet").tokenizer)
        pairs = []
        for _ in range(given.pairs):
            theirs, slow = peer.run()
            made, fast = ours(model, task)
            pairs.append((slow, fast))
        peer.process.kill()
    each = theirs.size * SAMPLES
    row = {
        "tokens": given.tokens, "cells": int(theirs.size), "samples": SAMPLES,
        "peer_s_a_cell_and_sample": statistics.median(s for s, _ in pairs) / each,
        "ours_s_a_cell_and_sample": statistics.median(f for _, f in pairs) / each,
        "ratio": statistics.median(s / f for s, f in pairs), "goal": GOAL,
        "max_difference": float(np.abs(theirs - made).max()),
        "largest_effect": float(np.ptp(theirs)),
    }  # fmt: skip
    if given.json:
        print(json.dumps(row))
        return
    reached = "reached" if row["ratio"] >= GOAL else "MISSED"
    print(
        f"{row['tokens']} tokens, {row['cells']} cells, {SAMPLES} samples: TransformerLens"
        f" {1e3 * row['peer_s_a_cell_and_sample']:.2f} ms a cell and sample, ours"
        f" {1e3 * row['ours_s_a_cell_and_sample']:.2f} ms: {row['ratio']:.1f} times faster (goal"
        f" {GOAL:.0f}: {reached}); same numbers to {row['max_difference']:.1e} (effects up to"
        f" {row['largest_effect']:.1e})"
    )


if __name__ == "__main__":
    main()
