"""Measure hamlet and write its card: `python -m training.evaluate [--out FILE]`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import twinlens as tl
from training import card, measures
from twinlens.model import hamlet


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=hamlet.FOLDER / "README.md")
    given = parser.parse_args()
    started = time.monotonic()
    model = tl.load("hamlet")
    print(repr(model), flush=True)
    measured = card.Measured(
        cross_entropy=_said("cross-entropy", measures.cross_entropy(model)),
        facts={
            p: _said(f"facts, {p}", measures.facts_right(model, p)) for p in ("seen", "kept_out")
        },
        copying=_said("copying", measures.copying(model)),
        heads=_said("prefix matching", measures.prefix_matching(model)),
        traces={
            k: _said(f"trace, {k}", measures.mean_trace(model, k)) for k in ("block", "mlp", "attn")
        },
        samples=measures.samples(model),
    )
    for what, goal, got, enough in card.goals(measured):
        print(f"{'reached' if enough else 'MISSED '}  {what}: {got} (goal {goal})")
    given.out.write_text(card.write(model, measured), encoding="utf-8")
    print(f"wrote {given.out} after {time.monotonic() - started:.0f} s")


def _said(what: str, value: Any) -> Any:
    print(f"{what}: {value}", flush=True)
    return value


if __name__ == "__main__":
    main()
