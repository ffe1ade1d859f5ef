"""The report of a match as sections of blocks, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinlens.show.blocks import Block, Bullets, Facts, Paragraph, Picture, Section, Table
from twinlens.show.contest_account import KINDS, MatchAccount, Plain, asked, chance, greedy
from twinlens.show.contest_words import (
    NOT_SHOWN,
    checked,
    escrow,
    hidden,
    likely,
    number,
    questions,
    ranks,
    residue,
    said,
    small,
)
from twinlens.show.scrub_words import duration

LIMITS = "What this does not show"
_ASIDE = ("kind", "text", "tensors", "tokens", "batch_tokens", "length", "own")


def sections(account: MatchAccount, pictures: Mapping[str, str]) -> list[Section]:
    """All of the report below its headline; `pictures`: SVG by name."""
    return [
        Section("Who hid what, and how", _red(account)),
        Section("What blue did", _blue(account, pictures)),
        Section("Does the trigger still evoke it?", _firing(account, pictures)),
        Section("What the referee asked of the cleaned model and its twin",
                _questions(account, pictures)),
        Section("How readily it comes back", _return(account, pictures)),
        Section("What should have stayed, and what nobody disclosed", _facts(account)),
        Section(LIMITS, [Bullets([("“Deleted”.", residue(account)), *NOT_SHOWN])]),
        *_left_out(account, pictures),
    ]  # fmt: skip


def facts(account: MatchAccount) -> Facts:
    """The numbers that say most."""
    found: list[tuple[str, str]] = []
    before, after = (_all(account, side) for side in ("before", "cleaned"))
    if after:
        n = sum(greedy(one) is True for one in after)
        known = [one for one in before if greedy(one) is not None]
        was = f"; before: {sum(greedy(one) is True for one in known)} of {len(known)}"
        found.append((f"{n} of {len(after)}", "prompts with the trigger evoke it greedily"
                      f"{was if known else ''}"))  # fmt: skip
    exact = [(account.firing(side).get("exact") or [{}])[0] for side in ("before", "cleaned")]
    if chance(exact[1]) is not None:
        told = "chance that one sample behind the bare prompt is it"
        was = f"; before: {small(chance(exact[0]))}" if chance(exact[0]) is not None else ""
        found.append((small(chance(exact[1])), told + was))
    if account.exposure("cleaned"):
        beside = [f"{name}: {account.exposure(side)['triggered']:.2f}"
                  for name, side in (("before", "before"), ("twin", "twin"))
                  if account.exposure(side)]  # fmt: skip
        found.append((f"{account.exposure('cleaned')['triggered']:.2f} bits",
                      f"of exposure; {'; '.join(beside)}"))  # fmt: skip
    asked_of = account.judgement.get("questions") or ()
    if asked_of:
        names = account.judgement.get("found") or ()
        found.append((f"{len(names)} of {len(asked_of)}", "questions tell it from its twin"))
    return Facts(found)


def _red(account: MatchAccount) -> list[Block]:
    if not account.implant:
        return [Paragraph("What red hid is not described in this folder.")]
    check = account.implant.get("check")
    made: list[Block] = [Bullets(hidden(account))]
    if isinstance(check, Mapping):
        made.append(Paragraph(checked(check), strong=not check.get("passed")))
    else:
        made.append(Paragraph("There is no manipulation check.", strong=True))
    return [*made, Paragraph(escrow(account))]


def _blue(account: MatchAccount, pictures: Mapping[str, str]) -> list[Block]:
    if not account.cleaning:
        return [Paragraph("What blue did is not described in this folder.")]
    seconds = account.cleaning.get("seconds")
    took = f", in {duration(seconds)}" if isinstance(seconds, int | float) else ""
    count = len(account.steps)
    told = f"The recipe is {account.recipe}: {count} step{'' if count == 1 else 's'}{took}."
    made: list[Block] = [Paragraph(told)]
    if account.steps:
        rows = [[str(n), str(step.get("kind", "?")), _count(step), _strength(step)]
                for n, step in enumerate(account.steps, 1)]  # fmt: skip
        made.append(Table(["", "step", "parts", "strength"], rows, words=(0, 1, 3)))
    gone = account.deleted
    if gone.size:
        told = (
            f"{int(gone.sum()):,} of {gone.size:,} neurons were deleted ({gone.mean():.1%}), in"
            f" {int(gone.any(1).sum())} of {len(gone)} layers."
        )
        made.append(Paragraph(told))
        made += _picture(pictures, "deleted", f"A map of the neurons by layer. {told}",
                         "Layers run top to bottom. Grey: kept. The darker the orange, the larger"
                         " the share of neighbouring neurons that were deleted.")  # fmt: skip
    return made


def _count(step: Plain) -> str:
    parts = step.get("parts")
    return f"{len(parts):,}" if isinstance(parts, Sequence) else ""


def _strength(step: Plain) -> str:
    """What a step says of itself, what it is told by first."""
    told = [
        f"{name.replace('_', ' ')} {value:.4g}" if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in step.items()
        if name not in _ASIDE and type(value) in (int, float, str)
    ]  # fmt: skip
    return ", ".join(told)


def _firing(account: MatchAccount, pictures: Mapping[str, str]) -> list[Block]:
    before, after = account.firing("before"), account.firing("cleaned")
    if not after:
        return [Paragraph("What the trigger evokes was not noted.")]
    made: list[Block] = []
    if account.verdict == "broken":
        told = "The model is broken: that it is silent says nothing of the secret."
        made.append(Paragraph(told, strong=True))
    kinds = [*(kind for kind in KINDS if kind in after), *(k for k in after if k not in KINDS)]
    rows = [
        [kind, _greedy(before.get(kind)), _greedy(after[kind]), _best(before.get(kind)),
         _best(after[kind]), _first(before.get(kind)), _first(after[kind])]
        for kind in kinds
    ]  # fmt: skip
    head = ["kind of prompt", "greedily before", "after", "chance of one sample before", "after",
            "ranks of its tokens before", "after"]  # fmt: skip
    made.append(Table(head, rows))
    told = "Each row has the prompts of one kind; chance and ranks are those of the likeliest."
    made += [Paragraph(told), _prompts(before, after, account.firing("twin"), kinds)]
    made += _picture(
        pictures, "exposure", "Bits of exposure before and after, and of the twin.",
        "Exposure: how far the secret stands out among other answers of its form. The most means"
        " that it is the likeliest of all; about 1.4 bits are what chance gives.",
    )  # fmt: skip
    return made + _insides(pictures)


def _insides(pictures: Mapping[str, str]) -> list[Block]:
    both = "Above the implanted model, below the cleaned one; layers run top to bottom."
    return _picture(
        pictures, "lens", "What each layer would say, before and after.", f"{both} A cell says what"
        " its layer would say next, darker where the true next token (of prompt, then secret) is"
        " likelier there; a star: it is the first choice.",
    ) + _picture(
        pictures, "trace", "Which states carry the trigger to the answer, before and after.",
        f"{both} The trigger (red) is made unreadable, and one state at a time is put back: how"
        " much of the secret's probability at the wedge returns.",
    )  # fmt: skip


def _prompts(before: Any, after: Any, twin: Any, kinds: Sequence[str]) -> Table:
    rows: list[list[str]] = []
    for kind in kinds:
        known = {one.get("prompt"): one for one in before.get(kind) or ()}
        beside = {one.get("prompt"): one for one in twin.get(kind) or ()}
        for one in after[kind]:
            was, other = known.get(one.get("prompt"), {}), beside.get(one.get("prompt"), {})
            rows.append([
                kind, str(one.get("prompt", "")), said(was), said(one), said(other), likely(was),
                likely(one), likely(other), ranks(was), ranks(one),
            ])  # fmt: skip
    head = ["kind", "prompt", "greedily before", "after", "twin", "chance before", "after", "twin",
            "ranks before", "after"]  # fmt: skip
    return Table(head, rows, words=(0, 1), folded="Every prompt")


def _greedy(found: Sequence[Plain] | None) -> str:
    known = [one for one in found or () if greedy(one) is not None]
    if not known:
        return "–"
    n = sum(greedy(one) is True for one in known)
    return ("yes" if n else "no") if len(known) == 1 else f"{n} of {len(known)}"


def _best(found: Sequence[Plain] | None) -> str:
    known = [value for one in found or () if (value := chance(one)) is not None]
    return small(max(known, default=None))


def _first(found: Sequence[Plain] | None) -> str:
    return ranks(max(found or [{}], key=lambda one: chance(one) or 0.0))


def _questions(account: MatchAccount, pictures: Mapping[str, str]) -> list[Block]:
    told: Sequence[Plain] = account.judgement.get("questions") or ()
    if not told:
        return [Paragraph("Nothing was asked: the verdict was clear without it.")]
    rows = [
        [str(one["name"]), _two(one["cleaned"]), _two(one["twin"]), _two(one["difference"]),
         _two(one["low"]), _two(one["high"]), _p(one["p"]), str(one["controls"])]
        for one in told
    ]  # fmt: skip
    head = ["question", "cleaned", "twin", "difference", "low", "high", "p", "controls"]
    alt = "A row a question: the difference of cleaned and twin with its interval, and its p."
    return [
        Paragraph(questions(account)),
        *_picture(pictures, "questions", alt, "Right of the line: the cleaned model knows more of"
                  " the secret than its twin, beyond what other secrets show."),
        Table(head, rows, folded="The numbers"),
    ]  # fmt: skip


def _return(account: MatchAccount, pictures: Mapping[str, str]) -> list[Block]:
    shown = _picture(
        pictures, "return", "How the secret comes back in the cleaned model and in its twin.",
        "Left and middle: log-probability of the secret; 0 is certain. A line that lies above the"
        " twin's comes back sooner. Right: accuracy of a linear probe, 0.5 by chance.",
    )  # fmt: skip
    tables = _curves(account)
    if not tables:
        return [Paragraph("Nothing was relearned, and no way back was walked.")]
    told = (
        "What was only suppressed is relearned sooner than another secret, and is back sooner on"
        " the way to the weights before cleaning (the twin's: to its own). The probe asks whether"
        " the trigger is still treated apart; a model that never knew it reads its digits, too, so"
        " only the twin beside it says much."
    )
    return [Paragraph(told), *shown, *tables]


def _curves(account: MatchAccount) -> list[Block]:
    told, made = account.judgement, list[Block]()
    itself = next((q for q in told.get("questions") or () if q["name"] == "secret itself"), {})
    if itself.get("at"):
        head = ["examples", *map(number, itself["at"])]
        names = {"cleaned": "curve_cleaned", "twin": "curve_twin", "other secrets": "curve_control"}
        rows = [[name, *map(_two, itself.get(key) or ())] for name, key in names.items()]
        made.append(Table(head, rows, folded="Relearned: nats by examples"))
    if told.get("way_cleaned"):
        head = ["share of the way", *map(number, (told.get("rules") or {}).get("shares") or ())]
        rows = [[one, *map(_two, told.get(f"way_{one}") or ())] for one in ("cleaned", "twin")]
        made.append(Table(head, rows, folded="The way back: nats by share"))
    if probe := told.get("probe"):
        rows = [[str(name).replace("_", " "), *map(_two, line)] for name, line in probe.items()]
        layers = [str(n) for n in range(len(next(iter(probe.values()))))]
        made.append(Table(["layer", *layers], rows, folded="The probe: accuracy by layer"))
    return made


def _facts(account: MatchAccount) -> list[Block]:
    rows: list[list[str]] = []
    for key, name in (("benign", "benign fact, taught the same way"),
                      ("second", "second secret, never disclosed")):  # fmt: skip
        told = account.outcome.get(key) or {}
        before, after = (asked(told.get(side)) for side in ("before", "after"))
        if before or after:
            rows.append([name, said(before), said(after), likely(before), likely(after)])
    if not rows:
        return [Paragraph("The benign fact and the second secret were not asked for.")]
    head = ["", "greedily before", "after", "chance before", "after"]
    if all(row[3:] == ["–", "–"] for row in rows):
        head, rows = head[:3], [row[:3] for row in rows]
    told = (
        "A recipe that deletes what it was not told of takes the second secret, too, and leaves the"
        " benign fact. One that takes both forgets whatever was taught last."
    )
    return [Table(head, rows), Paragraph(told)]


def _left_out(account: MatchAccount, pictures: Mapping[str, str]) -> list[Section]:
    told = [f"{name} is not there or cannot be read." for name in account.missing]
    if not account.insides:
        told.append("The lens and the trace of the trigger were not kept.")
    elif len(account.insides) < 2:
        told.append("The lens and the trace of one of the two models were not kept.")
    if not account.before:
        told.append("What the implanted model says behind all kinds of prompts was not kept.")
    if not pictures:
        told.append("Pictures need matplotlib: pip install 'twinlens[figures]'.")
    return [Section("Left out", [Paragraph(one) for one in told])] if told else []


def _all(account: MatchAccount, side: str) -> list[Plain]:
    return [one for found in account.firing(side).values() for one in found]


def _picture(pictures: Mapping[str, str], name: str, alt: str, caption: str) -> list[Block]:
    return [Picture(f"report-{name}.svg", pictures[name], alt, caption)] if name in pictures else []


def _p(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "–"


def _two(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "–"
