"""A run's folder where the disk is full or memory runs out."""

from __future__ import annotations

import pytest

from twinlens.errors import RunFolderError
from twinlens.sweep.facts import Fact
from twinlens.sweep.folder import Folder
from twinlens.sweep.plan import Unit
from twinlens.sweep.tables import TABLES, part, read_table, readable

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def folder(tmp_path) -> Folder:
    """With two units that are done."""
    made = Folder(tmp_path / "run")
    made.make()
    for number in range(2):
        unit = Unit(f"key{number}", Fact(number, number + 1, "", "The cat sat", "cat"), 3)
        made.put(unit, part({"facts": {"fact": [number], "key": [unit.key]}}))
    return made


def names(folder: Folder) -> set[str]:
    return {path.name for path in folder.path.iterdir()}


def test_a_merge_on_a_full_disk_leaves_the_parts_and_nothing_half_written(folder, monkeypatch):
    before, write = names(folder), parquet.ParquetWriter.write_table

    def full(writer, table, *args):
        write(writer, table, *args)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(parquet.ParquetWriter, "write_table", full)
        with pytest.raises(RunFolderError, match=r"cells\.parquet: No space left on device"):
            folder.merge()
    assert names(folder) == before
    assert folder.done() == {"key0", "key1"}
    folder.merge()
    assert names(folder) == before | {f"{table}.parquet" for table in TABLES}
    assert read_table(folder.path / "facts.parquet", "facts")["fact"].to_pylist() == [0, 1]


def test_a_table_is_not_damaged_where_memory_is_short(tmp_path):
    with pytest.raises(MemoryError, match="malloc"), readable(tmp_path):
        raise arrow.ArrowMemoryError("malloc of size 64 failed")
    with pytest.raises(RunFolderError, match="is damaged: no magic bytes"), readable(tmp_path):
        raise arrow.ArrowInvalid("no magic bytes")
    with pytest.raises(RunFolderError, match="is damaged: no such field"), readable(tmp_path):
        raise arrow.ArrowException("no such field")
