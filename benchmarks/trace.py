"""The replay against the published way: one full forward pass for every state.

    python benchmarks/trace.py [--tokens 12 48 200] [--pairs 3] [--threads 2] [--device cpu]

A random model of GPT-2's size (transformers' default GPT2Config; `--xl`: of GPT-2 XL's), subject at
tokens 2 to 4, 10 noise samples. The plain loop has ROME's batch layout: 1 clean and 10 noised rows
a state, logits of all tokens. Both do the same cells in turn, `--pairs` times; what is printed are
medians, the ratio, the largest difference of the scores, and where the replay's time goes: its
floating-point operations, the speed of this machine's matrix product, the share of it that was
reached, and the floor that the two give. Longer prompts take a sample of the cells.
Goal: at least 10 times faster than the loop (12 tokens, blocks, 2 threads); 50 times for `--xl` on
a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from transformers import GPT2Config, GPT2LMHeadModel

import twinlens as tl
from tests.see import rome
from twinlens.model.anatomy import Site
from twinlens.run.engine import Engines
from twinlens.run.passes import Cell, Inputs, State, read

GOAL, GOAL_XL = 10.0, 50.0
SUBJECT, SAMPLES, SIGMA = (2, 5), 10, 0.06
MOST_CELLS = {12: 10_000, 48: 40, 200: 12}


def build(xl: bool, device: str) -> Any:
    size = {"n_embd": 1600, "n_layer": 48, "n_head": 25} if xl else {}
    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config(**size)).eval().to(device)
    return tl.load(hf, tokenizer=tl.load("hamlet").tokenizer)


def sampled(rows: int, tokens: int) -> list[tuple[int, int]]:
    """(layer, token) of the cells that are timed; layer -1 is the embedding."""
    every = [(layer, token) for layer in range(-1, rows) for token in range(tokens)]
    most = next((n for length, n in MOST_CELLS.items() if tokens <= length), 12)
    picks = np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int)
    if most < len(every):  # a fair sample, not a diagonal of the grid
        picks = np.random.RandomState(0).permutation(len(every))[:most]
    return [every[i] for i in sorted(picks)]


def replayed(
    model: Any, ids: list[int], kind: str, window: int, cells: list[tuple[int, int]], answer: int
) -> tuple[np.ndarray, float]:
    """Scores, and the floating-point operations of blocks and unembedding."""
    mask = torch.zeros(len(ids), dtype=torch.bool)
    mask[SUBJECT[0] : SUBJECT[1]] = True
    draw = np.random.RandomState(1).randn(SAMPLES, SUBJECT[1] - SUBJECT[0], model.d_model)
    noise = torch.from_numpy(draw).to(model.device, model.dtype) * SIGMA
    clean = Inputs(torch.tensor([ids]))
    base = Inputs(torch.tensor([ids]).expand(SAMPLES, -1), noise, mask)
    sites = [*model.sites("embed"), *model.sites(kind)]
    source = read(model, clean, sites).values
    states: list[Cell] = [
        tuple(
            State(Site("embed", 0) if at < 0 else Site(kind, at), token)
            for at in rome._window(layer, window, model.n_layers)
        )
        for layer, token in cells
    ]
    engines = Engines(
        model, "replay", base, source, states, lambda z: z.softmax(-1)[:, answer],
        differing=range(*SUBJECT), batch_tokens=8192,
    )  # fmt: skip
    scores = np.empty(len(cells))
    for numbers, made in engines.run():
        scores[numbers] = made.double().mean(1).cpu().numpy()
    return scores, sum(
        flops(model, cell, len(ids)) for cell in states if not engines.is_known(cell)
    )


def flops(model: Any, cell: Cell, tokens: int) -> float:
    d, start = model.d_model, min(s.site.layer + (s.site.kind == "block") for s in cell)
    rest = tokens - cell[0].token
    block = 24 * d * d + 4 * d * tokens
    return SAMPLES * ((model.n_layers - start) * rest * block + 2 * d * model.n_vocab)


def looped(
    model: Any, ids: list[int], kind: str, window: int, cells: list[tuple[int, int]], answer: int
) -> np.ndarray:
    found = []
    for layer, token in cells:
        states = [(token, at, None) for at in rome._window(layer, window, model.n_layers)]
        found.append(
            rome._patched(model.hf, ids, SUBJECT, SIGMA, answer, kind, states, SAMPLES, -1)
        )
    return np.array(found)


def product_speed(device: str) -> float:
    """Floating-point operations a second of a matrix product of a block's size."""
    a, b = torch.randn(1200, 768, device=device), torch.randn(768, 3072, device=device)
    took = [timed(lambda: a @ b, device)[1] for _ in range(20)]
    return 2 * 1200 * 768 * 3072 / statistics.median(took)


