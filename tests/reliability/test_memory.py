"""Memory that runs out, on a GPU (simulated) and on the CPU (a limit of the system)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import twinlens as tl
from twinlens import cli
from twinlens.errors import OutOfMemoryError, TwinlensError
from twinlens.run.batches import is_out_of_memory

ERRORS = {
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
    "CPU": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9"),
    "numpy": lambda: MemoryError("Unable to allocate 9 GiB for an array"),
    "C++": lambda: RuntimeError("std::bad_alloc"),
}
NOISE = tl.Noise(samples=2)
STORY = "The girl named Lily"


def with_room_for(model, rows: int, error, monkeypatch) -> list[int]:
    """From now on the first block runs out of memory with more rows than that."""
    seen: list[int] = []
    block = model.blocks[0]
    plain = block.forward

    def forward(hidden, *args, **options):
        seen.append(int(hidden.shape[0]))
        if hidden.shape[0] > rows:
            raise error()
        return plain(hidden, *args, **options)

    monkeypatch.setattr(block, "forward", forward)
    return seen


@pytest.mark.parametrize("kind", ["CUDA", "CPU"])
def test_batches_get_smaller_and_the_numbers_stay(kind, gpt2, monkeypatch):
    options = {"corruption": NOISE, "engine": "hooks", "batch_tokens": 10**6}
    whole = tl.causal_trace(gpt2, STORY, "Lily", **options)
    seen = with_room_for(gpt2, 4, ERRORS[kind], monkeypatch)
    small = tl.causal_trace(gpt2, STORY, "Lily", **options)
    assert max(seen) > 4
    assert np.allclose(small.scores, whole.scores, atol=1e-6)


@pytest.mark.parametrize("kind", ERRORS)
def test_what_fits_in_no_batch_is_a_named_error(kind, gpt2, monkeypatch):
    with_room_for(gpt2, 0, ERRORS[kind], monkeypatch)
    for work in (
        lambda: tl.logit_lens(gpt2, STORY),
        lambda: tl.causal_trace(gpt2, STORY, "Lily", corruption=NOISE),
        lambda: tl.neuron_trace(gpt2, STORY, "Lily", corruption=NOISE, method="atp"),
    ):
        with pytest.raises(OutOfMemoryError, match="memory ran out"):
            work()


def test_the_named_error_is_one_of_memory_too():
    assert issubclass(OutOfMemoryError, TwinlensError)
    assert issubclass(OutOfMemoryError, MemoryError)
    assert is_out_of_memory(OutOfMemoryError("x"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("kind", ERRORS)
def test_the_command_line_tells_it_in_one_line(kind, gpt2, monkeypatch, capsys):
    def no_room(*_args, **_options):
        raise ERRORS[kind]()

    monkeypatch.setattr("twinlens.see.look.look", no_room)
    with pytest.raises(SystemExit) as stop:
        cli.main(["look", "Once upon a time", "-q"])
    told = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2
    assert len(told) == 1
    assert told[0].startswith("twinlens: memory ran out")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_a_real_limit_of_the_system_ends_in_a_named_error():
    script = textwrap.dedent(
        """
        import resource, sys, torch, transformers
        import twinlens as tl
        from twinlens.errors import OutOfMemoryError
        sys.path.insert(0, "benchmarks")
        import fuzz_targets
        model = fuzz_targets.model()
        tl.logit_lens(model, "The clay")
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 2**26, size + 2**26))
        plain = model.blocks[1].forward
        def greedy(hidden, *args, **options):
            torch.ones(hidden.shape[0], 2**26)  # a quarter of a GiB a row
            return plain(hidden, *args, **options)
        model.blocks[1].forward = greedy
        try:
            tl.logit_lens(model, "The clay")
        except OutOfMemoryError as error:
            print("named:", error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True,
        check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.startswith("named: memory ran out"), done.stderr
