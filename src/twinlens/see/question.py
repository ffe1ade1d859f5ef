"""What is asked about a prompt, with every name resolved to a position or a token id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool

from twinlens.errors import AnswerError, InputError
from twinlens.model.model import Model
from twinlens.model.spans import Subject, focus_position, subject_mask
from twinlens.model.tokens import one_token
from twinlens.results import Tokens

Kind = Literal["block", "mlp", "attn", "head"]
Metric = Literal["probability", "log_probability", "logit", "logit_difference", "kl"]
Direction = Literal["denoise", "noise"]


@dataclass(frozen=True)
class Question:
    """One trace's question. `answer` is None where it is the model's own prediction."""

    tokens: Tokens
    mask: Bool[np.ndarray, " token"] | None
    focus: int
    answer: int | None
    foil: int | None
    kind: Kind
    window: int
    metric: Metric
    direction: Direction

    def settings(self) -> dict[str, Any]:
        """The question as plain values, for the result."""
        asked = {name: getattr(self, name) for name in ("foil", "metric", "direction")}
        given = None if self.mask is None else np.flatnonzero(self.mask).tolist()
        return asked | {
            "subject": given,
            "focus": self.focus,
            "answer": self.answer,
            "kind": self.kind,
            "window": self.window,
        }


def ask(
    model: Model,
    prompt: str | Tokens,
    subject: Subject | None,
    *,
    focus: int | str,
    answer: str | int | None,
    kind: Kind,
    window: int,
    metric: Metric,
    foil: str | int | None,
    direction: Direction,
) -> Question:
    """Resolve what was asked; raises an `InputError` that names the argument that does not fit."""
    one_of("kind", kind, get_args(Kind))
    one_of("metric", metric, get_args(Metric))
    one_of("direction", direction, get_args(Direction))
    if not isinstance(window, int | np.integer) or not 1 <= window <= model.n_layers:
        raise InputError(f"window={window!r} must be a whole number from 1 to {model.n_layers}")
    if (metric == "logit_difference") != (foil is not None):
        raise InputError("metric='logit_difference' and foil=... go together: give both or neither")
    tokens = encoded(model, prompt)
    position = focus_position(tokens, focus)
    return Question(
        tokens=tokens,
        mask=None if subject is None else subject_mask(tokens, subject, position),
        focus=position,
        answer=None if answer is None else token_id(model, tokens, position, answer, "answer"),
        foil=None if foil is None else token_id(model, tokens, position, foil, "foil"),
        kind=kind,
        window=int(window),
        metric=metric,
        direction=direction,
    )


def encoded(model: Model, prompt: str | Tokens) -> Tokens:
    """The prompt's tokens, made by the model's tokenizer unless they are tokens already."""
    return prompt if isinstance(prompt, Tokens) else model.encode(prompt)


def token_id(model: Model, tokens: Tokens, position: int, given: str | int, what: str) -> int:
    """The id of the token that is meant at a position: an id, "next", or the text of one token.

    Raises `AnswerError` where it is none.
    """
    if isinstance(given, str) and given == "next":
        if position + 1 >= len(tokens):
            raise AnswerError(
                f"{what}='next' needs a token after position {position}, the last of the prompt"
            )
        return int(tokens.ids[position + 1])
    if isinstance(given, str):
        before = tokens.text[: int(tokens.ends[: position + 1].max())]
        return one_token(model.tokenizer, given, before=before, what=what)
    whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if not whole or not 0 <= int(given) < model.n_vocab:
        raise AnswerError(f"{what}={given!r} is no token id; expected 0 to {model.n_vocab - 1}")
    return int(given)


def whole(name: str, value: object, least: int = 1) -> None:
    """Raises `InputError` where a value is no whole number of at least `least`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise InputError(f"{name}={value!r} must be a whole number of at least {least}")


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises `InputError` where a value is none of the choices."""
    if value not in choices:
        raise InputError(f"{name}={value!r} is not known; choose one of {', '.join(choices)}")
