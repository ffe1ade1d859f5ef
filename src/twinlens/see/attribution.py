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


class FrozenNorm:
    """A LayerNorm or an RMSNorm as the linear map that it is with its scale held fixed.

    `probe` are a few values that enter it. Biases are left out. Raises `AnatomyError` where it is
    neither; `what` are the things that are then not defined, for the message.
    """

    def __init__(
        self, model: Model, norm: nn.Module, probe: Float[Tensor, "token d_model"], what: str
    ) -> None:
        self.norm = norm
        self._centring = self._centres(probe[:1])
        self._refuse_other_norms(model, probe[:4], what)

    def __call__(
        self, value: Float[Tensor, "*batch d_model"], scale: Float[Tensor, "*#batch 1"]
    ) -> Float[Tensor, "*batch d_model"]:
        """The norm of a value, divided by `scale` instead of the value's own."""
        ratio = self.scale(value) / scale
        return without_bias(self.norm, value) * ratio.to(value.dtype)

    def scale(self, value: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """What the norm divides a value by."""
        value = value.double() if value.device.type == "cpu" else value.float()
        if self._centring:
            value = value - value.mean(-1, keepdim=True)
        eps = getattr(self.norm, "eps", getattr(self.norm, "variance_epsilon", 0.0)) or 0.0
        return (value.pow(2).mean(-1, keepdim=True) + eps).sqrt()

    def _centres(self, probe: Float[Tensor, "1 d_model"]) -> bool:
        shift = probe.float().std().to(probe.dtype)
        moved, still = self.norm(probe + shift).float(), self.norm(probe).float()
        return bool((moved - still).abs().max() < 1e-2 * still.abs().max())

    def _refuse_other_norms(self, model: Model, probe: Tensor, what: str) -> None:
        linear = [
            without_bias(self.norm, x).double() * self.scale(x).double() / factor
            for x, factor in ((probe, 1), (2 * probe, 2))
        ]
        if not torch.allclose(*linear, rtol=0.05, atol=1e-2 * float(linear[0].abs().max())):
            raise AnatomyError(
                f"{model.name}: {type(self.norm).__name__} is neither a LayerNorm nor an"
                f" RMSNorm; {what} not defined for it"
            )


class FrozenTail:
    """The model's tail and unembedding for contributions to a given last residual.

    Biases belong to no contribution and are left out; a soft cap, which is not linear, too.
    Raises `AnatomyError` where the final norm is neither a LayerNorm nor an RMSNorm.
    """

    def __init__(
        self,
        model: Model,
        final: Float[Tensor, "token d_model"],
        what: str = "contributions (rows='attn' or 'mlp') are",
    ) -> None:
        self.model = model
        self.final = final
        norms = [module for module in model.tail if not isinstance(module, nn.Linear)]
        if len(norms) > 1:
            raise AnatomyError(f"{model.name}: contributions need one final norm, not {len(norms)}")
        self.norm = FrozenNorm(model, norms[0], final, what) if norms else None

    def logits(
        self, contribution: Float[Tensor, "token d_model"], tokens: slice
    ) -> Float[Tensor, "token vocab"]:
        """Logits that a contribution adds at the tokens of a slice of the last residual."""
        value = self.before_unembedding(contribution, self.scale(self.final[tokens]))
        unembed = self.model.module(self.model.anatomy.unembed)
        return self.model.scale_logits(without_bias(unembed, value), softcap=False)

    def scale(self, residual: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """What the final norm divides a last residual by; 1 where the model has none."""
        if self.norm is None:
            return torch.ones_like(residual[..., :1])
        return self.norm.scale(residual)

    def before_unembedding(
        self, value: Float[Tensor, "*batch d_model"], scale: Float[Tensor, "*#batch 1"]
    ) -> Float[Tensor, "*batch width"]:
        """What the unembedding gets of a contribution, with the final norm's scale as given."""
        for module in self.model.tail:
            if self.norm is not None and module is self.norm.norm:
                value = self.norm(value, scale)
            else:
                value = without_bias(module, value)
        return value


def without_bias(module: nn.Module, value: Float[Tensor, "*batch width"]) -> Tensor:
    """A linear module's output without its bias (for a norm: without its shift)."""
    if getattr(module, "bias", None) is None:
        return module(value)
    return module(value) - module(torch.zeros_like(value[..., :1, :]))
