"""What a user writes, held to pyright's strict rules against the installed package (.ci/run)."""

from __future__ import annotations

import numpy as np

import twinlens as tl


def looked(prompt: str, subject: str) -> list[tuple[str, float]]:
    """A look at a prompt; every name and field below has a type."""
    model: tl.Model = tl.load("hamlet")
    lens: tl.LensResult = tl.logit_lens(model, prompt)
    trace: tl.TraceResult = tl.causal_trace(
        model, prompt, subject, kind="mlp", corruption=tl.Noise(samples=4)
    )
    units: tl.NeuronResult = tl.neuron_trace(model, prompt, subject, method="atp")
    tl.twin(lens, trace, units).save("twin.html")
    strongest = float(np.max(trace.effects()))
    names: tuple[str, ...] = trace.layers
    return [(names[0], strongest), (lens.tokens.labels[0], float(lens.surprisal[1]))]


def changed(prompt: str) -> float:
    """A change, the gate, and what it says."""
    model = tl.load("hamlet")
    gate = tl.Gate(tl.hamlet.text(), margin=0.01)
    reference: tl.GateReference = gate.of(model)
    with tl.changed(model, tl.Silence(["3.N17", "4.H2"])):
        verdict: tl.Verdict = reference.check(model)
        tl.logit_lens(model, prompt)
    return verdict.increase


def swept(path: str) -> int:
    """A data set, and errors that are caught by their names."""
    try:
        run = tl.sweep_facts(tl.load("hamlet"), path, "runs/x", measure=("trace",))
    except (tl.errors.FactsError, tl.errors.RunFolderError) as error:
        print(error)
        return 0
    return len(run.rejected)
