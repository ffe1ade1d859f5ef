from __future__ import annotations

import pytest
import torch

from twinlens.run.batches import counting, in_batches, is_out_of_memory


def test_out_of_memory_halves_the_batch_and_goes_on():
    seen, told = [], []

    def work(batch):
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(list(batch))
        return len(batch)

    assert sum(in_batches(range(20), 16, work, told.append)) == 20
    assert [i for batch in seen for i in batch] == list(range(20))
    assert told == [8, 4, 2]


def test_out_of_memory_with_one_item_is_raised():
    def work(batch):
        raise MemoryError

    with pytest.raises(MemoryError):
        list(in_batches(range(4), 4, work))


def test_other_errors_are_not_swallowed():
    def work(batch):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(in_batches(range(4), 4, work))


def test_what_out_of_memory_looks_like():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"))
    assert not is_out_of_memory(RuntimeError("device-side assert"))


def test_a_bar_appears_only_for_long_work(capsys, monkeypatch):
    from twinlens.run import batches

    with counting(3, "work", True) as advance:
        advance(3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(batches, "_PATIENCE", -1.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with counting(3, "work", True) as advance:
        advance(3)
    assert "work" in capsys.readouterr().err
    with counting(3, "work", False) as advance:
        advance(3)
    assert capsys.readouterr().err == ""
