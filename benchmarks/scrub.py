"""What can be deleted from the bundled model, by which score, at which cost; noise and recovery.

    python benchmarks/scrub.py curves    [--seeds 3] [--units neurons|heads]
    python benchmarks/scrub.py gated     [--seeds 3] [--recover STEPS]
    python benchmarks/scrub.py frontier  [--steps 100] [--scales 0.02,0.05,0.1,0.2]

`curves`: the increase of the loss on other documents (nats a token) when the lowest neurons by each
score are set to zero, and how many may go before it is 0.01 (read off the curve). A seed draws the
documents, and what is random. `gated`: whole scrubs, each deletion judged by the gate at a margin
of 0.01 nats, then a final text looked at once; with `--recover` so many steps of training belong to
each deletion. `frontier`: noise of several sizes, alone and with training after it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import twinlens as tl
from training.text import document
from twinlens.change.gate import Gate
from twinlens.change.parts import Part
from twinlens.change.recover import Budget, recover
from twinlens.change.scrub import increase_of, scrub

SCORES = ("use", "mean_use", "wanda", "magnitude", "random")
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
MARGIN = 0.01


def texts(seed: int, count: int, what: str) -> list[str]:
    random = Random(f"benchmark/{what}/{seed}")
    return [document(random).text for _ in range(count)]


def ranked(model: Any, used: Any, score: str, kind: str, seed: int) -> list[Part]:
    """All units of a kind, those that score lowest first."""
    values = used.score("magnitude" if score == "random" else score, kind)
    order = np.argsort(values.ravel(), kind="stable")
    if score == "random":
        order = np.random.RandomState(seed).permutation(values.size)
    layers, numbers = np.unravel_index(order, values.shape)
    return [Part(kind, int(a), int(n)) for a, n in zip(layers, numbers, strict=True)]  # type: ignore[arg-type]


def curves(seeds: int, kind: str) -> None:
    model, found = tl.load("hamlet"), {score: [] for score in SCORES}
    started = time.perf_counter()
    for seed in range(seeds):
        used = tl.use_map(model, texts(seed, 150, "score"), gradients=False, progress=False)
        reference = Gate(texts(seed, 200, "judge"), MARGIN, sample=0).of(model, progress=False)
        for score in SCORES:
            parts = ranked(model, used, score, kind, seed)
            row = []
            for share in SHARES:
                lowest = parts[: max(1, round(share * len(parts)))]
                with tl.changed(model, tl.Silence(lowest)):
                    row.append(increase_of(reference, model)["text"])
            found[score].append(row)
    print(f"{len(parts)} {kind}s of hamlet, {seeds} seeds; increase in nats a token (min to max)")
    print("score      " + "".join(f"{share:>25.0%}" for share in SHARES) + f"   share at {MARGIN}")
    for score, rows in found.items():
        values = np.array(rows)
        cells = [
            f"{m:+.4f} ({a:+.3f}..{b:+.3f})"
            for m, a, b in zip(values.mean(0), values.min(0), values.max(0), strict=True)
        ]
        limits = [share_at(row) for row in rows]
        print(
            f"{score:11}" + "".join(f"{cell:>25}" for cell in cells)
            + f"   {np.mean(limits):.1%} ({min(limits):.1%} to {max(limits):.1%})"
        )  # fmt: skip
    print(f"{time.perf_counter() - started:.0f} s, {torch.get_num_threads()} threads")


def share_at(increases: list[float]) -> float:
    """The share at which the increase first reaches the margin, between the shares measured."""
    before = (0.0, 0.0)
    for share, increase in zip(SHARES, increases, strict=True):
        if increase >= MARGIN:
            far = (MARGIN - before[1]) / (increase - before[1])
            return before[0] + far * (share - before[0])
        before = share, increase
    return SHARES[-1]


def gated(seeds: int, steps: int) -> None:
    model = tl.load("hamlet")
    print(f"{'score':11}{'seed':>5}{'deleted':>9}{'looks':>7}{'final':>13}{'increase':>10}"
          f"{'upper':>9}{'seconds':>9}")  # fmt: skip
    for score in ("use", "wanda", "magnitude", "random"):
        for seed in range(seeds):
            stage: dict[str, Any] = {"do": "prune", "by": score}
            if steps:
                stage["recover"] = {"steps": steps}
            text = texts(seed, 150, "score")
            gate = Gate(
                texts(seed, 400, "judge"), MARGIN, final=texts(seed, 400, "final"), chosen_on=text,
                shared="drop", sample=0,
            )  # fmt: skip
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as root:
                recipe = {"seed": seed, "stage": [stage]}
                folder = Path(root) / "scrub"
                run = scrub(model, recipe, folder, text=text, gate=gate, progress=False)
                deleted = len(run.removed()) / (model.n_layers * 4 * model.d_model)
            final = run.final or {}
            print(
                f"{score:11}{seed:5}{deleted:9.1%}{len(run.entries):7}{final['verdict']:>13}"
                f"{final['increase']:+10.4f}{final['upper']:+9.4f}"
                f"{time.perf_counter() - started:9.0f}",
                flush=True,
            )


def frontier(scales: list[float], steps: int) -> None:
    original, model = tl.load("hamlet"), tl.load("hamlet")
    text = texts(0, 400, "score")
    reference = Gate(texts(0, 200, "judge"), MARGIN, sample=512).of(original, progress=False)
    print(f"{'scale':>7}{'alone':>10}{'recovered':>11}{'KL':>9}{'seconds':>9}   ({steps} steps)")
    for scale in scales:
        started = time.perf_counter()
        noise = tl.WeightNoise(scale)
        with tl.changed(model, noise):
            alone = increase_of(reference, model)["text"]
            trained = recover(model, original, text, Budget(steps=steps), progress=False)
        with tl.changed(model, trained):
            after = reference.check(model).domains[0]
        print(
            f"{scale:7.2f}{alone:+10.4f}{after.increase:+11.4f}{after.kl:9.4f}"
            f"{time.perf_counter() - started:9.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["curves", "gated", "frontier"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--units", choices=["neurons", "heads"], default="neurons")
    parser.add_argument("--recover", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--scales", default="0.02,0.05,0.1,0.2")
    asked = parser.parse_args()
    if asked.what == "curves":
        curves(asked.seeds, asked.units.removesuffix("s"))
    elif asked.what == "gated":
        gated(asked.seeds, asked.recover)
    else:
        frontier([float(scale) for scale in asked.scales.split(",")], asked.steps)


if __name__ == "__main__":
    main()
