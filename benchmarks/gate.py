"""How often the gate passes a model that it should not, and how often one that it should.

    python benchmarks/gate.py [--sets 2000] [--quick] [--json]

Simulated documents: lengths are lognormal (95 % of them within a factor of 3.2 of the median), and
the increase in nats a token of a document is the true one plus noise of a shape, with a standard
deviation of 0.02 in the table of power (the other table does not depend on it). Three tables: false
passes where the true increase is the margin itself, false passes in a series of looks, and power.
The bounds are the library's own.
"""

from __future__ import annotations

import argparse
import json
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sets", type=int, default=4000)
    parser.add_argument("--quick", action="store_true", help="fewer sets and sizes: a minute")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sets = 500 if given.quick else given.sets
    sizes = [80, 100, 160] if given.quick else [20, 40, 80, 100, 160, 320]
    powers = [100, 200] if given.quick else [100, 200, 400, 800]
    least = least_documents(ALPHA)
    false = {name: [share(draw, sets, n, MARGIN, ALPHA) for n in sizes]
             for name, draw in SHAPES.items()}  # fmt: skip
    failed = {name: failures(draw, sets // 4, 160, ALPHA) for name, draw in SHAPES.items()}
    series = {name: [any_pass(draw, sets // 4, n, 10) for n in (100, 200)]
              for name, draw in SHAPES.items()}  # fmt: skip
    power = {
        f"{name}, increase {increase}": [
            share(SHAPES[name], sets // 4, n, increase, level_of(1, ALPHA)) for n in powers
        ]
        for name in ("normal", "exponential damage", "5 % of documents damaged")
        for increase in (0.0, 0.002, 0.005)
    }
    if given.json:
        told = {"sets": sets, "sizes": sizes, "false_passes": false, "failures_160": failed}
        print(json.dumps(told | {"series": series, "powers": powers, "power": power}))
        return
    error = 100 * math.sqrt(0.05 * 0.95 / sets)
    table(
        f"False passes at the margin, alpha {ALPHA}, {sets} sets (standard error {error:.1f} at 5"
        f" %). In brackets: fewer than {least} documents, where the gate says nothing and the"
        " bound alone would have passed so many. Last: false failures.",
        [f"{n} documents" for n in sizes] + ["failures, 160"],
        {
            name: [f"{100 * x:.1f} %" if n >= least else f"({100 * x:.1f} %)"
                   for n, x in zip(sizes, row, strict=True)] + [f"{100 * failed[name]:.1f} %"]
            for name, row in false.items()
        },
    )  # fmt: skip
    table(
        f"A false pass in any of 10 looks at changes that all sit at the margin, {sets // 4} sets",
        ["100 documents", "200 documents"],
        {name: [f"{100 * x:.1f} %" for x in row] for name, row in series.items()},
    )
    table(
        f"Power of the first look, margin {MARGIN}, {DEVIATION} nats a token between documents,"
        f" {sets // 4} sets",
        [f"{n} documents" for n in powers],
        {name: [f"{100 * x:.0f} %" for x in row] for name, row in power.items()},
    )


if __name__ == "__main__":
    main()
