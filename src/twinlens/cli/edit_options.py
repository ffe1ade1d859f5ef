"""What a user may set of an edit, by groups. Plain values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from twinlens.cli.options import Whole

Method = Literal["rome", "fine-tune"]
Repeated = Annotated[list[str], Parameter(negative="")]
_FACT = Group("Fact", sort_key=3)
_METHOD = Group("Method", sort_key=4)
_TEXT = Group("Text", sort_key=5)


@Parameter(name="*", group=_FACT)
@dataclass(frozen=True, kw_only=True)
class FactOptions:
    """What the model is to say."""

    prompt: str | None = None
    "Text to be continued; it names the subject."
    subject: Annotated[str | None, Parameter(name=("--subject", "-s"))] = None
    "Whom or what the fact is about."
    target: str | None = None
    "What is to follow the prompt."
    truth: str | None = None
    "What follows it now (default: the likeliest token)."
    paraphrase: Repeated = field(default_factory=list)
    "Another prompt that asks the same. Repeat."
    neighbour: Repeated = field(default_factory=list)
    "Prompt about another subject, whose answer must stay. Repeat."
    other: Repeated = field(default_factory=list)
    "Prompt about the same subject, whose answer must stay. Repeat."
    facts: Path | None = None
    "Several facts, edited one after the other: .jsonl with prompt, subject, target, ... a line."


@Parameter(name="*", group=_METHOD)
@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """How it is written into the weight."""

    method: Method = "rome"
    "rome: a rank-one change (Meng et al. 2022, as r-ROME). fine-tune: steps on the same weight."
    steps: Whole | None = None
    "Steps at most (rome: 20, fine-tune: 25)."
    lr: float | None = None
    "Rate of the steps (rome: 0.5, fine-tune: 0.0005)."
    stop: float | None = None
    "Loss below which the steps end (rome: 0.05, fine-tune: 0.01)."
    kl: float | None = None
    "Weight of the divergence behind '{subject} is a' (rome: 0.0625)."
    decay: float | None = None
    "Weight of the vector's length in the loss (rome: 0.5)."
    clamp: float | None = None
    "How long the vector may be, in lengths of the old value (rome: 4)."
    bound: float | None = None
    "How far each number may move (fine-tune)."
    ridge: float | None = None
    "Share of the covariance's mean diagonal that is added to it (rome)."
    seed: Whole = 1
    "Seed of the prefixes, and of --samples."


@Parameter(name="*", group=_TEXT)
@dataclass(frozen=True, kw_only=True)
class EditTextOptions:
    """What must stay as it is."""

    text: Annotated[str | None, Parameter(name=("--text", "-t"))] = None
    "Text of the covariance: .txt, .jsonl (\"text\" in each line), or 'hamlet'."
    samples: Whole | None = None
    "Texts that the model says by itself, in its place."
    loss_text: str | None = None
    "Text whose loss is told (default: --text)."
    length: Whole = 128
    "Tokens of a window."
    cache: Path | None = None
    "Folder in which covariances are kept (default: in the user's cache folder)."
