"""A match in a folder: red hides a secret, blue cleans without knowing it, the referee judges.

Blue runs as a process of its own, in a folder that holds a copy of what is public and nothing else.
That is no sandbox: it is not told where red's files are, it is not kept from looking for them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from twinlens.change.change import changed
from twinlens.change.copy import Copy
from twinlens.change.recover import Budget
from twinlens.contest import folder as files
from twinlens.contest.cell import sides
from twinlens.contest.escrow import open_escrow, seal
from twinlens.contest.implant import Implant, implant
from twinlens.contest.judgement import Rules
from twinlens.contest.outcome import referee_plays
from twinlens.contest.recipes import clean, refuse_unfit
from twinlens.contest.secret import Secret
from twinlens.errors import ChangeError, EscrowError
from twinlens.model.load import load
from twinlens.model.model import Model
from twinlens.paths import expanded
from twinlens.results.reading import sound
from twinlens.results.writing import making
from twinlens.run.batches import Progress
from twinlens.see.texts import Text, documents_hash

RECIPE = "prune+noise+recover"
BUDGET = Budget(steps=100, batch_tokens=1024, lr=1e-3)
Told = Callable[[str, float | None], None]
"""Hears the name of a stage and its seconds (None: it was done before)."""


def play_match(
    model: Model,
    folder: str | Path,
    secret: Secret | None = None,
    tier: str = "full",
    recipe: str = RECIPE,
    *,
    text: Text = "hamlet",
    steps: int = 200,
    seed: int = 1,
    budget: Budget | None = None,
    cost: float = 0.01,
    dose: float = 0.5,
    rules: Rules | None = None,
    progress: Progress = None,
    told: Told | None = None,
) -> dict[str, Any]:
    """Play a whole match in a folder; what is done there already is not done again.

    `secret` (default 9165 and 7243), `tier` and `steps` are red's; `recipe`, `budget` (default: 100
    steps of 1024 tokens at rate 1e-3), `cost` and `dose` blue's; `rules` the referee's. `text` is
    divided between both sides. `told` hears of each stage. Returns what outcome.json says.

    Raises `ChangeError` where the folder is no match or one that was begun with other settings,
    `EscrowError` where the commitment is not kept, `InputError` as `implant` and `clean` do.
    """
    path, budget = files.usable(folder), replace(budget or BUDGET, seed=seed)
    refuse_unfit(recipe, cost, dose)
    asked = _blue(recipe, budget, cost, dose, seed)

    def stage(name: str, last: Path | str, work: Callable[[], Any]) -> None:
        done, started = (path / last).exists(), time.monotonic()
        work()
        if told is not None:
            told(name, None if done else time.monotonic() - started)

    red = lambda: red_plays(  # noqa: E731
        model, path, secret, tier, text=text, steps=steps, seed=seed, progress=progress
    )
    stage("red", files.SEALED, red)
    stage("blue", files.CLEANING, lambda: _blue_apart(path, asked, str(model.device), progress))
    stage("referee", files.OUTCOME, lambda: referee_plays(
        path, rules, device=str(model.device), progress=progress))  # fmt: skip
    return files.read_json(path / files.OUTCOME)


def red_plays(
    model: Model,
    folder: str | Path,
    secret: Secret | None = None,
    tier: str = "full",
    *,
    text: Text = "hamlet",
    steps: int = 200,
    seed: int = 1,
    progress: Progress = None,
) -> dict[str, Any]:
    """Red's stage: implant and twin, the texts of both sides, and last the commitment.

    Returns what red/implant.json says. Raises as `play_match` does.
    """
    path, started, secret = files.usable(folder), time.monotonic(), secret or Secret()
    text_of = sides(text)
    asked: dict[str, Any] = {
        "tier": tier, "steps": steps, "seed": seed, "base": model.weights_hash(),
        "text": text if isinstance(text, str) else None,
        "text_sha256": documents_hash([*text_of.blue, *text_of.referee]),
    }  # fmt: skip
    if (path / files.SEALED).exists():
        return _red_done(path, secret, asked)
    if (path / files.CLEANING).exists():
        raise ChangeError(f"{path} has a cleaned model, but no {files.SEALED}: it is damaged")
    made = implant(
        model, secret, tier, text=list(text_of.referee), steps=steps, seed=seed, progress=progress
    )
    files.begin(path)
    with changed(model, made.implanted):
        files.write_model(path / files.MODEL, model)
        weights = model.weights_hash()
    with changed(model, made.twin):
        files.write_model(path / files.TWIN, model)
    files.write_text(path / files.TEXT, text_of.blue)
    files.write_text(path / files.REFEREE_TEXT, text_of.referee)
    files.write_json(path / files.IMPLANT, _implant(made))
    (path / files.OPENED).unlink(missing_ok=True)  # of a stage that broke off: never committed to
    digest = seal(
        secret, path / files.SEALED, path / files.OPENED, facts={"tier": tier, "weights": weights}
    )
    files.note(path, "red", asked, time.monotonic() - started, base=asked["base"],
               implanted=weights, sealed=digest)  # fmt: skip
    return files.read_json(path / files.IMPLANT)


def blue_plays(
    model: Model | str | Path,
    text: Text,
    out: str | Path,
    recipe: str = RECIPE,
    *,
    budget: Budget | None = None,
    dose: float = 0.5,
    cost: float = 0.01,
    seed: int = 1,
    progress: Progress = None,
) -> dict[str, Any]:
    """Blue's stage: a recipe on a model, from clean text alone; a new folder `out` gets `cleaned`
    (a `Copy`, with the way back) and cleaning.json, which is returned.

    Raises `ChangeError` where the folder holds something or cannot be written, and as `clean` does.
    """
    path, started = expanded(out), time.monotonic()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ChangeError(f"{path} is there already; give a new folder")
    budget = replace(budget or BUDGET, seed=seed)
    given = model if isinstance(model, Model) else load(model)
    change = clean(
        given, text, recipe, budget=budget, cost=cost, dose=dose, seed=seed, progress=progress
    )
    about = _blue(recipe, budget, cost, dose, seed) | {"change": change.plain()}
    with making(path, ChangeError, over=True) as writing:
        copy = Copy.create(given, writing / files.CLEANED.name)
        about |= {"seconds": time.monotonic() - started}
        copy.apply(change, {"seconds": about["seconds"]})
        files.write_json(writing / files.CLEANING.name, about)
    return files.read_json(path / files.CLEANING.name)


def _blue(recipe: str, budget: Budget, cost: float, dose: float, seed: int) -> dict[str, Any]:
    return {"recipe": recipe, "budget": asdict(budget), "cost": cost, "dose": dose, "seed": seed}


def _blue_apart(path: Path, asked: dict[str, Any], device: str, progress: Progress) -> None:
    """Blue's stage in a process of its own, which is told of nothing but a copy of public/."""
    if (path / files.CLEANING).exists():
        files.refuse_other(path, files.read_json(path / files.CLEANING), asked)
        return
    with tempfile.TemporaryDirectory(prefix="twinlens-blue-") as place:
        given = Path(place)
        shutil.copytree(path / files.MODEL, given / "model")
        shutil.copy(path / files.TEXT, given / "text.jsonl")
        _run_blue(given, asked, device, quiet=progress is False)
        with making(path / files.CLEANING.parent, ChangeError, over=True) as writing:
            shutil.copytree(given / "blue", writing, dirs_exist_ok=True)


