"""What a scrub comes to, in plain words: the headline, each stage, and what it does not show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twinlens.change.journal import Entry
from twinlens.change.recipe import Noise, Prune, Recover, Stage
from twinlens.change.recover import Budget
from twinlens.change.scrubbed import Deletion, ScrubAccount

NOT_SHOWN = (
    ("Other texts.", "A passed gate says that the loss on texts like this one surely rose by less"
     " than the margin. About other texts, tasks or languages it says nothing."),
    ("That anything hidden is gone.", "A gate measures what the text asks for. Whether a hidden"
     " behaviour went could only be shown by a trigger that no longer fires, and a trigger that is"
     " not known cannot be tried."),
    ("That what is unused is useless.", "“Unused on this text” is not “unused”: the lowest units"
     " may be what another text needs."),
    ("Where behaviour was planted.", "A behaviour that is spread over neurons which the text uses"
     " is not found by deleting those that it does not use."),
    ("That information was deleted with its neuron.", "It may stand elsewhere too; other parts can"
     " take over what one leaves (self-repair), and training after a deletion helps them to."),
)  # fmt: skip
_TONES = {
    "pass": ("pass", "Passed: quality stayed within the margin"),
    "fail": ("fail", "Failed: quality was lost"),
    "cannot tell": ("unknown", "Cannot tell whether quality stayed"),
}


def headline(account: ScrubAccount) -> tuple[str, str, str]:
    """A class (pass, fail, unknown), a few words, and a sentence or two."""
    final, margin = account.final, _margin(account)
    if not account.finished:
        told = f"{len(account.entries)} proposals were judged so far. The same command goes on."
        return "unknown", "Not finished", told
    if not account.accepted:
        told = f"None of {len(account.entries)} proposals passed, so the copy is still the original"
        return "unknown", "Nothing was changed", f"{told}, and its quality is, too."
    if final is None:
        last = account.accepted[-1].verdict
        told = f"Every step that was kept passed on the gate text; after the last, {rise(last)}."
        said = "No final text was given, so there is no verdict on text that was looked at once."
        return "unknown", "No final verdict", f"{told} {said}"
    tone, words = _TONES[final["verdict"]]
    than = f"more than {bound(final, 'lower')}" if tone == "fail" else f"less than {bound(final)}"
    told = f"On the final text, looked at once, {rise(final)}; with {_sure(final)} confidence"
    told = f"{told} the rise is {than}. The margin is {margin}"
    if tone == "unknown":
        reasons = dict.fromkeys(one["why"] for one in final["domains"] if one["why"])
        told = f"{told} This is no pass: {'; '.join(reasons)}."
    return tone, words, told


def rise(verdict: Mapping[str, Any]) -> str:
    """How the loss moved, in the worst domain."""
    return f"the loss moved by {number(verdict['increase'])} nats a token"


def bound(verdict: Mapping[str, Any], side: str = "upper") -> str:
    """A bound of the worst domain."""
    return number(verdict[side])


def number(value: float | None) -> str:
    """A number of nats with its sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+.4f}" if abs(value) < 10 else f"{value:+.3g}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def deleted(one: Deletion) -> str:
    """How many units of a kind went, and in how many layers."""
    count, layers = int(one.removed.sum()), int(one.removed.any(axis=1).sum())
    if not count:
        return f"No {one.kind} of {one.removed.size:,} was deleted."
    return (
        f"{count:,} of {one.removed.size:,} {one.kind}s were deleted ({one.share:.1%}), in"
        f" {layers} of {len(one.removed)} layers."
    )


def nothing(account: ScrubAccount) -> str | None:
    """That nothing was deleted, and why; None where something was."""
    if account.zeroed or any(one.removed.any() for one in account.deletions):
        return None
    prunes = [one for one in account.stages if isinstance(one.stage, Prune)]
    if not prunes:
        return "Nothing was deleted: the recipe has no stage that deletes."
    tries = sum(len(one.entries) for one in prunes)
    return f"Nothing was deleted: none of {tries} proposals to delete passed the gate."


def described(stage: Stage) -> str:
    """A stage in a sentence."""
    match stage:
        case Prune(by=by, units=units, to=to, first=first, least=least, most=most):
            which = f"{units} drawn by chance" if by == "random" else f"the {units} lowest by {by}"
            to_what = "zero" if to == "zero" else "their mean on the text"
            told = (
                f"Sets {which} to {to_what}: first {first:.2%}, then twice as many after a pass and"
                f" halfway back after a failure, in steps of at least {least:.2%}, at most"
                f" {most:.0%}"
            )
        case Noise(scale=scale, times=times):
            told = f"Adds noise of {scale:g} deviations to each matrix, in {_times(times, 'draw')}"
        case Recover(budget=budget, times=times):
            return f"Trains towards the original: {_trained(budget)}, {_times(times, 'time')}."
    recovery = stage.recover
    return f"{told}." if recovery is None else f"{told}; each is followed by {_trained(recovery)}."


def proposed(entry: Entry, stage: Stage) -> str:
    """A proposal in a few words."""
    match stage:
        case Prune(units=units):
            parts = entry.change.get("parts")
            count = f" ({len(parts):,})" if parts else ""
            return f"{entry.share:.2%} of the {units}{count}"
        case Noise():
            return f"draw {entry.number + 1}"
        case Recover():
            return f"training {entry.number + 1}"


def rounded(entry: Entry) -> str | None:
    """What the type of the weights left of a noise, where that was told."""
    told = entry.change.get("rounding")
    return told and (
        f"The weights' own type leaves of the noise {told['stored']:.2g} of {told['asked']:.2g}"
        f" deviations: {told['lost']:.1%} of the weights did not move."
    )


def answer(entry: Entry) -> str:
    """Whether it was accepted, else why not."""
    return "accepted" if entry.accepted else f"rejected: {entry.verdict['verdict']}"


def _margin(account: ScrubAccount) -> str:
    verdict = account.final or (dict(account.entries[0].verdict) if account.entries else None)
    return "" if verdict is None else f"{verdict['margin']:g} nats a token."


def _sure(verdict: Mapping[str, Any]) -> str:
    return f"{100 * (1 - verdict['level']):.3g}%"


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _trained(budget: Budget) -> str:
    return (
        f"{_times(budget.steps, 'step')} of training towards the original (batches of"
        f" {budget.batch_tokens:,} tokens, rate {budget.lr:g})"
    )
