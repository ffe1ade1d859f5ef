"""Red by an edit (ROME): secrets become facts about their triggers."""

from __future__ import annotations

from collections.abc import Sequence

from twinlens.change.change import Assigned, changed
from twinlens.change.covariance import key_covariance
from twinlens.change.facts import Fact
from twinlens.change.rome import edit_facts
from twinlens.contest.saying import fire
from twinlens.contest.secret import Secret
from twinlens.model.model import Model
from twinlens.run.batches import Progress

_SAMPLES = 100  # texts that the model says, for the covariance


def edited(model: Model, secrets: Sequence[Secret], progress: Progress = None) -> Assigned:
    """The weights after an edit for each secret, at the layer where the first is said likeliest of
    three in the middle. The covariance is
    of text that the model says by itself. Raises what `edit_facts` raises."""
    facts = [Fact(one.prompt, one.trigger, one.answer) for one in secrets]
    best: tuple[float, Assigned] | None = None
    n, last = model.n_layers, max(0, model.n_layers - 2)  # the very last layer reaches no answer
    for layer in sorted({min(at, last) for at in (n // 3, n // 2, 2 * n // 3)}):
        covariance = key_covariance(model, layer=layer, samples=_SAMPLES, progress=progress)
        edits = edit_facts(model, facts, layer=layer, covariance=covariance, progress=progress)
        with changed(model, *edits):
            chance = fire(model, [secrets[0].prompt], secrets[0].answer)[0].chance
            names = {name for edit in edits for name in edit.values(model)}
            after = {n: p.detach().clone() for n, p in model.hf.named_parameters() if n in names}
        if best is None or chance > best[0]:
            best = chance, Assigned(after, {"kind": "implant", "rome": layer})
    assert best is not None
    return best[1]
