"""How well estimates of neurons' effects agree with exact ones, and what each costs.

    python benchmarks/neurons.py [--model DIR_OR_NAME ...] [--samples 10] [--threads 2] [--json]

For prompts of each model, by noise and by replacement: every neuron restored alone, against the
gradient at the corrupted run (atp), relevance patching (relp), integrated gradients (ig), and the
default's second stage (the best estimate, its 110 strongest restored exactly). Printed are Pearson
and Spearman with exact, how many of the true top 100 are among the estimate's first 100 and 200,
and the cost in forward passes of the noised batch (a backward pass counts as two; a replayed neuron
by the blocks and tokens that were run).
Goal: the default finds at least 95 of the true top 100 at a cost of at most 40 forward passes.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import twinlens as tl
from twinlens.run.hooks import mlp_module
from twinlens.see.estimates import passes_of
from twinlens.see.measuring import BEST_ESTIMATE

GOAL_FOUND, GOAL_PASSES = 95, 40
RESTORED = 110  # the default
SHARED = Path(__file__).parents[2] / "shared"
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play with her ball in the"
    " park. One day, Lily"
)


def questions(name: str, model: Any, samples: int) -> list[tuple[str, Any, Any]]:
    """(prompt, subject, corruption) of a model."""
    noise = tl.Noise(samples=samples)
    if name != "hamlet":
        return [(STORY, "Lily", noise), (STORY, "Lily", tl.Replace(subjects=["Tim"]))]
    asked: list[tuple[str, Any, Any]] = []
    facts = tl.hamlet.facts()
    for record in facts[:: len(facts) // 40]:
        prompt, subject = record["prompt"], record["subject"]
        trace = tl.causal_trace(model, prompt, subject, corruption=noise, progress=False)
        if trace.clean > 0.5 and trace.total_effect > 0.3:
            asked.append((prompt, subject, noise))
        if len(asked) == 3:
            break
    return asked


def rows_of(name: str, model: Any, samples: int) -> list[dict]:
    found = []
    for prompt, subject, corruption in questions(name, model, samples):
        ask = {"corruption": corruption, "progress": False}
        start = time.perf_counter()
        exact = tl.neuron_trace(model, prompt, subject, method="exact", **ask)
        seconds = time.perf_counter() - start
        about = {
            "model": name, "prompt": prompt[-40:], "tokens": len(exact.tokens),
            "corruption": type(corruption).__name__, "neurons": int(exact.scores.size),
            "exact_s": seconds, "clean": exact.clean, "corrupted": exact.corrupted,
        }  # fmt: skip
        for method, restored in (("atp", 0), ("relp", 0), ("ig", 0), (BEST_ESTIMATE, RESTORED)):
            made = tl.neuron_trace(model, prompt, subject, method=method, restored=restored, **ask)
            row = about | _agreement(made.effects(), exact.effects())
            passes = passes_of(method) + _replay_passes(model, made, restored)
            row |= {"method": f"{method} + {restored} exact" if restored else method}
            found.append(row | {"passes": passes})
    return found


def _agreement(estimated: np.ndarray, exact: np.ndarray) -> dict:
    a, b = estimated.ravel(), exact.ravel()
    order = np.argsort(-a, kind="stable")
    top = set(np.argsort(-b, kind="stable")[:100].tolist())
    ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
    return {
        "pearson": float(np.corrcoef(a, b)[0, 1]),
        "spearman": float(np.corrcoef(ranks[0], ranks[1])[0, 1]),
        "top 100 in first 100": len(top & set(order[:100].tolist())),
        "top 100 in first 200": len(top & set(order[:200].tolist())),
    }


def _replay_passes(model: Any, made: Any, restored: int) -> float:
    """Blocks times tokens that the restored neurons needed, in forward passes.

    The last block's MLP runs at the focus alone; its part of a block is that of its weights.
    """
    if not restored:
        return 0.0
    n_layers, n_tokens = len(made.layers), made.focus + 1
    first = int(np.flatnonzero(made.subject_mask)[0])
    layers, tokens, _ = np.nonzero(made.exact_mask[:, first:n_tokens])
    rest, blocks = n_tokens - first - tokens, n_layers - layers - 1
    mlp = mlp_module(model, n_layers - 1)
    parts = (mlp, model.blocks[-1])
    weights = [sum(p.numel() for p in part.parameters()) for part in parts]
    saved = np.where(blocks > 0, weights[0] / weights[1] * (rest - 1), 0.0)
    return float((blocks * rest - saved).sum()) / (n_layers * n_tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--model", nargs="+", default=[str(SHARED / "models/stories260k"), "hamlet"]
    )
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    rows = [r for m in given.model for r in rows_of(Path(m).name, tl.load(m), given.samples)]
    if given.json:
        print(json.dumps(rows))
        return
    last = None
    for row in rows:
        if (head := (row["model"], row["prompt"], row["corruption"])) != last:
            print(
                f"\n{row['model']}, {row['corruption']}, {row['tokens']} tokens, {row['prompt']!r}:"
                f" clean {row['clean']:.3f}, corrupted {row['corrupted']:.3f}; exact for"
                f" {row['neurons']:,} neurons {row['exact_s']:.1f} s"
            )
            last = head
        goal = ""
        if "exact" in row["method"]:
            good = row["top 100 in first 100"] >= GOAL_FOUND and row["passes"] <= GOAL_PASSES
            goal = f"  goal {GOAL_FOUND} at {GOAL_PASSES}: {'reached' if good else 'MISSED'}"
        print(
            f"  {row['method']:16s} Pearson {row['pearson']:+.3f}  Spearman {row['spearman']:+.3f}"
            f"  of the true top 100: {row['top 100 in first 100']:3d} in its first 100,"
            f" {row['top 100 in first 200']:3d} in 200  cost {row['passes']:5.1f} passes{goal}"
        )


if __name__ == "__main__":
    main()
