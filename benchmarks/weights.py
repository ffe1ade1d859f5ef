"""Weights at zero: what each rule is worth as a guide to which weights a model can do without.

    python benchmarks/weights.py [--model hamlet] [--documents 30] [--shares 0.1 0.3 0.5] [--json]

Wanda reads one half of the documents; a share of the weights in the blocks is set to zero by each
rule (random: three seeds); printed is the rise of the loss on the other half, in nats a token.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import twinlens as tl
from twinlens.change.losses import measure, passages_of
from twinlens.see.texts import windows

SEEDS = 3


def rows(
    model: tl.Model, first: list[Any], second: list[Any], shares: list[float]
) -> Iterator[dict[str, Any]]:
    passages = passages_of(windows(model, second, 128))

    def loss(*changes: Any) -> float:
        with tl.changed(model, *changes):
            found = measure(model, passages, np.array([], dtype=np.int64), 2048)
        return float(found.nats.sum() / passages.n_positions)

    base = loss()
    print(f"loss of the other half before: {base:.4f}", file=sys.stderr)
    for share in shares:
        sets = {
            "wanda": [tl.zero_weights(model, share, text=first, progress=False)],
            "magnitude": [tl.zero_weights(model, share, by="magnitude")],
            "random": [tl.zero_weights(model, share, by="random", seed=s) for s in range(SEEDS)],
        }
        for by, changes in sets.items():
            rises = [loss(change) - base for change in changes]
            yield {"share": share, "by": by, "rise": float(np.mean(rises))}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="hamlet")
    parser.add_argument("--documents", type=int, default=30, help="in each half")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3, 0.5])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    model, documents = tl.load(asked.model), tl.hamlet.text("validation")
    first, second = (documents[start::2][: asked.documents] for start in (0, 1))
    for row in rows(model, first, second, asked.shares):
        told = f"{row['share']:.0%} {row['by']:10} {row['rise']:+.4f}"
        print(json.dumps(row) if asked.json else told, flush=True)


if __name__ == "__main__":
    main()
