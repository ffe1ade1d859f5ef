"""A tournament: tiers of red x recipes of blue x seeds, each cell a file; the same call goes on.

    tournament.json                 what is played: all settings and the base's hash
    cells/full-3-prune+noise.json   a cell that is done
    implants/full-3.json            an implant with its check
    claims/full-3                   an implant that a process works on; the lock ends with it

An implant and all its cells are one unit of work. Several processes may play one folder, and the
workers of a Ray cluster (`Cluster`, as in a sweep) that share it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tomllib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinlens.change.recover import Budget
from twinlens.contest.cell import LIGHT, Entrant, Sides, played, sides
from twinlens.contest.implant import implant
from twinlens.contest.judgement import Rules
from twinlens.contest.secret import random_secret
from twinlens.contest.tiers import TIERS
from twinlens.errors import RunFolderError, SettingsError, TwinlensError
from twinlens.model.load import load
from twinlens.model.model import Model
from twinlens.paths import expanded
from twinlens.results.base import optional
from twinlens.results.reading import read_object, sound, why
from twinlens.results.storage import plain
from twinlens.results.writing import replacing
from twinlens.see.question import whole
from twinlens.see.texts import documents, documents_hash
from twinlens.sweep.cluster import Cluster
from twinlens.sweep.plan import computing

_FILE = "tournament.json"
_DEFAULT = ("prune", "noise", "prune+noise", "prune+noise+recover", "fine-tune", "wanda", "oracle")
Told = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Tournament:
    """What is played: every tier with every entrant on `seeds` implants.

    `text`: clean text of both sides (a file or "hamlet"); `steps` of red's training; `rules` of the
    referee; `threads` that each process computes with. Raises `SettingsError` for what cannot be.
    """

    tiers: tuple[str, ...] = ("full", "late", "robust")
    entrants: tuple[Entrant, ...] = tuple(Entrant(name=one, recipe=one) for one in _DEFAULT)
    seeds: int = 20
    first_seed: int = 1
    text: str = "hamlet"
    steps: int = 200
    rules: Rules = field(default_factory=lambda: LIGHT)
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.tiers or not self.entrants:
            raise SettingsError("a tournament needs a tier and a recipe at least")
        for one in self.tiers:
            if one not in TIERS:
                raise SettingsError(f"tier={one!r} is not known; choose of {', '.join(TIERS)}")
        names = [one.name for one in self.entrants]
        if len(set(names)) < len(names) or len(set(self.tiers)) < len(self.tiers):
            raise SettingsError("two recipes, or two tiers, have one name")
        for name in ("seeds", "first_seed", "steps", "threads"):
            whole(name, getattr(self, name), 1)

    @property
    def units(self) -> list[tuple[str, int]]:
        """Tier and seed of each implant, the tiers in turn."""
        seeds = range(self.first_seed, self.first_seed + self.seeds)
        return [(tier, seed) for seed in seeds for tier in self.tiers]

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.units) * len(self.entrants)


def tournament_of(given: Mapping[str, Any] | str | Path) -> Tournament:
    """A tournament from plain values or a TOML file: `tiers`, `seeds`, `text`, `steps`, `[budget]`
    of all recipes, `[rules]`, and `[[recipe]]` tables with `name`, `recipe` (default: the name),
    `cost`, `dose` and `budget`; or `recipes`, a list of names.

    Raises `SettingsError` with the place of what does not fit.
    """
    where = "the tournament"
    if isinstance(given, str | Path):
        where, given = str(given), _read(Path(given))
    values = dict(given)
    if not values:
        raise SettingsError(
            f'{where} is empty; write what is played, e.g. recipes = ["noise"] and seeds = 5'
        )
    named = {one.name for one in dataclasses.fields(Tournament)} - {"entrants"}
    known = sorted(named | {"budget", "recipe", "recipes"})
    if other := sorted(set(values) - set(known)):
        raise SettingsError(f"{where}: {other[0]!r} is not known; expected {', '.join(known)}")
    try:
        common = dict(values.pop("budget", {}))
        listed = [{"name": one} for one in values.pop("recipes", ())]
        entrants = [*listed, *values.pop("recipe", ())] or [{"name": one} for one in _DEFAULT]
        values["entrants"] = tuple(_entrant(one, common) for one in entrants)
        if "rules" in values:
            values["rules"] = Rules.from_plain(dataclasses.asdict(LIGHT) | dict(values["rules"]))
        if "tiers" in values:
            values["tiers"] = tuple(values["tiers"])
        return Tournament(**values)
    except (TypeError, AttributeError, TwinlensError) as error:
        raise SettingsError(f"{where}: {why(error)}") from error


def run_tournament(
    model: Model | Cluster,
    tournament: Tournament,
    folder: str | Path,
    *,
    told: Told | None = None,
) -> Path:
    """Play what is not played yet, in a folder; returns it. `told` hears of each cell.

    The base `model` is never changed. With a `Cluster` its workers play; the folder must be one
    that all machines see. Raises `RunFolderError` where the folder is of another tournament or
    cannot be written, and what `implant` and `clean` raise.
    """
    path = expanded(folder)
    if isinstance(model, Cluster):
        return _on_cluster(model, tournament, path, told)
    _begin(path, tournament, model)
    text = sides(tournament.text)
    with computing(tournament.threads):
        for wait in (False, True):  # then what others have claimed, where they left it
            for tier, seed in tournament.units:
                _unit(model, tournament, text, path, (tier, seed), told, wait=wait)
    return path


def read_cells(folder: str | Path) -> list[dict[str, Any]]:
    """The cells that are done, in order of tier, seed and recipe. Raises `RunFolderError` where the
    folder is no tournament."""
    path = expanded(folder)
    about = read_about(path)
    paths = sorted((path / "cells").glob("[!.]*.json"))
    found = [read_object(one, RunFolderError) for one in paths]
    with sound(path, RunFolderError):
        order = [one["name"] for one in about["entrants"]]
        tiers = list(about["tiers"])
        return sorted(
            found,
            key=lambda one: (tiers.index(one["tier"]), one["seed"], order.index(one["recipe"])),
        )


def read_about(folder: str | Path) -> dict[str, Any]:
    """What is played in a folder. Raises `RunFolderError` where it is no tournament."""
    path = expanded(folder) / _FILE
    if not path.is_file():
        raise RunFolderError(f"{path.parent} is no folder of a tournament: it has no {_FILE}")
    return read_object(path, RunFolderError)


def _unit(
    model: Model,
    tournament: Tournament,
    text: Sides,
    path: Path,
    unit: tuple[str, int],
    told: Told | None,
    *,
    wait: bool,
) -> None:
    """An implant and those of its cells that are not done."""
    tier, seed = unit
    files = {one.name: path / "cells" / f"{tier}-{seed}-{one.name}.json"
             for one in tournament.entrants}  # fmt: skip
    if all(file.exists() for file in files.values()):
        return
    with _claimed(path / "claims" / f"{tier}-{seed}", wait=wait) as mine:
        if not mine or all(file.exists() for file in files.values()):
            return
        secret = random_secret(seed)
        red = implant(
            model, secret, tier, text=list(text.referee), steps=tournament.steps, seed=seed,
            progress=False,
        )  # fmt: skip
        check = red.check.to_dict()
        about = {"tier": tier, "seed": seed, "secret": secret.plain(), "check": check}
        _write(path / "implants" / f"{tier}-{seed}.json", about)
        for entrant in tournament.entrants:
            if files[entrant.name].exists():
                continue
            made = played(model, red, entrant, text, seed=seed, rules=tournament.rules,
                          progress=False)  # fmt: skip
            cell = {"tier": tier, "seed": seed, "recipe": entrant.name, "counts": red.check.passed,
                    "adaptive": TIERS[tier].adaptive, "blind": entrant.blind, **made}  # fmt: skip
            _write(files[entrant.name], cell)
            if told is not None:
                told(cell)


def _on_cluster(cluster: Cluster, tournament: Tournament, path: Path, told: Told | None) -> Path:
    """Implants as tasks; a lost one is begun again by Ray, and its cells that are done stay."""
    from twinlens.sweep.joining import joined_cluster

    with joined_cluster(cluster) as ray:
        source, options = cluster.source, dict(cluster.load)
        _begin(path, tournament, load(source, **options))
        task = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=3)(_task)
        running = [
            task.remote(source, options, tournament, str(path), unit) for unit in tournament.units
        ]
        while running:
            done, running = ray.wait(running, num_returns=1)
            for cell in ray.get(done[0]):
                if told is not None:
                    told(cell)
    return path


def _task(
    source: str, options: Mapping[str, Any], tournament: Tournament, path: str,
    unit: tuple[str, int],
) -> list[Mapping[str, Any]]:  # fmt: skip
    cells: list[Mapping[str, Any]] = []
    with computing(tournament.threads):
        _unit(load(source, **options), tournament, sides(tournament.text), Path(path), unit,
              cells.append, wait=True)  # fmt: skip
    return cells


def _begin(path: Path, tournament: Tournament, model: Model) -> None:
    text = documents_hash(documents(tournament.text))
    asked = plain(tournament) | {"base": model.weights_hash(), "text_hash": text}
    asked = json.loads(json.dumps(asked))
    try:
        for folder in ("cells", "implants", "claims"):
            (path / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot make {path}: {error.strerror or error}") from error
    if not (path / _FILE).exists():
        _write(path / _FILE, asked)
        return
    begun = read_about(path)
    same = {name: asked[name] for name in asked if name not in ("seeds", "threads")}
    other = [name for name, value in same.items() if begun.get(name) != value]
    if other:
        raise RunFolderError(f"{path} was begun with another {other[0]}; give a new folder")
    with sound(path / _FILE, RunFolderError):
        more = asked["seeds"] > begun["seeds"]
    if more:  # more implants may join
        _write(path / _FILE, asked)


@contextlib.contextmanager
def _claimed(path: Path, *, wait: bool) -> Generator[bool]:
    locks: Any = optional("filelock", "sweep")
    lock = locks.FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except locks.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _entrant(given: Any, common: Mapping[str, Any]) -> Entrant:
    values = dict(given)
    if "name" not in values and "recipe" in values:
        values["name"] = values["recipe"]
    values.setdefault("recipe", values.get("name"))
    budget = Budget(**{**common, **values.pop("budget", {})})
    return Entrant(budget=budget, **values)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(expanded(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"the tournament {path} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"the tournament {path} cannot be read: {why(error)}") from error


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain(dict(content)), indent=1) + "\n", encoding="utf-8")
