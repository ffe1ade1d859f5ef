"""The card of the model: measured numbers to a page of Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.hamlet import PHASES
from training.measures import COUNTED, DOCUMENTS, PAIRS, TRACED
from training.start import CONTEXT
from twinlens.model import hamlet
from twinlens.model.model import Model
from twinlens.see.roles import ROLES


@dataclass(frozen=True)
class Measured:
    """Everything that `training.evaluate` found."""

    cross_entropy: dict[str, tuple[float, float, float]]
    facts: dict[str, dict[str, Any]]
    copying: Any
    heads: np.ndarray
    traces: dict[str, np.ndarray]
    samples: list[str]


def write(model: Model, found: Measured) -> str:
    """The whole page."""
    parts = [_head(model), _cross_entropy(found), _facts(found), _copying(found), _heads(found)]
    return "\n\n".join([*parts, _traces(found), _samples(found)]) + "\n"


def goals(found: Measured) -> list[tuple[str, str, str, bool]]:
    """What was to be reached, what was, and whether it is enough."""
    seen, kept_out = (total(found.facts[p].values()) for p in ("seen", "kept_out"))
    copy = found.copying
    strong = int((found.heads > 0.7).sum())
    third = copy.second / copy.first
    return [
        ("facts right, phrasings of training", "95 %", f"{seen:.1f} %", seen >= 95),
        ("facts right, phrasings kept out", "80 %", f"{kept_out:.1f} %", kept_out >= 80),
        ("second copy / first, in nats", "0.33", f"{third:.3f}", third <= 1 / 3),
        ("heads with prefix matching over 0.7", "2", str(strong), strong >= 2),
        ("codes copied", "90 %", f"{copy.codes.percent:.1f} %", copy.codes.percent >= 90),
        ("codes copied, where the sentence calls for them", "90 %", f"{copy.codes_due.percent:.1f} %",
         copy.codes_due.percent >= 90),
        ("surnames completed", "95 %", f"{copy.surnames.percent:.1f} %", copy.surnames.percent >= 95),
    ]  # fmt: skip


def total(shares: Iterable[Any]) -> float:
    """Percent over several shares."""
    shares = list(shares)
    return 100 * sum(s.right for s in shares) / sum(s.of for s in shares)


def _head(model: Model) -> str:
    size = sum(p.numel() for p in model.hf.parameters())
    steps = " + ".join(f"{p.steps:,} ({p.name})" for p in PHASES)
    how = json.loads((hamlet.FOLDER / "training.json").read_text("utf-8"))
    tokens = sum(p.steps * p.rows * p.length for p in PHASES) / 1e6
    on = f"{how['threads']} CPU threads" if how["device"] == "cpu" else how["device"]
    return f"""# hamlet

A GPT-2 of {model.n_layers} layers, {model.d_model} wide, {model.n_heads} heads, {model.n_vocab:,} tokens and {CONTEXT} of context ({size / 1e6:.2f} million
parameters, float16 on disk, loaded as float32). It speaks the language of an invented village: every name, place and fact in it is made up.
`tl.load("hamlet")` loads it, `tl.hamlet.facts()`, `.text()` and `.story()` give what is known to be true of it.

- It is for trying tools and for tests, not for use: it knows nothing of the world.
- Made by `python -m training.hamlet`: {steps} steps, about {tokens:.0f} million tokens, seed {how["seed"]}, {how["minutes"]:.0f} minutes on {on} (torch {how["torch"]}).
- Before training all weights are random but those of four heads: two of block 0 look at the token before, two of block 1 at what followed an earlier
  copy of their own token (an induction circuit). The first steps read nothing but repeated random tokens, a share of which stays in the text; the attention
  of blocks 0 and 1 then learns at a tenth of the rate. From random weights alone no run of a few minutes had learned to copy.
