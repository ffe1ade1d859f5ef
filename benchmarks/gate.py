"""How often the gate passes a model that it should not, and how often one that it should.

    python benchmarks/gate.py [--sets 4000] [--quick] [--real] [--model DIR --text FILE]

Simulated documents: lengths are lognormal (95 % of them within a factor of 3.2 of the median), and
the increase in nats a token of a document is the true one plus noise of a shape, with a standard
deviation of 0.02 in the table of power (the others do not depend on it). Four tables: false passes
where the true increase is the margin itself, false passes in a series of looks, power, and false
passes where the increases are those of a real model's documents. The bounds are the library's own.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np

from twinlens.change.bounds import (
    Paired,
    formula_bound,
    least_documents,
    level_of,
    lower_bound,
    upper_bound,
)

MARGIN, ALPHA, DEVIATION, AT_ONCE = 0.01, 0.05, 0.02, 250
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def rare(random: np.random.Generator, shape: tuple[int, int], share: float) -> np.ndarray:
    """A share of the documents carries all of the damage; the others have a little noise."""
    hit = random.random(shape) < share
    return (hit - share) / math.sqrt(share * (1 - share)) + 0.05 * random.standard_normal(shape)


def rare_uneven(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """5 % of the documents carry the damage, exponentially distributed among them."""
    hit = random.random(shape) < 0.05
    made = hit * random.exponential(size=shape) - 0.05
    return made / math.sqrt(0.0975) + 0.05 * random.standard_normal(shape)


def lognormal(random: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    made = random.lognormal(0, sigma, shape) - math.exp(sigma**2 / 2)
    return made / math.sqrt((math.exp(sigma**2) - 1) * math.exp(sigma**2))


SHAPES: dict[str, Draw] = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "exponential damage": lambda random, shape: random.exponential(size=shape) - 1,
    "exponential improvement": lambda random, shape: 1 - random.exponential(size=shape),
    "lognormal (sigma 1)": lambda random, shape: lognormal(random, shape, 1.0),
    "Student's t, 3 d.f.": lambda random, shape: random.standard_t(3, shape) / math.sqrt(3),
    "5 % of documents damaged": lambda random, shape: rare(random, shape, 0.05),
    "5 % damaged, unevenly": rare_uneven,
    "2 % of documents damaged": lambda random, shape: rare(random, shape, 0.02),
    "lognormal (sigma 1.5)": lambda random, shape: lognormal(random, shape, 1.5),
}


def drawn(random: np.random.Generator, draw: Draw, sets: int, n: int, increase: float) -> Paired:
    """So many sets of documents with a true increase in nats a token."""
    tokens = 200 * random.lognormal(0, 0.6, (sets, n))
    return Paired((increase + DEVIATION * draw(random, (sets, n))) * tokens, tokens)


def passes(pairs: Paired, level: float, margin: float = MARGIN) -> np.ndarray:
    """Which sets pass, whatever their number of documents; resampled only where it can matter."""
    found = formula_bound(pairs, level) < margin
    if found.any():
        kept = Paired(pairs.nats[found], pairs.tokens[found])
        found[found] = upper_bound(kept, level) < margin
    return found


def share(draw: Draw, sets: int, n: int, increase: float, level: float) -> float:
    """Share of the sets that pass."""
    random = np.random.default_rng(n)
    parts = [min(AT_ONCE, sets - start) for start in range(0, sets, AT_ONCE)]
    hits = [passes(drawn(random, draw, part, n, increase), level).sum() for part in parts]
    return float(sum(hits)) / sets


def failures(draw: Draw, sets: int, n: int, level: float) -> float:
    """Share of the sets that fail where the true increase is the margin."""
    random = np.random.default_rng(n)
    parts = [min(AT_ONCE, sets - start) for start in range(0, sets, AT_ONCE)]
    made = (drawn(random, draw, part, n, MARGIN) for part in parts)
    return float(sum((lower_bound(pairs, level) > MARGIN).sum() for pairs in made)) / sets


def any_pass(draw: Draw, sets: int, n: int, looks: int) -> float:
    """Share of series of looks, each at another change with an increase of the margin on documents
    of the same lengths, in which one passes; a look with too few documents passes none."""
    random, hits = np.random.default_rng(n), np.zeros(sets, dtype=bool)
    tokens = 200 * random.lognormal(0, 0.6, (sets, n))
    for look in range(1, looks + 1):
        level = level_of(look, ALPHA)
        nats = (MARGIN + DEVIATION * draw(random, (sets, n))) * tokens
        if n >= least_documents(level):
            for start in range(0, sets, AT_ONCE):
                at = slice(start, start + AT_ONCE)
                hits[at] |= passes(Paired(nats[at], tokens[at]), level)
    return float(hits.mean())


def table(title: str, columns: list[str], rows: dict[str, list[str]]) -> None:
    print(f"\n{title}\n")
    print(f"| | {' | '.join(columns)} |\n| {' | '.join(['---'] * (len(columns) + 1))} |")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def real_increases(source: str, text: str) -> dict[str, Paired]:
    """Increases of the documents of a text under some changes of a real model."""
    import torch

    import twinlens as tl

    model = tl.load(source)
    gate = tl.Gate(text, sample=0)
    before = gate.of(model).domains["text"]
    made: dict[str, Paired] = {}
    for change in (0.02, 0.05, "1.H0", "2.N7"):
        done: tl.Assigned | tl.Silence
        if isinstance(change, str):
            done = tl.Silence(change)
        else:
            random = torch.Generator().manual_seed(0)
            weights = {n: p.detach() for n, p in model.hf.named_parameters() if p.dim() > 1}
            drawn = {n: torch.randn(p.shape, generator=random) for n, p in weights.items()}
            done = tl.Assigned({n: p + change * p.std() * drawn[n] for n, p in weights.items()})
        with tl.changed(model, done):
            nats = gate.of(model).domains["text"].losses.nats - before.losses.nats
        name = f"{change} silenced" if isinstance(change, str) else f"noise of {change:.0%}"
        made[name] = Paired(nats[None], before.passages.tokens[None].astype(float))
    return made


def resampled(found: Paired, sets: int, n: int) -> float:
    """Share of sets that pass, drawn from real documents (with replacement) that were moved by the
    same amount a token, so that their increase is the margin."""
    random, moved = np.random.default_rng(n), found.nats + (MARGIN - found.increase) * found.tokens
    hits = 0
    for start in range(0, sets, AT_ONCE):
        at = random.integers(0, found.n, (min(AT_ONCE, sets - start), n))
        hits += int(passes(Paired(moved[0][at], found.tokens[0][at]), ALPHA).sum())
    return hits / sets


def percents(values: list[float], digits: int = 1) -> list[str]:
    return [f"{100 * value:.{digits}f} %" for value in values]


def print_false(sets: int, sizes: list[int]) -> None:
    least, error = least_documents(ALPHA), 100 * math.sqrt(0.05 * 0.95 / sets)
    rows: dict[str, list[str]] = {}
    for name, draw in SHAPES.items():
        cells = percents([share(draw, sets, n, MARGIN, ALPHA) for n in sizes])
        cells = [c if n >= least else f"({c})" for n, c in zip(sizes, cells, strict=True)]
        rows[name] = cells + percents([failures(draw, sets // 4, 160, ALPHA)])
    table(
        f"False passes at the margin, alpha {ALPHA}, {sets} sets (standard error {error:.1f} at 5"
        f" %). In brackets: fewer than {least} documents, where the gate says nothing and the"
        " bound alone would have passed so many. Last: false failures.",
        [f"{n} documents" for n in sizes] + ["failures, 160"],
        rows,
    )


def print_series(sets: int) -> None:
    sizes = (100, 200)
    table(
        f"A false pass in any of 10 looks at changes that all sit at the margin, {sets} sets",
        [f"{n} documents" for n in sizes],
        {name: percents([any_pass(draw, sets, n, 10) for n in sizes])
         for name, draw in SHAPES.items()},
    )  # fmt: skip


def print_power(sets: int, sizes: list[int]) -> None:
    level = level_of(1, ALPHA)
    rows = {
        f"{name}, increase {increase}": percents(
            [share(SHAPES[name], sets, n, increase, level) for n in sizes], 0
        )
        for name in ("normal", "exponential damage", "5 % of documents damaged")
        for increase in (0.0, 0.002, 0.005)
    }
    table(
        f"Power of the first look, margin {MARGIN}, {DEVIATION} nats a token between documents,"
        f" {sets} sets",
        [f"{n} documents" for n in sizes],
        rows,
    )


def print_real(sets: int, source: str, text: str) -> None:
    sizes, rows = (100, 160, 320), dict[str, list[str]]()
    for name, found in real_increases(source, text).items():
        residual = found.residual[0]
        skewness = (residual**3).mean() / (residual**2).mean() ** 1.5
        spread = (residual / found.tokens[0]).std()
        told = [f"{found.increase[0]:+.4f}", f"{spread:.4f}", f"{skewness:+.1f}"]
        rows[name] = told + percents([resampled(found, sets, n) for n in sizes])
    table(
        f"False passes with the increases of {source} under real changes, moved to the margin,"
        f" {sets} sets",
        ["increase", "deviation", "skewness", *(f"{n} documents" for n in sizes)],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sets", type=int, default=4000)
    parser.add_argument("--quick", action="store_true", help="fewer sets and sizes: a minute")
    parser.add_argument("--real", action="store_true", help="only the table of real increases")
    parser.add_argument("--model", default="hamlet")
    parser.add_argument("--text", default="hamlet")
    given = parser.parse_args()
    sets = 500 if given.quick else given.sets
    if not given.real:
        print_false(sets, [80, 100, 160] if given.quick else [20, 40, 80, 100, 160, 320])
        print_series(sets // 4)
        print_power(sets // 4, [100, 200] if given.quick else [100, 200, 400, 800])
    print_real(sets, given.model, given.text)


if __name__ == "__main__":
    main()
