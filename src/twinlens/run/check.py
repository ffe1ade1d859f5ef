"""Proof by numbers that an anatomy is right, before anything is measured with it.

Each check runs the model on a few random tokens and compares two ways to the same number. A check
that fails voids the sites it speaks of: a measurement that needs one of them is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from twinlens.errors import AnatomyError
from twinlens.model.anatomy import Site, SiteKind
from twinlens.model.model import Model
from twinlens.run.experts_check import error_of_experts, relative
from twinlens.run.passes import Inputs, State, read, restore

_TOKENS = 8
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}


@dataclass(frozen=True)
class Check:
    """One comparison. `error` is relative to the largest value compared; `voids` names the sites
    that cannot be used where it does not hold (empty: only what the check itself says)."""

    name: str
    passed: bool
    error: float
    tolerance: float
    voids: tuple[SiteKind, ...]
    means: str


@dataclass(frozen=True)
class CheckReport:
    """All checks of one model, in the order they were made."""

    model: str
    family: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def failed(self, needs: Iterable[SiteKind] | None = None) -> list[Check]:
        """The checks that do not hold and void a site in `needs` (None: all that do not hold)."""
        wanted = None if needs is None else set(needs)
        return [
            check
            for check in self.checks
            if not check.passed and (wanted is None or wanted & set(check.voids))
        ]


def check(model: Model, *, seed: int = 0) -> CheckReport:
    """Prove the anatomy of a model by numbers; the report says what holds and what does not.

    The lens' last row equals the model's logits; a later token changes nothing before it; a state
    put back where it was changes nothing, and another value there changes the answer; restoring
    the embeddings undoes a corruption; the sub-blocks add up where the family says so.
    """
    probe = _Probe(model, seed)
    checks = tuple(made for step in _STEPS for made in step(probe))
    return CheckReport(model.name, model.anatomy.family, checks)


def require(model: Model, needs: Iterable[SiteKind]) -> None:
    """Refuse a model whose checks fail for a site that is needed. Checked once a model.

    Raises `AnatomyError` with the failed check's name.
    """
    needs = tuple(needs)
    for kind in needs:
        if not model.anatomy.has(kind):
            raise AnatomyError(
                f"{model.name}: the anatomy of family {model.anatomy.family!r} has no site"
                f" {kind!r}; it has {', '.join(model.site_kinds)}"
            )
    report = checked(model)
    for bad in report.failed((*needs, "block")):
        raise AnatomyError(
            f"{model.name} (family {report.family!r}) is refused: the check {bad.name!r} failed:"
            f" {bad.means} (relative error {bad.error:.2g}, allowed {bad.tolerance:.2g});"
            " `twinlens check` shows all checks"
        )


def tolerance_of(model: Model) -> float:
    """How large a relative difference can be that is only rounding."""
    return _TOLERANCE.get(model.precision, 4e-2)


def checked(model: Model) -> CheckReport:
    """The checks of a model, made once: they are about where its parts are, not about weights."""
    if "check" not in model._memo:
        model._memo["check"] = check(model)
    return model._memo["check"]


class _Probe:
    """Two random prompts and what the model says of them."""

    def __init__(self, model: Model, seed: int) -> None:
        self.model = model
        generator = torch.Generator().manual_seed(seed)
        special = set(model.tokenizer.all_special_ids)
        usable = [i for i in range(min(model.n_embeddings, model.n_vocab)) if i not in special]
        picks = torch.randint(len(usable), (2, _TOKENS), generator=generator)
        self.ids = torch.tensor(usable, device="cpu")[picks].to(model.device)
        kinds: list[SiteKind] = [k for k in model.site_kinds if k != "embed"]
        self.sites = [*model.sites("embed"), *(s for k in kinds for s in model.sites(k))]
        self.inputs = Inputs(self.ids[:1])
        self.clean = read(model, self.inputs, self.sites)
        self.other = read(model, Inputs(self.ids[1:]), self.sites)
        self.tolerance = tolerance_of(model)

    def verdict(
        self, name: str, error: float, means: str, voids: tuple[SiteKind, ...] = ("block", "embed")
    ) -> Check:
        return Check(name, error <= self.tolerance, error, self.tolerance, voids, means)

    def with_states(self, states: list[State], values: dict[Site, Tensor]) -> Tensor:
        """Logits at the last token with these states set to `values`."""
        kept: list[Tensor] = []

        def keep(logits: Tensor) -> Tensor:
            kept.append(logits)
            return logits[:, 0]

        batch = len(states) * _TOKENS
        for _ in restore(
            self.model, self.inputs, values, [tuple(states)], keep, batch_tokens=batch
        ):
            pass
        return kept[0]


def _finite(probe: _Probe) -> Iterator[Check]:
    bad = int((~torch.isfinite(probe.clean.logits)).sum())
    yield probe.verdict(
        "logits are finite", float(bad > 0), f"{bad} logits are infinite or not a number"
    )


def _heads_divide(probe: _Probe) -> Iterator[Check]:
    if probe.model.anatomy.has("head"):
        widths = {v.shape[-1] for s, v in probe.clean.values.items() if s.kind == "head"}
        odd = any(width % probe.model.n_heads for width in widths)
        yield probe.verdict(
            "heads divide their width",
            float(odd),
            f"widths {sorted(widths)} are not all multiples of {probe.model.n_heads} heads",
            ("head",),
        )


def _repeatable(probe: _Probe) -> Iterator[Check]:
    again = read(probe.model, probe.inputs, []).logits
    yield probe.verdict(
        "the same prompt gives the same logits",
        relative(again, probe.clean.logits),
        "two passes over one prompt differ (dropout, or state kept between passes)",
    )


def _last_row(probe: _Probe) -> Iterator[Check]:
    last = Site("block", probe.model.n_layers - 1)
    with torch.no_grad():
        lens = probe.model.unembed(probe.clean.values[last][:, -1])
    yield probe.verdict(
        "the lens' last row is the model's logits",
        relative(lens, probe.clean.logits),
        "final norm, unembedding or logit scaling are not where the anatomy says",
    )


def _causal(probe: _Probe) -> Iterator[Check]:
    ids = probe.ids[:1].clone()
    ids[0, -1] = probe.ids[1, -1] if probe.ids[1, -1] != ids[0, -1] else probe.ids[1, 0]
    last = Site("block", probe.model.n_layers - 1)
    changed = read(probe.model, Inputs(ids), [last]).values[last]
    yield probe.verdict(
        "a later token changes nothing before it",
        relative(changed[:, :-1], probe.clean.values[last][:, :-1]),
        "the model is not causal: earlier states depend on later tokens",
    )


def _put_back(probe: _Probe) -> Iterator[Check]:
    for kind in probe.model.site_kinds:
        states = [State(site, t) for site in probe.model.sites(kind) for t in range(_TOKENS)]
        same = probe.with_states(states, probe.clean.values)
        yield probe.verdict(
            f"{kind}: a state put back changes nothing",
            relative(same, probe.clean.logits),
            f"writing the {kind} states back where they were read changes the answer",
            (kind,),
        )


def _matters(probe: _Probe) -> Iterator[Check]:
    """Another value at a single site changes the answer: no hook sits at a dead place."""
    for kind in probe.model.site_kinds:
        still = []
        for site in probe.model.sites(kind):
            states = [State(site, t) for t in range(_TOKENS)]
            changed = probe.with_states(states, probe.other.values)
            if torch.equal(changed, probe.clean.logits):
                still.append(site.layer)
        yield probe.verdict(
            f"{kind}: another state changes the answer",
            float(bool(still)),
            f"replacing the {kind} states of layers {still} changes nothing",
            (kind,),
        )


def _all_of_other(probe: _Probe) -> Iterator[Check]:
    """All states of one row taken from another prompt give that prompt's answer."""
    if probe.model.anatomy.beside is not None:
        return  # known, and told with every trace
    rows = [Site("embed", 0), *probe.model.sites("block")]
    worst = 0.0
    for site in rows:
        states = [State(site, t) for t in range(_TOKENS)]
        worst = max(
            worst, relative(probe.with_states(states, probe.other.values), probe.other.logits)
        )
    yield probe.verdict(
        "a whole row of states carries the answer",
        worst,
        "restoring every token of a row does not give the answer those states came from:"
        " something else flows between the blocks",
    )


