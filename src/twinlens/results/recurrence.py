"""What was found about a word that comes back: each occurrence, and what the last one owes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from twinlens.results.base import Result
from twinlens.results.heads import head_name


@dataclass(frozen=True, eq=False, kw_only=True)
class RecurrenceResult(Result):
    """How the last occurrence of a word depends on the earlier ones.

    `occurrences` are token spans (start, stop), left to right; all but the last are the earlier
    ones. `explained[occurrence]` is the position of the token that is explained in each (the same
    part of the word), `focus` the position that predicts it in the last.

    `surprisal_bits[occurrence]`: of the whole word where it stands. `lens[layer, occurrence]`: what
    each row of the logit lens gives the explained token, as a probability. `attention[layer, head,
    earlier]`: share of each head's attention from the focus that falls on an earlier occurrence.

    `clean` and `corrupted` are the metric at the focus with no and with all earlier occurrences
    corrupted. `lost[earlier]`: the effect of corrupting that one alone (necessity).
    `kept[earlier]`: what is regained where all are corrupted but that one (sufficiency).
    `control_lost[control]`: the effect of corrupting an unrelated span of as many tokens,
    `controls` their spans; `control_all_lost`: that of corrupting `controls_together` of
    them at once. `head_effects[layer, head, place]`: what a head's clean output at a
    token of `places` brings back while all earlier occurrences are corrupted; the last place is the
    focus.
    """

    kind_of_result: ClassVar[str] = "recurrence"

    word: str
    metric: str
    focus: int
    answer: int
    clean: float
    corrupted: float
    occurrences: Int[np.ndarray, "occurrence 2"]
    explained: Int[np.ndarray, " occurrence"]
    surprisal_bits: Float[np.ndarray, " occurrence"]
    lens: Float[np.ndarray, "row occurrence"]
    attention: Float[np.ndarray, "layer head earlier"]
    lost: Float[np.ndarray, " earlier"]
    kept: Float[np.ndarray, " earlier"]
    controls: Int[np.ndarray, "control 2"]
    control_lost: Float[np.ndarray, " control"]
    control_all_lost: float
    places: Int[np.ndarray, " place"]
    head_effects: Float[np.ndarray, "layer head place"]

    @property
    def names(self) -> tuple[str, ...]:
        """The occurrences by number and first token's position: `1@3`, `2@40`, ..."""
        return tuple(f"{n}@{start}" for n, start in enumerate(self.occurrences[:, 0], 1))

    def text(self, span: Int[np.ndarray, " 2"]) -> str:
        """The text of a token span."""
        start, stop = (int(end) for end in span)
        tokens = self.tokens
        return tokens.text[int(tokens.starts[start]) : int(tokens.ends[stop - 1])].strip()

    @property
    def all_lost(self) -> float:
        """The effect of corrupting all earlier occurrences together."""
        return (self.clean - self.corrupted) * self._sign

    @property
    def controls_together(self) -> int:
        """How many unrelated spans `control_all_lost` is of: one for each earlier occurrence of
        their length, where there are so many."""
        widths = np.diff(self.occurrences[:-1], axis=1)
        return min(len(self.controls), int((widths == widths[0]).sum()))

    @property
    def control_corrupted(self) -> float:
        """The metric with so many unrelated spans corrupted; NaN where there are none."""
        return self.clean - self.control_all_lost * self._sign

    @property
    def _sign(self) -> int:
        """A divergence grows where the others fall."""
        return -1 if self.metric == "kl" else 1

    @property
    def at_focus(self) -> Float[np.ndarray, "layer head"]:
        """The effects of the heads' outputs at the focus."""
        return self.head_effects[..., -1]

    @property
    def at_earlier(self) -> Float[np.ndarray, "layer head"]:
        """The largest effect of each head's output at a token in or just after an earlier one."""
        return self.head_effects[..., :-1].max(axis=-1)

    def top_heads(self, k: int = 8) -> list[tuple[str, float]]:
        """The `k` heads whose output at the focus brings back most: ("1.H0", effect)."""
        effects = self.at_focus
        order = np.argsort(-effects, axis=None, kind="stable")[:k]
        places = [divmod(int(flat), effects.shape[1]) for flat in order]
        return [(head_name(*place), float(effects[place])) for place in places]

    def _variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        return {
            "span": (("occurrence", "end"), self.occurrences),
            "surprisal_bits": (("occurrence",), self.surprisal_bits),
            "lens": (("layer", "occurrence"), self.lens),
            "attention": (("block", "head", "earlier"), self.attention),
            "lost": (("earlier",), self.lost),
            "kept": (("earlier",), self.kept),
            "control_lost": (("control",), self.control_lost),
            "head_effect": (("block", "head", "place"), self.head_effects),
        }

    def _columns(self) -> dict[str, object]:
        """One row an occurrence."""
        last = np.nan
        return {
            "occurrence": np.arange(1, len(self.occurrences) + 1),
            "start": self.occurrences[:, 0],
            "stop": self.occurrences[:, 1],
            "surprisal_bits": self.surprisal_bits,
            "final_probability": self.lens[-1],
            "lost": np.append(self.lost, last),
            "kept": np.append(self.kept, last),
        }
