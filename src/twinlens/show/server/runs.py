"""The runs that are served: opened by name, read anew where their folders changed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from twinlens.errors import InputError, RunFolderError, TwinlensError
from twinlens.results.base import optional
from twinlens.results.storage import plain
from twinlens.show.run_document import average_document, fact_document
from twinlens.show.schema import Document
from twinlens.show.server.replies import NotFoundError
from twinlens.show.server.run_requests import FactPage, FactQuery, FactRow, RunInfo
from twinlens.sweep.store import SweepRun, open_run, state_of
from twinlens.sweep.summary import averaged_lens, summed_up

_DOCUMENTS = TypeAdapter(Document)
_SEARCHED = ("prompt", "subject", "answer", "answer_label", "predicted_label", "id")
_COLUMNS = {"answer": "answer_label", "said": "predicted_label"}


class Runs:
    """Folders of runs by name. No other folder is ever opened, whatever a request says."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)
        self._opened: dict[str, tuple[tuple[int, ...], SweepRun]] = {}
        self._averages: dict[str, tuple[tuple[int, ...], bytes]] = {}
        self._lock = threading.Lock()
        self._averaging = {name: threading.Lock() for name in self._folders}
        for name in self._folders:
            self.find(name)

    def listed(self, served: Mapping[str, str]) -> list[RunInfo]:
        """All runs and how far they are; `served` are names of models by their weights' hash."""
        return [self._told(name, served) for name in self._folders]

    def find(self, name: str) -> SweepRun:
        """A run as its folder is now.

        Raises `NotFoundError` for another name, `RunFolderError` where it cannot be read any more.
        """
        if name not in self._folders:
            known = ", ".join(self._folders) or "none"
            raise NotFoundError(f"there is no run {name[:80]!r} here; there is {known}", "run")
        path = self._folders[name]
        with _reading(path), self._lock:
            state = state_of(path)
            before, run = self._opened.get(name, (None, None))
            if run is None or before != state:
                run = open_run(path)
                self._opened[name] = state, run
            return run

    def facts(self, name: str, query: FactQuery) -> FactPage:
        """The facts that a query keeps, in its order: one page of them."""
        run = self.find(name)
        with _reading(run.path):
            found = _ordered(_kept(run.facts, query), query)
            rows = found.slice(query.offset, query.limit).to_dicts()
        return FactPage(total=len(found), offset=query.offset, facts=[_row(row) for row in rows])

    def fact(self, name: str, fact: int) -> bytes:
        """The JSON of the document of a fact. Raises `NotFoundError` where it has none."""
        run = self.find(name)
        with _reading(run.path):
            try:
                return _DOCUMENTS.dump_json(fact_document(run, fact, name))
            except InputError as error:
                raise NotFoundError(str(error), "fact") from error

    def average(self, name: str) -> bytes:
        """The JSON of the document of the average. Raises `InputError` where nothing is measured.

        Made once for each state of the folder.
        """
        path = self.find(name).path
        with self._averaging[name], _reading(path):
            state = state_of(path)
            before, made = self._averages.get(name, (None, b""))
            if before != state:
                run = open_run(path)  # of its own, so that all cells are let go again
                document = average_document(summed_up(run, top=0), averaged_lens(run), name)
                made = _DOCUMENTS.dump_json(document)
                self._averages[name] = state, made
            return made

    def _told(self, name: str, served: Mapping[str, str]) -> RunInfo:
        told: dict[str, Any] = {"model": "", "data": "", "begun": "", "served": None}
        counts: dict[str, Any] = dict.fromkeys(
            ("facts", "done", "measured", "known", "unknown", "failed"), 0
        )
        problem = None
        try:
            run = self.find(name)
            with _reading(run.path):
                model, facts = run.manifest["model"], run.manifest["facts"]
                told |= {"model": model["name"], "data": facts["name"]}
                told |= {
                    "begun": run.manifest["begun"],
                    "served": served.get(model["weights_hash"]),
                }
                counts |= {k: v for k, v in run.counts().items() if k in counts}
                counts["facts"] = facts["rows"] - facts["rejected"] - facts["repeated"]
        except TwinlensError as error:
            problem = " ".join(str(error).split())
        return RunInfo(name=name, problem=problem, **told, **counts)


def _kept(facts: Any, query: FactQuery) -> Any:
    """The facts that a query keeps (polars)."""
    polars: Any = optional("polars", "sweep")
    if query.search:
        wanted = query.search.lower()
        texts = [polars.col(name).fill_null("").str.to_lowercase() for name in _SEARCHED]
        facts = facts.filter(
            polars.any_horizontal([text.str.contains(wanted, literal=True) for text in texts])
        )
    if query.status in ("measured", "failed"):
        return facts.filter(polars.col("status") == query.status)
    if query.status in ("known", "unknown"):
        return facts.filter(polars.col("known") == (query.status == "known"))
    return facts


def _ordered(facts: Any, query: FactQuery) -> Any:
    """The facts in the order of a query; those that are alike, as in the data set."""
    polars: Any = optional("polars", "sweep")
    by = polars.col(_COLUMNS.get(query.sort, query.sort))
    if query.sort == "effect":
        by = polars.col("clean") - polars.col("corrupted")
    elif query.sort == "status":  # known, unknown, failed
        failed = polars.col("status") == "failed"
        by = polars.when(failed).then(2).when(polars.col("known")).then(0).otherwise(1)
    elif query.sort in ("prompt", "subject", "answer", "said"):
        by = by.str.to_lowercase()
    return facts.sort(
        by, "fact", descending=[query.descending, False], nulls_last=True, maintain_order=True
    )


def _row(row: Mapping[str, Any]) -> FactRow:
    same = {name: row[_COLUMNS.get(name, name)] for name in FactRow.model_fields}
    return FactRow(**plain(same))


@contextlib.contextmanager
def _reading(path: Path) -> Generator[None]:
    """A folder that is damaged or gone is a refusal, not a failure of the server."""
    arrow: Any = optional("pyarrow", "sweep")
    try:
        yield
    except (OSError, arrow.ArrowException) as error:
        raise RunFolderError(f"{path.name} cannot be read: {error}") from error