def _adds_up(probe: _Probe) -> Iterator[Check]:
    anatomy = probe.model.anatomy
    if not (anatomy.adds_up and anatomy.has("attn") and anatomy.has("mlp")):
        return
    values, worst = probe.clean.values, 0.0
    before = values[Site("embed", 0)]
    for layer in range(probe.model.n_layers):
        after = values[Site("block", layer)]
        parts = values[Site("attn", layer)].double() + values[Site("mlp", layer)].double()
        added = before.double() + parts.to(before.device) * probe.model.added_times
        worst = max(worst, relative(added, after))
        before = after
    yield probe.verdict(
        "sub-blocks add up",
        worst,
        "block in + attn + mlp is not block out",
        ("attn", "mlp"),
    )


def _experts(probe: _Probe) -> Iterator[Check]:
    worst = error_of_experts(probe.model, probe.inputs)
    if worst is not None:
        yield probe.verdict(
            "neurons of experts make what the experts give",
            worst,
            "the experts' output is not their neurons' values times the down-projections",
            ("neuron",),
        )


_STEPS: tuple[Callable[[_Probe], Iterator[Check]], ...] = (
    _finite,
    _heads_divide,
    _repeatable,
    _last_row,
    _causal,
    _put_back,
    _matters,
    _all_of_other,
    _adds_up,
    _experts,
)
