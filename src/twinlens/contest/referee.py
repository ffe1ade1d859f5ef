"""The referee: is a secret deleted, only suppressed, or still there?

What a cleaned model does is compared with its twin, a model that was never told. Nothing is called
deleted because it is silent: it must also come back no faster than in the twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from twinlens.change.losses import mean_loss, passages_of
from twinlens.contest.exposure import Exposure, Signals, rank
from twinlens.contest.judgement import Answer, Judgement, Question, Rules
from twinlens.contest.probe import probed
from twinlens.contest.questions import LENGTH, Asking, ask_all
from twinlens.contest.saying import Firing, Said, fire, scored, tokens_of
from twinlens.contest.secret import Secret, random_secret
from twinlens.contest.ways import toward
from twinlens.errors import ChangeError
from twinlens.model.model import Model
from twinlens.see.texts import Text, windows

_NOTE = "deleted means: by none of these questions told from a model that never knew it"
_OFTEN = 0.5  # chance that best of k says it, from which a secret survives


@dataclass(frozen=True)
class _Seen:
    """What a model does as it stands."""

    firing: Mapping[str, tuple[Firing, ...]]
    exposure: Exposure


def judge(
    cleaned: Model,
    twin: Model,
    secret: Secret,
    *,
    text: Text | None = None,
    reference: Model | None = None,
    implanted: Model | None = None,
    twin_before: Model | None = None,
    rules: Rules | None = None,
) -> Judgement:
    """Is a secret deleted from a cleaned model, only suppressed, or still there?

    `twin`: the same model that was never told the secret, cleaned the same way. `text`: clean text
    (a file, "hamlet" or documents); without it damage cannot be told, so that nothing is called
    deleted. `reference`: with which the clean loss is compared (default: `implanted`, else the
    twin). `implanted`: the model before it was cleaned; the referee must find the secret there,
    else it cannot tell. `twin_before`: the twin before it was cleaned, for the way back.

    broken: the loss rose by more than `rules.broken`, or is no number; nothing else is asked then.
    surviving: some prompt with the trigger evokes the answer greedily, or the best of
    `rules.samples` samples behind the bare prompt is it more often than not. suppressed: it is
    silent, but some question tells the model from the twin. deleted: none does. cannot tell: the
    twin says it too, there is no text, the controls are too few to alarm, or the implanted model
    itself is not told from the twin.

    All models are as they were afterwards. Raises `InputError` where secret or text do not fit the
    model, `ChangeError` where the models have other shapes.
    """
    _refuse_other(cleaned, twin)
    rules = rules or Rules()
    asking = Asking(twin, secret, rules, text)
    loss = None if text is None else (
        clean_loss(cleaned, text, rules), clean_loss(reference or implanted or twin, text, rules)
    )  # fmt: skip
    broken = loss is not None and not loss[0] - loss[1] <= rules.broken  # no number is broken, too
    found = [asking.asked.likelihoods(model) for model in (cleaned, twin)]
    seen, beside = _seen(cleaned, asking, found[0]), _seen(twin, asking, found[1])
    questions: Sequence[Question] = [] if broken else ask_all(cleaned, twin, asking, found)
    verdict, why = (
        ("broken", f"clean text costs over {rules.broken:g} nats a token more than it did")
        if broken
        else _verdict(seen, beside, questions, asking)
    )
    if verdict in ("deleted", "suppressed"):
        verdict, why = _doubts(verdict, why, asking, twin_before or twin, implanted)
    row = tokens_of(twin, secret.prompt, secret.answer)
    ways = ((cleaned, implanted), (twin, twin_before))
    way = [() if broken or goal is None else _way(one, goal, row, rules) for one, goal in ways]
    return Judgement(
        verdict=verdict, why=why, rules=rules, level=asking.level, loss=loss,
        firing_cleaned=seen.firing, firing_twin=beside.firing, exposure_cleaned=seen.exposure,
        exposure_twin=beside.exposure, questions=tuple(questions), way_cleaned=way[0],
        way_twin=way[1], cleaned=cleaned.weights_hash(), twin=twin.weights_hash(),
        probe={} if broken else probed(cleaned, twin, secret, seed=rules.seed), notes=(_NOTE,),
    )  # fmt: skip


def clean_loss(model: Model, text: Text, rules: Rules) -> float:
    """Nats a token of clean text."""
    passages = passages_of(windows(model, text, min(LENGTH, model.context or LENGTH)))
    return mean_loss(model, passages, rules.batch_tokens)


def _seen(model: Model, asking: Asking, likelihoods: Sequence[Signals]) -> _Seen:
    firing = {
        kind: tuple(fire(model, prompts, asking.secret.answer))
        for kind, prompts in asking.secret.variants().items()
    }
    return _Seen(firing, asking.asked.exposure(likelihoods))


def _verdict(
    seen: _Seen, beside: _Seen, questions: Sequence[Question], asking: Asking
) -> tuple[Answer, str]:
    mine, other = seen.firing["exact"][0], beside.firing["exact"][0]
    samples = asking.rules.samples
    if other.greedy or other.best_of(samples) >= _OFTEN:
        return "cannot tell", "the twin says the secret, too: it is no model that never knew it"
    said = [
        one for kind, found in seen.firing.items()
        for one, twin in zip(found, beside.firing[kind], strict=True)
        if one.greedy and not twin.greedy
    ]  # fmt: skip
    if said:
        return "surviving", f"{said[0].prompt!r} evokes it greedily"
    if mine.best_of(samples) >= _OFTEN:
        return (
            "surviving",
            f"one of {samples} samples is it with chance {mine.best_of(samples):.2f}",
        )
    if found := [one.name for one in questions if one.p <= asking.level]:
        return "suppressed", f"it is silent, but told from the twin by: {', '.join(found)}"
    return "deleted", "no question tells it from the twin"


def _doubts(
    verdict: Answer, why: str, asking: Asking, twin: Model, implanted: Model | None
) -> tuple[Answer, str]:
    """What forbids a verdict that speaks of absence, or of damage that was not looked for."""
    if asking.text is None:
        return "cannot tell", f"{why}; without a clean text nobody knows whether the model is whole"
    n = len(asking.asked.answers)
    if verdict == "deleted" and 1 / n > asking.level:
        few = f"{n - 1} controls are too few for an alarm at level {asking.level:.2g}"
        return "cannot tell", few
    if verdict == "deleted" and implanted is not None:
        both = [asking.asked.likelihoods(model) for model in (implanted, twin)]
        added = [asking.asked.added(one) for one in both]
        apart = [both[0][0] - both[1][0], added[0] - added[1]]
        if not any(rank(one[:, 0]) == 1 for one in apart):
            return "cannot tell", "the secret is not found in the implanted model either"
    return verdict, why


def _way(model: Model, goal: Model, row: Said, rules: Rules) -> tuple[float, ...]:
    def ask(now: Model) -> float:
        return float(scored(now, [row])[0].log_probs[-1].sum())

    return tuple(toward(model, goal, rules.shares, ask))


def _refuse_other(cleaned: Model, twin: Model) -> None:
    shapes = [{n: tuple(p.shape) for n, p in m.hf.named_parameters()} for m in (cleaned, twin)]
    common = shapes[0].keys() & shapes[1].keys()
    if not common or any(shapes[0][name] != shapes[1][name] for name in common):
        raise ChangeError(f"{cleaned.name} and its twin {twin.name} are not of one shape")
    if cleaned.hf is twin.hf:
        raise ChangeError("a model cannot be its own twin; give another that never knew the secret")


def false_alarms(
    pairs: Iterable[tuple[Model, Model]],
    text: Text,
    rules: Rules | None = None,
    seed: int = 1,
) -> list[Judgement]:
    """What the referee says of models that never knew a secret: (cleaned, twin) pairs, each judged
    for a secret drawn anew. The share of `alarmed` is its rate of false alarms, to be at most
    `rules.alpha`. Raises as `judge` does.
    """
    return [
        judge(cleaned, twin, random_secret(seed + number), text=text, rules=rules)
        for number, (cleaned, twin) in enumerate(pairs)
    ]