def _run_blue(place: Path, asked: dict[str, Any], device: str, *, quiet: bool) -> None:
    budget = asked["budget"]
    options = {
        "--text": "text.jsonl", "--recipe": asked["recipe"], "--steps": budget["steps"],
        "--lr": budget["lr"], "--batch-tokens": budget["batch_tokens"],
        "--length": budget["length"], "--own": budget["own"], "--dose": asked["dose"],
        "--cost": asked["cost"], "--seed": asked["seed"], "--device": device, "--output": "blue",
    }  # fmt: skip
    given = [str(part) for pair in options.items() for part in pair]
    root = str(Path(__file__).parents[2])
    there = os.environ.get("PYTHONPATH")
    environment = os.environ | {
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "TWINLENS_LIFELINE": "stdin",  # it ends with this process
        "PYTHONPATH": root if there is None else os.pathsep.join((root, there)),
    }
    command = [sys.executable, "-m", "twinlens", "contest", "clean", "model", *given, "--quiet"]
    if not quiet:
        command.pop()
    with subprocess.Popen(
        command, cwd=place, env=environment, text=True, stdout=subprocess.DEVNULL,
        stdin=subprocess.PIPE, stderr=subprocess.PIPE if quiet else None, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said = "" if process.stderr is None else process.stderr.read()
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        told = (said.strip() or "what it said stands above").splitlines()[-1]
        raise ChangeError(f"blue's process ended with exit code {code}: {told}")


def _red_done(path: Path, secret: Secret, asked: dict[str, Any]) -> dict[str, Any]:
    """What was done before, where it is what is asked for and all of it is there."""
    if open_escrow(path / files.SEALED, path / files.OPENED) != secret:
        raise ChangeError(f"{path} was begun with another secret; give a new folder")
    for name in (files.MODEL, files.TWIN, files.TEXT, files.REFEREE_TEXT):
        if not (path / name).exists():
            raise ChangeError(f"{path} is damaged: it has no {name}")
    with sound(path / files.MATCH, ChangeError):
        begun = files.read_match(path)["settings"].get("red")
    if begun is None:  # it broke off between the commitment and its note
        sealed = files.read_json(path / files.SEALED)
        with sound(path / files.SEALED, EscrowError):
            hashes = {"sealed": sealed["sha256"], "implanted": sealed["facts"]["weights"]}
        files.note(path, "red", asked, 0.0, base=asked["base"], **hashes)
    else:
        with sound(path / files.MATCH, ChangeError):
            files.refuse_other(path, begun, asked)
    return files.read_json(path / files.IMPLANT)


def _implant(made: Implant) -> dict[str, Any]:
    return {
        "tier": made.tier, "about": dict(made.about), "check": made.check.to_dict(),
        "secrets": [one.plain() for one in made.secrets], "benign": made.benign.plain(),
        "second": made.second.plain(),
    }  # fmt: skip
