"""Edit facts of hamlet, each alone on the original model, and fine-tune the same weight on them.

    python benchmarks/edit.py [--facts 20] [--layer 1] [--threads 1] [--json]

Facts that hamlet knows, with the attribute of another subject as the target (they are from
`tl.hamlet.counterfacts`). The covariance is over four fifths of hamlet's validation text, the loss
over the other fifth.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

import twinlens as tl

Make = Callable[[tl.Fact], tl.Edit | tl.Assigned]
OTHER_LAYERS = 8  # facts that are edited in the other layers


def known_facts(model: tl.Model, count: int) -> list[tl.Fact]:
    """Facts whose truth the model says by greedy choice."""
    drawn = [tl.Fact(**record) for record in tl.hamlet.counterfacts(2 * count, seed=2)]
    turned = [tl.Fact(f.prompt, f.subject, target=f.truth or "", truth=f.target) for f in drawn]
    said = tl.score_edits(model, [(fact, []) for fact in turned]).said[:, 0, 0]
    return [fact for fact, says in zip(drawn, said, strict=True) if says][:count]


def methods(model: tl.Model, layer: int, covariance: tl.Covariance) -> dict[str, Make]:
    """Ways to write a fact into one down-projection."""

    def rome(steps: int) -> Make:
        options = tl.EditOptions(steps=steps)
        return lambda fact: tl.edit_fact(
            model, fact.prompt, fact.subject, fact.target,
            layer=layer, covariance=covariance, options=options,
        )  # fmt: skip

    def tuned(lr: float, bound: float | None = None) -> Make:
        return lambda fact: tl.fine_tune(
            model, fact.prompt, fact.subject, fact.target, layer=layer, lr=lr, bound=bound
        )

    return {
        "ROME": rome(20),
        "ROME, 40 steps": rome(40),
        "fine-tuning": tuned(5e-4),
        "fine-tuning, rate 0.005": tuned(5e-3),
        "constrained to 0.0005": tuned(5e-4, 5e-4),
        "constrained to 0.01, rate 0.005": tuned(5e-3, 1e-2),
    }


def row(
    model: tl.Model, name: str, facts: list[tl.Fact], make: Make, text: object = None
) -> dict[str, Any]:
    """Edit each fact alone, score it, and tell."""
    started = time.perf_counter()
    cases = [(fact, make(fact)) for fact in facts]
    return told(name, started, tl.score_edits(model, cases, text=text))


def all_in_a_row(
    model: tl.Model, facts: list[tl.Fact], covariance: tl.Covariance, text: object
) -> dict[str, Any]:
    """Edit one fact after the other, and score all with all edits put in."""
    started = time.perf_counter()
    edits = tl.edit_facts(
        model, facts, layer=covariance.layer, covariance=covariance, progress=False
    )
    scores = tl.score_edits(model, [(fact, edits) for fact in facts], text=text)
    return told(f"ROME, all {len(facts)} in a row", started, scores)


def told(name: str, started: float, scores: tl.EditScores) -> dict[str, Any]:
    """What is kept of a row; it is also said at once, since a row takes a while."""
    seconds = (time.perf_counter() - started) / len(scores.facts)
    print(f"{name}: {seconds:.1f} s a fact", file=sys.stderr, flush=True)
    return {"name": name, "seconds": seconds, **scores.to_dict()}


def share(found: dict[str, Any]) -> str:
    return f"{found['mean']:.0%} ({found['low']:.0%}–{found['high']:.0%})"


def number(found: dict[str, Any], digits: int = 2) -> str:
    ends = (f"{found[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return "{} ({} to {})".format(*ends)


def print_table(rows: list[dict[str, Any]], text: bool) -> None:
    columns = ["", "efficacy", "paraphrase", "neighbourhood", "score", "other facts said"]
    columns += ["text, nats a token"] * text + ["s a fact"]
    print("| " + " | ".join(columns) + " |")
    print("| --- " * len(columns) + "|")
    for one in rows:
        cells = [one["name"]]
        cells += [share(one[m]["after"]["success"]) for m in ("efficacy", "paraphrase")]
        cells += [share(one["neighbourhood"]["after"]["success"]), share(one["score"]["after"])]
        cells += [share(one["others"]["after"]["said"])]
        cells += [number(one["text"]["increase"], 4)] if text else []
        cells += [f"{one['seconds']:.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def print_magnitudes(rows: list[dict[str, Any]]) -> None:
    print(
        "\n| difference of probabilities | efficacy | paraphrase | neighbourhood |\n"
        + "| --- " * 4
        + "|"
    )
    for one in rows:
        cells = [
            number(one[m]["after"]["magnitude"])
            for m in ("efficacy", "paraphrase", "neighbourhood")
        ]
        print("| " + " | ".join([one["name"], *cells]) + " |")


def trace_effects(model: tl.Model, facts: list[tl.Fact]) -> list[float]:
    """The mean effect of restoring each layer's MLP at the subject's last token."""
    found = []
    for fact in facts:
        trace = tl.causal_trace(model, fact.prompt, fact.subject, kind="mlp", progress=False)
        last = int(trace.subject_mask.nonzero()[0][-1])
        found.append(torch.from_numpy(trace.effects()[:, last]))
    return torch.stack(found).mean(0).tolist()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--facts", type=int, default=20)
    asked.add_argument("--layer", type=int, default=1)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--json", action="store_true")
    given = asked.parse_args()
    torch.set_num_threads(given.threads)
    started = time.perf_counter()
    model = tl.load("hamlet")
    documents = tl.hamlet.text()
    text, rest = documents[::5], [d for n, d in enumerate(documents) if n % 5]
    facts = known_facts(model, given.facts)

    def covariance(layer: int) -> tl.Covariance:
        return tl.key_covariance(model, layer, rest, cache=None, progress=False)

    here = covariance(given.layer)
    made = methods(model, given.layer, here)
    rows = [row(model, name, facts, make, text) for name, make in made.items()]
    rows.append(all_in_a_row(model, facts, here, text))
    few, effects = facts[:OTHER_LAYERS], trace_effects(model, facts)
    layers = [
        row(model, f"{layer} ({effects[layer]:+.3f})", few,
            methods(model, layer, covariance(layer))["ROME"])
        for layer in range(model.n_layers - 1)
    ]  # fmt: skip
    if given.json:
        print(json.dumps({"methods": rows, "layers": layers}))
        return
    print(f"{len(facts)} facts, layer {given.layer}; 95% intervals\n")
    print_table(rows, text=True)
    print_magnitudes(rows)
    before = rows[0]
    print(
        f"\nbefore: efficacy {share(before['efficacy']['before']['success'])}, neighbours"
        f" {share(before['neighbourhood']['before']['success'])}, other facts said"
        f" {share(before['others']['before']['said'])}, text {before['text']['loss']['before']:.4f}"
        f" nats a token over {before['text']['tokens']:,} tokens"
    )
    print(f"\nROME by layer, {len(few)} facts; in brackets the trace's mean effect of that MLP\n")
    print_table(layers, text=False)
    used = time.process_time()
    print(
        f"\n{time.perf_counter() - started:.0f} s, {used:.0f} s of CPU, {given.threads} thread(s)"
    )


if __name__ == "__main__":
    main()
