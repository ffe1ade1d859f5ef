"""What a sweep measures of every fact, in plain values that its folder keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from twinlens.errors import InputError
from twinlens.run.engine import Engine
from twinlens.see.corruption import Corruption, Noise, Replace
from twinlens.see.question import Direction, Metric, one_of, whole
from twinlens.sweep.facts import Fact

Measure = Literal["trace", "neurons", "lens"]
SweptKind = Literal["block", "mlp", "attn"]
SweptMethod = Literal["atp", "ig", "relp", "exact"]
SweptCorruption = Literal["noise", "counterfactual"]


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """What is asked of every fact.

    A `noise` without a sigma has `times_std` standard deviations of the embeddings of the data
    set's subjects (ROME). `window` is that of `mlp` and `attn`; a block stands alone. `method` is
    fixed, since `auto` looks at a clock and results must not depend on one. `batch_tokens=None`:
    the defaults of `causal_trace` and `neuron_trace`. `threads=None`: as many as torch has when the
    run begins.
    """

    measure: tuple[Measure, ...] = ("trace", "neurons", "lens")
    kinds: tuple[SweptKind, ...] = ("block", "mlp", "attn")
    window: int = 1
    metric: Metric = "probability"
    direction: Direction = "denoise"
    corruption: SweptCorruption = "noise"
    noise: Noise = field(default_factory=Noise)
    engine: Engine = "auto"
    batch_tokens: int | None = None
    method: SweptMethod = "atp"
    restored: int = 30
    top_neurons: int = 30
    unknown: bool = False
    share: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (("measure", Measure), ("kinds", SweptKind)):
            given: tuple[str, ...] = getattr(self, name)
            if not isinstance(given, tuple) or not given:
                raise InputError(f"{name}={given!r} must name at least one")
            for one in given:
                one_of(name, one, get_args(choices))
        for name, choices in (
            ("metric", Metric), ("direction", Direction), ("engine", Engine),
            ("method", SweptMethod), ("corruption", SweptCorruption),
        ):  # fmt: skip
            one_of(name, getattr(self, name), get_args(choices))
        if self.share and self.corruption == "noise" and self.noise.replace:
            raise InputError("share needs noise that is added, not put in the embeddings' place")
        if self.metric == "logit_difference":
            raise InputError("metric='logit_difference' needs a foil, which facts do not have")
        for name, least, optional in (
            ("window", 1, False), ("restored", 0, False), ("top_neurons", 1, False),
            ("batch_tokens", 1, True), ("threads", 1, True),
        ):  # fmt: skip
            value: object = getattr(self, name)
            if value is not None or not optional:
                whole(name, value, least)

    @property
    def traced(self) -> tuple[SweptKind, ...]:
        """The kinds of trace that are made."""
        return self.kinds if "trace" in self.measure else ()

    def corruption_of(self, fact: Fact, sigma: float | None) -> Corruption:
        """How a fact is corrupted; `sigma` is what the run resolved."""
        if self.corruption == "counterfactual":
            return Replace(prompt=fact.counterfactual or "")
        return replace(self.noise, sigma=sigma)

    @property
    def needs_sigma(self) -> bool:
        """Whether sigma must be taken from the data set's subjects."""
        scaled = self.noise.rule in ("gaussian", "uniform")
        return self.corruption == "noise" and self.noise.sigma is None and scaled

    def plain(self) -> dict[str, Any]:
        """As JSON has it; the noise's fields stand among the others."""
        values = asdict(self)
        values |= values.pop("noise")
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
