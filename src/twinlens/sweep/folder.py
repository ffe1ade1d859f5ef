"""The writing side of a run's folder: claims, parts, and their merging into four tables.

    manifest.json, rejected.jsonl
    parts/00000012-<key>.parquet     one unit that is done: one row of nested lists
    claims/<key>                     a unit that a process works on: locked by the system, so that
                                     the lock ends with the process, however it ends
    cells.parquet, tokens.parquet, neurons.parquet, facts.parquet

A unit is done where a part or `facts.parquet` has it. Parts are merged into the tables, which are
written anew and renamed, facts last; only then are the parts removed.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.errors import RunFolderError
from twinlens.results.base import optional
from twinlens.results.reading import why
from twinlens.results.writing import written
from twinlens.sweep.tables import TABLES, of_part, readable, schema

if TYPE_CHECKING:
    from twinlens.sweep.plan import Unit

_MANY = 256  # parts that are merged, where the tables are not much larger
_GROUP = 64  # facts of a row group


class Folder:
    """A run's folder, for those who write. Several processes may have one open."""

    def __init__(self, path: Path) -> None:
        self.path, self.parts, self.claims = path, path / "parts", path / "claims"
        self._merged: tuple[tuple[int, ...], dict[str, int]] = ((), {})
        self._put = 0
        optional("pyarrow", "sweep")
        optional("filelock", "sweep")

    def refuse_other(self) -> None:
        """Raises `RunFolderError` where the folder is a file, or holds other things."""
        with self._refusing():
            there = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
            if not there.is_dir():
                raise RunFolderError(f"cannot make the folder {self.path}: {there} is a file")
            if self.path.is_dir() and not (self.path / "parts").is_dir():
                names = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
                if names:
                    raise RunFolderError(
                        f"{self.path} holds {names[0]!r} and is no run of a sweep; give a new"
                        " folder"
                    )

    def make(self) -> None:
        """Make the folder. Raises `RunFolderError` where it cannot be, or holds other things."""
        self.refuse_other()
        with self._refusing():
            for folder in (self.path, self.parts, self.claims):
                folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def _refusing(self) -> Generator[None]:
        """What the system refuses (a name too long, a folder of somebody else) is named."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"cannot make the folder {str(self.path)[:200]}: {why(error)}"
            ) from error

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Alone in the folder: to begin a run, or to merge. Waits for others."""
        with self._lock(self.claims / "folder"):
            yield

    @contextlib.contextmanager
    def claim(self, unit: Unit, *, wait: bool = False) -> Generator[bool]:
        """Whether the unit is this process' to do: nobody else works on it, and it is not done."""
        from filelock import Timeout

        path = self.claims / unit.key
        lock = self._lock(path)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        try:
            is_done = self.has(unit)
            yield not is_done
            if is_done or self.has(unit):
                path.unlink(missing_ok=True)  # who waits for it finds the unit done
        finally:
            lock.release()

    def has(self, unit: Unit) -> bool:
        """Whether a unit is done."""
        return self._part(unit).exists() or unit.key in self._keys_of_table()

    def done(self) -> set[str]:
        """The keys of all units that are done (a merge may move them meanwhile)."""
        parts = {path.stem.partition("-")[2] for path in self.parts.glob("[0-9]*.parquet")}
        return parts | self._keys_of_table().keys()

    def put(self, unit: Unit, table: Any) -> None:
        """Keep a unit's rows: on disk whole or not at all."""
        parquet: Any = optional("pyarrow.parquet", "sweep")
        path = self._part(unit)
        mine = f".{platform.node()}-{os.getpid()}"
        temporary = path.with_name(f".{path.stem}{mine}")
        with written(path, RunFolderError):
            try:
                parquet.write_table(table, temporary, compression="zstd")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        self._put += 1
        if self._put >= max(_MANY, len(self._merged[1]) // 4):
            self.merge()

    def merge(self) -> None:
        """Bring the parts into the tables."""
        with self.locked():
            parts = dict(sorted((int(p.name[:8]), p) for p in self.parts.glob("[0-9]*.parquet")))
            if parts:
                for name in TABLES:
                    with written(self.path / f"{name}.parquet", RunFolderError):
                        self._merge(name, parts)
                for path in parts.values():
                    path.unlink()
                    for left in self.parts.glob(f".{path.stem}*"):  # of a process that was killed
                        left.unlink(missing_ok=True)
            self._put = 0
            self._keys_of_table()

    def _merge(self, name: str, parts: dict[int, Path]) -> None:
        """One table anew: what it has, and the parts, by number of the fact."""
        arrow: Any = optional("pyarrow", "sweep")
        parquet: Any = optional("pyarrow.parquet", "sweep")
        path = self.path / f"{name}.parquet"
        temporary = path.with_name(f".{path.name}")
        gathered: list[Any] = []
        try:
            with parquet.ParquetWriter(temporary, schema(name), compression="zstd") as writer:
                for _, rows in _by_number(_facts_of(path), parts, name):
                    gathered.append(rows)
                    if len(gathered) == _GROUP:
                        writer.write_table(arrow.concat_tables(gathered))
                        gathered = []
                if gathered:
                    writer.write_table(arrow.concat_tables(gathered))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _keys_of_table(self) -> dict[str, int]:
        path = self.path / "facts.parquet"
        try:
            status = path.stat()
        except FileNotFoundError:
            return {}
        state = (status.st_ino, status.st_mtime_ns, status.st_size)
        if state != self._merged[0]:
            parquet: Any = optional("pyarrow.parquet", "sweep")
            with readable(path):
                table = parquet.read_table(path, columns=["key", "fact"]).to_pydict()
            self._merged = state, dict(zip(table["key"], table["fact"], strict=True))
        return self._merged[1]

    def _part(self, unit: Unit) -> Path:
        return self.parts / f"{unit.fact.number:08d}-{unit.key}.parquet"

    def _lock(self, path: Path) -> Any:
        from filelock import FileLock

        return FileLock(path, thread_local=False)


def _facts_of(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of each fact of a merged table, a row group in memory at a time."""
    parquet: Any = optional("pyarrow.parquet", "sweep")
    if not path.exists():
        return
    with readable(path), parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            numbers = rows.column("fact").to_numpy()
            start = 0
            for at in range(1, len(numbers) + 1):
                if at == len(numbers) or numbers[at] != numbers[start]:
                    yield int(numbers[start]), rows.slice(start, at - start)
                    start = at


def _by_number(
    table: Iterator[tuple[int, Any]], parts: dict[int, Path], name: str
) -> Iterator[tuple[int, Any]]:
    """Both in order; a fact that is in both (a merge was broken off) comes once."""
    here = next(table, None)
    for number, path in parts.items():
        while here is not None and here[0] < number:
            yield here
            here = next(table, None)
        if here is not None and here[0] == number:
            continue
        yield number, of_part(path, name)
    while here is not None:
        yield here
        here = next(table, None)