def timed(work: Callable[[], Any], device: str) -> tuple[Any, float]:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    made = work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return made, time.perf_counter() - start


def compare(model: Any, n: int, kind: str, window: int, given: argparse.Namespace) -> dict:
    ids = torch.randint(0, model.n_vocab, (n,), generator=torch.Generator().manual_seed(n)).tolist()
    cells = sampled(model.n_layers, n)
    if kind != "block":
        cells = [(max(layer, 0), token) for layer, token in cells]
    with torch.no_grad():
        answer = int(model.hf(torch.tensor([ids], device=model.device)).logits[0, -1].argmax())
    slow, fast, speed = [], [], product_speed(given.device)
    for _ in range(given.pairs):
        expected, seconds = timed(
            lambda: looped(model, ids, kind, window, cells, answer), given.device
        )
        slow.append(seconds)
        (made, work), seconds = timed(
            lambda: replayed(model, ids, kind, window, cells, answer), given.device
        )
        fast.append(seconds)
    ratio = statistics.median(s / f for s, f in zip(slow, fast, strict=True))
    seconds = statistics.median(fast)
    return {
        "tokens": n, "kind": kind, "window": window, "cells": len(cells), "ratio": ratio,
        "loop_s": statistics.median(slow), "replay_s": seconds,
        "max_difference": float(np.abs(expected - made).max()),
        "largest_effect": float(np.ptp(expected)), "replay_gflop": work / 1e9,
        "product_gflops": speed / 1e9, "share_of_product_speed": work / seconds / speed,
        "floor_s": work / speed, "ratio_at_floor": statistics.median(slow) / (work / speed),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[12, 48, 200])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--xl", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = build(given.xl, given.device)
    goal = GOAL_XL if given.xl else GOAL
    device = torch.cuda.get_device_name() if given.device.startswith("cuda") else "cpu"
    rows = []
    for n in given.tokens:
        for kind, window in (("block", 1), ("mlp", 10)):
            row = compare(model, n, kind, window, given) | {"device": device, "goal": goal}
            rows.append(row)
            if not given.json:
                print(said(row), flush=True)
    if given.json:
        print(json.dumps(rows))


def said(row: dict) -> str:
    first = row["tokens"] == 12 and row["kind"] == "block"
    aim = f" (goal {row['goal']:.0f}: {'reached' if row['ratio'] >= row['goal'] else 'MISSED'})"
    return (
        f"{row['tokens']} tokens, {row['kind']}, window {row['window']}, {row['cells']} cells:"
        f" loop {row['loop_s']:.2f} s, replay {row['replay_s']:.2f} s, {row['ratio']:.1f} times"
        f" faster{aim if first else ''}\n"
        f"      same numbers to {row['max_difference']:.1e} (effects up to"
        f" {row['largest_effect']:.1e}); replay: {row['replay_gflop']:.0f} GFLOP, at"
        f" {row['share_of_product_speed']:.0%} of this machine's matrix product"
        f" ({row['product_gflops']:.0f} GFLOP/s); floor {row['floor_s']:.2f} s, which were"
        f" {row['ratio_at_floor']:.1f} times"
    )


if __name__ == "__main__":
    main()
