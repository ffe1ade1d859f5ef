"""Use scores: does silencing what a text uses least cost least on other text?

    python benchmarks/use.py [--model hamlet] [--documents 60] [--shares 0.1 0.3] [--json]

The scores are of one half of hamlet's validation documents, the loss of the other half. Printed is
the rise of the loss in nats a token when the lowest neurons of each score are set to zero, or to
their mean on the first half; `random` is the mean of three draws, the highest by `use` the worst.
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

SCORES = ("use", "mean_use", "effect", "wanda", "magnitude")


def choices(result: tl.UseResult, share: float) -> Iterator[tuple[str, list[list[str]]]]:
    """By name: sets of so many neurons that are to be silenced."""
    ranked = {score: [name for name, _ in result.ranked(score)] for score in SCORES}
    count = round(share * len(ranked["use"]))
    for score, names in ranked.items():
        yield f"lowest by {score}", [names[:count]]
    drawn = (np.random.default_rng(seed).permutation(ranked["use"]) for seed in range(3))
    yield "random", [order[:count].tolist() for order in drawn]
    yield "highest by use", [ranked["use"][-count:]]


def rows(
    model: tl.Model, first: list[Any], second: list[Any], shares: list[float]
) -> Iterator[dict[str, Any]]:
    """A row a share and choice: the rise of the loss on the second half."""

    def loss(*changes: tl.Silence) -> float:
        with tl.changed(model, *changes):
            return tl.use_map(model, second, progress=False).loss

    result, base = tl.use_map(model, first, progress=False), loss()
    print(f"{result.n_tokens:,} tokens scored; loss on the others {base:.4f}", file=sys.stderr)
    for share in shares:
        for name, sets in choices(result, share):
            zero = [loss(tl.Silence(parts)) - base for parts in sets]
            means = [tl.silence(model, parts, to="mean", text=first) for parts in sets]
            mean = [loss(change) - base for change in means]
            yield {
                "share": share,
                "silenced": name,
                "zero": float(np.mean(zero)),
                "mean": float(np.mean(mean)),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="hamlet")
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    model, documents = tl.load(asked.model), tl.hamlet.text("validation")
    first, second = documents[::2][: asked.documents], documents[1::2][: asked.documents]
    for row in rows(model, first, second, asked.shares):
        if asked.json:
            print(json.dumps(row), flush=True)
        else:
            told = f"{row['share']:.0%} {row['silenced']:20}"
            print(f"{told} zero {row['zero']:+.4f}  mean {row['mean']:+.4f}", flush=True)


if __name__ == "__main__":
    main()
