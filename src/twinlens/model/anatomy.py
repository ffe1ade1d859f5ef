"""Where the parts of a decoder are, as data: dotted paths, one row a family.

`Anatomy` is a row of that table. It knows paths and nothing of torch; `twinlens.model.model.Model`
resolves the paths, `twinlens.run.check` proves them by numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

SiteKind = Literal["embed", "block", "attn", "mlp", "head", "neuron"]
SITE_KINDS: tuple[SiteKind, ...] = get_args(SiteKind)


class Site(NamedTuple):
    """A place whose value can be read or replaced: a kind and the index of its block.

    `embed` is the residual stream before block 0 (its layer is 0).
    """

    kind: SiteKind
    layer: int


@dataclass(frozen=True)
class Anatomy:
    """Paths of the parts of one family of decoders.

    The first four are relative to the causal LM; those of sub-blocks, heads, neurons and experts to
    one block. A path that does not exist in a given model (or is None there) is left out, so one
    row serves variants.
    """

    family: str
    embed: str  # token embedding; noise is added to its output
    blocks: str  # the list of decoder blocks
    tail: tuple[str, ...]  # applied to the last residual, in order, before `unembed`
    unembed: str
    attn: str | None  # its output is what attention adds to the residual
    mlp: str | None  # its output is what the MLP adds to the residual
    heads: str | None  # its input is the concatenated outputs of the heads
    neurons: str | None  # its input is the MLP's inner layer
    logit_multiplier: str | None = None  # config names, where the family scales its logits
    logit_divisor: str | None = None
    logit_softcap: str | None = None
    adds_up: bool = True  # block in + attn + mlp = block out
    adds_up_if: str | None = None  # a config flag that must be true for that
    experts: str | None = None  # holds the experts' weights, in blocks that have some
    shared: str | None = None  # the down-projection of the shared experts there
    added_times: str | None = None  # config name: what sub-blocks give times this is added
    no_neurons_if: str | None = None  # a config flag: experts stand beside the MLP, and are unread
    beside: str | None = None  # what goes to blocks and is no part of the residual, in words

    def for_config(self, config: Any) -> Anatomy:
        """The row with what depends on flags decided by the model's own configuration."""
        row = self
        if row.adds_up_if is not None:
            row = replace(row, adds_up=bool(getattr(config, row.adds_up_if)), adds_up_if=None)
        if row.no_neurons_if is not None and getattr(config, row.no_neurons_if, False):
            row = replace(row, neurons=None, no_neurons_if=None)
        return row

    def below(self, path: str) -> Anatomy:
        """The row for a decoder that is not `model` but a part of it, beside towers of images."""

        def moved(there: str) -> str:
            return path + there.removeprefix("model") if there.startswith("model.") else there

        tail = tuple(moved(there) for there in self.tail)
        return replace(self, embed=moved(self.embed), blocks=moved(self.blocks), tail=tail)

    def has(self, kind: SiteKind) -> bool:
        """Whether the family has sites of this kind."""
        if kind == "neuron" and self.experts is not None:
            return True
        return kind in ("embed", "block") or self._relative_path(kind) is not None

    def path(self, site: Site) -> str:
        """Dotted path, from the causal LM, of the module where the site is hooked."""
        block = f"{self.blocks}.{site.layer}"
        if site.kind in ("embed", "block"):
            return block
        relative = self._relative_path(site.kind)
        if relative is None:
            raise LookupError(f"{self.family} has no site {site.kind!r}")
        return f"{block}.{relative}"

    @staticmethod
    def is_input(kind: SiteKind) -> bool:
        """Whether the site is the module's input (else its output)."""
        return kind in ("embed", "head", "neuron")

    def _relative_path(self, kind: SiteKind) -> str | None:
        paths = {"attn": self.attn, "mlp": self.mlp, "head": self.heads, "neuron": self.neurons}
        return paths.get(kind)
