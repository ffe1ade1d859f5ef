"""Direct logit attribution: the final norm's statistics held fixed, so that contributions add up.

A norm divides by a scale s that depends on its input. With s taken from the last residual h, the
tail becomes linear, and the logits of h are the sum of the logits of what was added to it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from twinlens.errors import AnatomyError
from twinlens.model.model import Model


class FrozenTail:
    """The model's tail and unembedding for contributions to a given last residual.

    Biases belong to no contribution and are left out; a soft cap, which is not linear, too.
    Raises `AnatomyError` where the final norm is neither a LayerNorm nor an RMSNorm.
    """

    def __init__(self, model: Model, final: Float[Tensor, "token d_model"]) -> None:
        self.model = model
        self.final = final
        norms = [module for module in model.tail if not isinstance(module, nn.Linear)]
        if len(norms) > 1:
            raise AnatomyError(f"{model.name}: contributions need one final norm, not {len(norms)}")
        self.norm = norms[0] if norms else None
        if self.norm is not None:
            self._centring = self._centres()
            self._refuse_other_norms()

    def logits(
        self, contribution: Float[Tensor, "token d_model"], tokens: slice
    ) -> Float[Tensor, "token vocab"]:
        """Logits that a contribution adds at the tokens of a slice of the last residual."""
        value = contribution
        for module in self.model.tail:
            if module is self.norm:
                ratio = self._scale(value) / self._scale(self.final[tokens])
                value = self._without_bias(module, value) * ratio.to(value.dtype)
            else:
                value = self._without_bias(module, value)
        unembed = self.model.module(self.model.anatomy.unembed)
        return self.model.scale_logits(self._without_bias(unembed, value), softcap=False)

    @staticmethod
    def _without_bias(module: nn.Module, value: Tensor) -> Tensor:
        if getattr(module, "bias", None) is None:
            return module(value)
        return module(value) - module(torch.zeros_like(value[:1]))

    def _scale(self, value: Float[Tensor, "token d_model"]) -> Float[Tensor, "token 1"]:
        value = value.double() if value.device.type == "cpu" else value.float()
        if self._centring:
            value = value - value.mean(-1, keepdim=True)
        eps = getattr(self.norm, "eps", getattr(self.norm, "variance_epsilon", 0.0)) or 0.0
        return (value.pow(2).mean(-1, keepdim=True) + eps).sqrt()

    def _centres(self) -> bool:
        assert self.norm is not None
        probe = self.final[:1]
        shift = probe.float().std().to(probe.dtype)
        moved, still = self.norm(probe + shift).float(), self.norm(probe).float()
        return bool((moved - still).abs().max() < 1e-2 * still.abs().max())

    def _refuse_other_norms(self) -> None:
        assert self.norm is not None
        once, twice = self.final[:4], 2 * self.final[:4]
        linear = [
            self._without_bias(self.norm, x).double() * self._scale(x).double() / factor
            for x, factor in ((once, 1), (twice, 2))
        ]
        if not torch.allclose(*linear, rtol=0.05, atol=1e-2 * float(linear[0].abs().max())):
            raise AnatomyError(
                f"{self.model.name}: {type(self.norm).__name__} is neither a LayerNorm nor an"
                " RMSNorm; contributions (rows='attn' or 'mlp') are not defined for it"
            )
