"""The referee's stage of a match: the escrow is opened, the twin cleaned, both models judged."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twinlens.change.change import changed
from twinlens.change.copy import Copy
from twinlens.change.gate import Gate
from twinlens.change.recover import Budget
from twinlens.contest import folder as files
from twinlens.contest.escrow import open_escrow
from twinlens.contest.judgement import Judgement, Rules
from twinlens.contest.recipes import clean, refuse_unfit
from twinlens.contest.referee import judge
from twinlens.contest.saying import fire
from twinlens.contest.secret import Secret
from twinlens.errors import ChangeError, EscrowError
from twinlens.model.load import load
from twinlens.model.model import Model, duplicate
from twinlens.paths import expanded
from twinlens.results.reading import sound
from twinlens.run.batches import Progress
from twinlens.see.question import whole
from twinlens.see.texts import documents

MARGIN, RARE = 0.01, 0.05
_LENGTH = 128


def referee_plays(
    folder: str | Path,
    rules: Rules | None = None,
    *,
    device: str | None = None,
    progress: Progress = None,
) -> dict[str, Any]:
    """Judge what blue did in a match's folder; returns what referee/outcome.json says.

    The escrow is opened first and last. The twin is cleaned by the same recipe and seed. `rules`:
    default `Rules()`; where it was judged before, those by which it was. Raises `EscrowError` where
    the commitment is not kept, or was made to another model; `ChangeError` where a stage is
    missing, or was judged by other rules.
    """
    path, started = expanded(folder), time.monotonic()
    files.read_match(path)
    secret = _opened(path)
    if (path / files.OUTCOME).exists():
        if rules is not None:
            begun = files.read_json(path / files.JUDGEMENT).get("rules")
            files.refuse_other(path, {"rules": begun}, {"rules": rules})
        return files.read_json(path / files.OUTCOME)
    cleaning = _cleaning(path)
    rules = rules or Rules(seed=cleaning["seed"])
    implanted, cleaned, twin = _models(path, device)
    swept = _cleaned_twin(path, twin, cleaning, progress)
    text = documents(path / files.REFEREE_TEXT)
    judgement = judge(
        cleaned, swept, secret, text=text, implanted=implanted, twin_before=twin, rules=rules
    )
    judgement.save(path / files.JUDGEMENT)
    told = _told(path, implanted, cleaned, judgement, text, progress)
    if _opened(path) != secret:
        raise EscrowError(f"{path}: another secret was put in while the referee was at work")
    files.write_json(path / files.OUTCOME, told | {"escrow": "opened, hash agrees"})
    blue = {name: value for name, value in cleaning.items() if name not in ("change", "seconds")}
    files.note(path, "blue", blue, cleaning["seconds"], cleaned=judgement.cleaned)
    files.note(path, "referee", {"rules": rules}, time.monotonic() - started,
               cleaned_twin=judgement.twin)  # fmt: skip
    return files.read_json(path / files.OUTCOME)


def _cleaning(path: Path) -> dict[str, Any]:
    """How blue cleaned, where all of it is told."""
    cleaning = files.read_json(path / files.CLEANING)
    with sound(path / files.CLEANING, ChangeError):
        budget = Budget(**cleaning["budget"])
        refuse_unfit(cleaning["recipe"], cleaning["cost"], cleaning["dose"])
        whole("seed", cleaning["seed"], 0)
        return cleaning | {"budget": asdict(budget), "seconds": float(cleaning["seconds"])}


def _opened(path: Path) -> Secret:
    """The secret that was committed to; what else red wrote of it must agree."""
    secret = open_escrow(path / files.SEALED, path / files.OPENED)
    with sound(path / files.IMPLANT, ChangeError):
        told = Secret.from_plain(files.read_json(path / files.IMPLANT)["secrets"][0])
    if told != secret:
        raise EscrowError(f"{path / files.IMPLANT} tells another secret than was committed to")
    return secret


def _models(path: Path, device: str | None) -> tuple[Model, Model, Model]:
    """The implanted model, the cleaned one, and the twin, where the first is the one that was
    committed to and the second was made from it."""
    implanted = load(path / files.MODEL, device=device)
    with sound(path / files.SEALED, EscrowError):
        committed = files.read_json(path / files.SEALED)["facts"]["weights"]
    if implanted.weights_hash() != committed:
        raise EscrowError(f"{path / files.MODEL} is not the model that was committed to")
    copy = Copy.open(path / files.CLEANED, device=device)
    if copy.steps[0].after != committed:
        raise ChangeError(f"{copy.folder} was not made from {path / files.MODEL}")
    return implanted, copy.model, load(path / files.TWIN, device=device)


def _cleaned_twin(
    path: Path, twin: Model, cleaning: Mapping[str, Any], progress: Progress
) -> Model:
    """The twin after the same recipe with the same seed."""
    change = clean(
        twin, documents(path / files.TEXT), cleaning["recipe"],
        budget=Budget(**cleaning["budget"]), cost=cleaning["cost"], dose=cleaning["dose"],
        seed=cleaning["seed"], progress=progress,
    )  # fmt: skip
    with changed(twin, change):
        swept = duplicate(twin, "cleaned twin")
    files.write_model(path / files.CLEANED_TWIN, swept)
    return swept


def _told(
    path: Path, implanted: Model, cleaned: Model, judgement: Judgement, text: list[str],
    progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """The verdict, what it cost, and what is still said."""
    red = files.read_json(path / files.IMPLANT)
    length = min(_LENGTH, implanted.context or _LENGTH)
    gate = Gate(text, MARGIN, rare=RARE, length=length).of(implanted, progress=progress)
    quality = gate.check(cleaned, progress=progress).to_dict()

    def said(plain: Mapping[str, Any]) -> dict[str, bool]:
        one = Secret.from_plain(plain)
        models = {"before": implanted, "after": cleaned}
        return {n: fire(m, [one.prompt], one.answer)[0].greedy for n, m in models.items()}

    return {
        "verdict": judgement.verdict, "why": judgement.why, "counts": red["check"]["passed"],
        "quality": quality, "benign": said(red["benign"]), "second": said(red["second"]),
        "secrets": {Secret.from_plain(one).prompt: said(one) for one in red["secrets"]},
    }  # fmt: skip