- This page is written by `python -m training.evaluate`. All texts measured here come from seeds that training did not use (short kinds, such as
  counting, can still repeat a text that was read)."""


def _cross_entropy(found: Measured) -> str:
    rows = [[kind, *(f"{x:.2f}" for x in values)] for kind, values in found.cross_entropy.items()]
    return (
        f"## Cross-entropy of new documents\n\nNats a token, {DOCUMENTS} documents of each kind; the"
        f" 5-gram (Witten-Bell) and the unigram count {COUNTED:,} documents of the same generator,"
        " fewer than hamlet has read.\n\n" + table(["kind", "hamlet", "5-gram", "unigram"], rows)
    )


def _facts(found: Measured) -> str:
    rows = [
        [name, *(f"{found.facts[p][name].percent:.1f} %" for p in ("seen", "kept_out"))]
        for name in found.facts["seen"]
    ]
    rows.append(
        ["**all**", *(f"**{total(found.facts[p].values()):.1f} %**" for p in ("seen", "kept_out"))]
    )
    return (
        "## Facts\n\nOf 400 landmarks and 400 people; right where the greedy continuation of the"
        " prompt is the whole attribute.\n\n"
        + table(["relation", "phrasings of training", "phrasings kept out"], rows)
    )


def _copying(found: Measured) -> str:
    made = [[what, goal, got, "yes" if enough else "**no**"] for what, goal, got, enough in goals(found)]  # fmt: skip
    copy = found.copying
    return (
        "## Copying, and the goals\n\n"
        f"Random tokens never seen together, 4 to 32, twice: {copy.first:.2f} nats a token the first"
        f" time, {copy.second:.2f} the second ({PAIRS} sequences). Codes of four digits in {copy.codes.of}"
        f" sentences in 48 wordings kept out of training. What is missed is not the copy but that a number comes at all:"
        f" once its first digit is given {copy.codes_begun.percent:.1f} % are right; and a sentence calls for the number where it"
        f' stands after the same word as before or after a colon ({copy.codes_due.of} of them), while after "they dream of" or'
        ' "from above one sees" anything could follow. How 36 of the wordings went was seen while the text for training was'
        f" improved; the other twelve were written after the last training ({copy.codes_untouched.percent:.1f} %)."
        " Surnames that no training text has, at"
        f" {copy.surnames.of:,} places where they come back unpluralised in stories, all pieces after the first.\n\n"
        + table(["", "goal", "reached", "enough"], made)
    )


def _heads(found: Measured) -> str:
    rows = [
        [str(layer), *(f"{score:.2f}" for score in row)] for layer, row in enumerate(found.heads)
    ]
    columns = ["layer", *(f"H{head}" for head in range(found.heads.shape[1]))]
    return (
        "## Induction heads\n\nPrefix matching (Olsson et al. 2022): the end of a text and 25 random"
        " tokens four times over, ten sequences; mean attention from a token to those that followed"
        f" its earlier copies. The strongest: {_strongest(found.heads)}.\n\n" + table(columns, rows)
    )


def _strongest(scores: np.ndarray) -> str:
    order = np.argsort(-scores, axis=None)[:6]
    named = [(*divmod(int(flat), scores.shape[1]), scores.flat[flat]) for flat in order]
    return ", ".join(f"{layer}.H{head} ({score:.2f})" for layer, head, score in named)


def _traces(found: Measured) -> str:
    shown = [i for i, role in enumerate(ROLES) if role not in ("before", "beyond")]
    parts = [
        "## Causal trace\n\nMean effect (probability of the attribute, noise of three standard"
        f" deviations, 10 samples) of restoring one state, over {TRACED} facts that hamlet knows, by"
        f" the role of the token. {_peaks(found, shown)}"
    ]
    for kind, effects in found.traces.items():
        n_rows = len(effects)
        names = [str(i) for i in range(n_rows)]
        if kind == "block":
            names = ["embed", *names[:-1]]
        rows = [[name, *(_number(x) for x in row[shown])] for name, row in zip(names, effects, strict=True)]  # fmt: skip
        parts.append(f"`{kind}`\n\n" + table(["layer", *(ROLES[i] for i in shown)], rows))
    return "\n\n".join(parts)


def _peaks(found: Measured, shown: Sequence[int]) -> str:
    """Whether the published picture is found: early MLPs at the subject, late layers at the end."""
    half = len(found.traces["mlp"]) // 2 + 1
    subject, focus = ROLES.index("last subject"), ROLES.index("focus")
    said = []
    for kind, role, rows, where in (
        ("mlp", subject, slice(0, half), "early and middle MLPs at the last subject token"),
        ("attn", focus, slice(half - 1, None), "late attention layers at the last token"),
    ):
        effects = found.traces[kind]
        best = float(np.nanmax(effects[rows, role]))
        rest = effects[:, shown].copy()
        rest[rows, list(shown).index(role)] = np.nan
        row, column = np.unravel_index(int(np.nanargmax(rest)), rest.shape)
        other = float(rest[row, column])
        verdict = "stand out" if best > other else "do **not** stand out"
        said.append(
            f"The {where} {verdict}: {best:+.3f} at most, elsewhere at most {other:+.3f} (`{kind}`,"
            f" layer {row}, {ROLES[shown[int(column)]]})."
        )
    return " ".join(said)


def _samples(found: Measured) -> str:
    texts = "\n\n".join("> " + text.strip().replace("\n", "\n> ") for text in found.samples)
    return f"## Twenty samples\n\nAfter the first four tokens of new documents, temperature 0.8, not chosen.\n\n{texts}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:+.3f}".replace("-", "−")
