"""What a head's output says directly: which tokens it raises of those that it looks at.

The direct path of a head: its values, the output projection, the norm after the attention where the
family has one, the final norm, the unembedding. With the scales of the norms frozen it is linear.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from twinlens.errors import AnatomyError
from twinlens.model.anatomy import Site
from twinlens.model.model import Model
from twinlens.run.patterns import Strip
from twinlens.see.attribution import FrozenNorm, FrozenTail
from twinlens.see.heads import written_by

_WHAT = "the direct path of a head is"


class DirectPath:
    """The direct path from the heads to the logits of some tokens, for some sequences.

    `final` is the residual after the last block, `sources` the tokens (all different) whose copying
    is asked for, as queries, as tokens looked at and as tokens raised. Raises `AnatomyError` where
    the family's path is not linear but for scales.
    """

    def __init__(
        self,
        model: Model,
        final: Float[Tensor, "row token d_model"],
        ids: Int[Tensor, "row token"],
        sources: slice,
    ) -> None:
        if not model.anatomy.adds_up:
            raise AnatomyError(
                f"{model.name}: other norms stand between the heads and the residual; {_WHAT}"
                " not defined for it"
            )
        self.model, self.sources = model, sources
        self._tail = FrozenTail(model, final.flatten(0, 1), _WHAT)
        self._scale = self._tail.scale(final).cpu().double()
        weight = cast(Tensor, model.module(model.anatomy.unembed).weight).detach()
        mean = weight.mean(0, dtype=torch.float32).to(weight)
        self._unembed = weight[ids[:, sources].to(weight.device)] - mean

    def raised(self, strip: Strip) -> Float64[Tensor, "2 head row"]:
        """How much the heads of a strip raise the token looked at, and all tokens of `sources`."""
        queries = range(strip.queries.start, strip.queries.stop)
        asked = range(*self.sources.indices(self._scale.shape[1]))
        local = [i for i, query in enumerate(queries) if query in asked]
        if not local:
            rows, heads = strip.weights.shape[:2]
            return torch.zeros(2, heads, rows, dtype=torch.float64)
        norm, scale = self._after_attention(strip)
        scale = scale[:, local] * self._scale[:, [queries[i] for i in local]]
        looked = strip.weights[:, :, local, self.sources].cpu().double()
        weight = (looked / scale[:, None]).sum(2)  # [row head token]: how loudly each is said
        found = [
            self._raised_by(strip, head, norm, weight[:, head]) for head in range(weight.shape[1])
        ]
        return torch.stack(found, dim=1)

    def _raised_by(
        self, strip: Strip, head: int, norm: FrozenNorm | None, weight: Float[Tensor, "row token"]
    ) -> Float64[Tensor, "2 row"]:
        said = written_by(self.model, strip, head, self.sources)
        one = torch.ones_like(said[..., :1])
        said = self._tail.before_unembedding(said if norm is None else norm(said, one), one)
        logits = said.to(self._unembed) @ self._unembed.transpose(1, 2)
        raises = logits.cpu().double().clamp(min=0)
        own, every = raises.diagonal(dim1=1, dim2=2), raises.sum(-1)
        return torch.stack([(weight * part).sum(-1) for part in (own, every)])

    def _after_attention(
        self, strip: Strip
    ) -> tuple[FrozenNorm | None, Float64[Tensor, "row query 1"]]:
        """The norm after the attention, where there is one, and its scale at the queries."""
        inner, outer = (self.model.anatomy.path(Site(k, strip.layer)) for k in ("head", "attn"))
        rows, heads, n_queries, _ = strip.weights.shape
        if inner.startswith(outer + "."):
            return None, torch.ones(rows, n_queries, 1, dtype=torch.float64)
        values = torch.stack([strip.values_of(head) for head in range(heads)], dim=1)
        mixed = (strip.weights @ values).transpose(1, 2).flatten(2)
        made = self.model.module(inner)(mixed)
        norm = FrozenNorm(self.model, self.model.module(outer), made.flatten(0, 1), _WHAT)
        return norm, norm.scale(made).cpu().double()
