"""What a logit lens found: for every row and token, the prediction there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from twinlens.errors import InputError
from twinlens.results.base import Result

TARGET_METRICS = ("logit", "probability", "log_probability", "rank", "surprisal")
CELL_METRICS = ("top_probability", "top_logit", "entropy", "kl_final_to_layer", "kl_layer_to_final")
IN_UNITS_OF_INFORMATION = ("surprisal", "entropy", "kl_final_to_layer", "kl_layer_to_final")
CONTRIBUTION_METRICS = ("logit", "rank", "top_logit")


@dataclass(frozen=True, eq=False, kw_only=True)
class LensResult(Result):
    """The logit lens of a prompt.

    `rows` says what the rows are: `block` (residual after each block, `embed` first), `mid` (the
    same and the residual after each attention), or the contributions of `attn` or `mlp` alone
    (logits only: probabilities, entropy and KL are not defined for them and are NaN).

    `targets` names the tokens that were followed at every cell: `final` (the last row's argmax),
    `next` (the true next token; id -1 at the last position) and any that were asked for.
    All information is in nats.
    """

    kind_of_result: ClassVar[str] = "lens"

    rows: Literal["block", "mid", "attn", "mlp"]
    top_ids: Int[np.ndarray, "layer token k"]
    top_probs: Float[np.ndarray, "layer token k"]
    top_logits: Float[np.ndarray, "layer token k"]
    targets: tuple[str, ...]
    target_ids: Int[np.ndarray, "target token"]
    logits: Float[np.ndarray, "layer token target"]
    log_probs: Float[np.ndarray, "layer token target"]
    ranks: Int[np.ndarray, "layer token target"]
    entropy: Float[np.ndarray, "layer token"]
    kl_final_to_layer: Float[np.ndarray, "layer token"]
    kl_layer_to_final: Float[np.ndarray, "layer token"]
    surprisal: Float[np.ndarray, " token"]

    @property
    def surprisal_bits(self) -> Float[np.ndarray, " token"]:
        """Surprisal of each token given those before it, in bits (NaN for the first token)."""
        return self.surprisal / math.log(2)

    def metric(
        self,
        name: str,
        target: str | int = "final",
        *,
        unit: Literal["nats", "bits"] = "nats",
    ) -> Float[np.ndarray, "layer token"]:
        """One number for every cell.

        Of a target: `logit`, `probability`, `log_probability`, `rank` (1 = first: how many tokens
        have at least its logit), `surprisal` (-log probability). Of the cell itself:
        `top_probability`, `top_logit`, `entropy`, `kl_final_to_layer` = KL(last row || this row),
        `kl_layer_to_final` = KL(this row || last row).

        `target` is a name in `targets` or the id of a token that was followed. Cells without a
        target (the last token's `next`) are NaN. Raises `InputError` for an unknown name or target.
        """
        known = TARGET_METRICS + CELL_METRICS
        if name not in known:
            raise InputError(f"metric={name!r} is not known; choose one of {', '.join(known)}")
        if self.rows in ("attn", "mlp") and name not in CONTRIBUTION_METRICS:
            raise InputError(
                f"metric={name!r} is not defined for contributions (rows={self.rows!r});"
                f" choose one of {', '.join(CONTRIBUTION_METRICS)}"
            )
        if unit not in ("nats", "bits"):
            raise InputError(f"unit={unit!r} is not known; choose 'nats' or 'bits'")
        values = self._cell(name) if name in CELL_METRICS else self._of_target(name, target)
        scale = math.log(2) if unit == "bits" and name in IN_UNITS_OF_INFORMATION else 1.0
        return values / scale

    def right(self) -> np.ndarray:
        """Where the top-1 token is the true next token: bool `[layer, token]`."""
        following = np.append(self.tokens.ids[1:], -1)
        return self.top_ids[:, :, 0] == following

    def _cell(self, name: str) -> np.ndarray:
        if name == "top_probability":
            return self.top_probs[:, :, 0]
        if name == "top_logit":
            return self.top_logits[:, :, 0]
        return getattr(self, name)

    def _of_target(self, name: str, target: str | int) -> np.ndarray:
        index = self._target_index(target)
        if name == "rank":
            values = self.ranks[:, :, index].astype(np.float64)
        elif name == "logit":
            values = self.logits[:, :, index]
        elif name == "probability":
            values = np.exp(self.log_probs[:, :, index])
        else:
            values = self.log_probs[:, :, index] * (-1 if name == "surprisal" else 1)
        return np.where(self.target_ids[index] >= 0, values, np.nan)

    def _target_index(self, target: str | int) -> int:
        if isinstance(target, str) and target in self.targets:
            return self.targets.index(target)
        if not isinstance(target, str):
            for index, ids in enumerate(self.target_ids):
                if len(ids) and (ids == target).all():
                    return index
        raise InputError(
            f"target={target!r} was not followed in this lens; it has"
            f" {', '.join(map(repr, self.targets))} (ask for it when the lens is made)"
        )

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        cell, per_target = ("layer", "token"), ("layer", "token", "target")
        variables = {
            "top_ids": ((*cell, "k"), self.top_ids),
            "top_probs": ((*cell, "k"), self.top_probs),
            "top_logits": ((*cell, "k"), self.top_logits),
            "logits": (per_target, self.logits),
            "log_probs": (per_target, self.log_probs),
            "ranks": (per_target, self.ranks),
            "top_id": (cell, self.top_ids[:, :, 0]),
            "surprisal": (("token",), self.surprisal),
        }
        names = CONTRIBUTION_METRICS if self.rows in ("attn", "mlp") else CELL_METRICS
        for name in names:
            if name in CELL_METRICS:
                variables[name] = (cell, self._cell(name))
        for index, target in enumerate(self.targets):
            variables[f"logit_of_{target}"] = (cell, self.logits[:, :, index])
            variables[f"probability_of_{target}"] = (cell, np.exp(self.log_probs[:, :, index]))
        return variables
