"""Processes that sweep one folder: killed twenty times at random moments, or two at once.

    python -m tests.sweep.interrupted FOLDER

Runs in a process of its own, without the tests' type checks, which forks: children share the
imports and the model. Prints JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import twinlens as tl
from tests.tokenizers_ import byte_level
from twinlens.run.check import require
from twinlens.sweep import folder as folders
from twinlens.sweep import local

KILLS = 20
SUBJECTS = ["Lily", "Mr Dursley", "The Eiffel Tower", "The girl", "Paris", "He", "The park"]
ENDINGS = [
    "went home to",
    "said that the",
    "is in the city of",
    "loved to",
    "had a",
    "lived in the",
]


def facts() -> list[dict[str, str]]:
    return [{"prompt": f"{s} {e}", "subject": s} for s in SUBJECTS for e in ENDINGS]


def sweep(model: tl.Model, path: Path, log: Path | None = None) -> None:
    plain = local.run

    def logged(model, units, plan):
        for made in plain(model, units, plan):
            if log is not None:
                with log.open("a") as file:
                    file.write(f"{made.number}\n")
            yield made

    local.run = logged
    tl.sweep_facts(
        model, facts(), path, kinds=("block",), corruption=tl.Noise(samples=2), restored=2,
        top_neurons=3, threads=1, progress=False,
    )  # fmt: skip


def tiny() -> tl.Model:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=400, n_embd=32, n_layer=3, n_head=4, n_positions=64, initializer_range=0.3,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return tl.load(GPT2LMHeadModel(config), tokenizer=byte_level())


def fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def killed_again_and_again(model: tl.Model, path: Path) -> int:
    """Kill the sweep `KILLS` times, once or twice a unit; how many kills met a live process."""
    chance, kills = random.Random(7), 0
    for _ in range(KILLS):
        pid = fork(lambda: sweep(model, path))
        done, wanted = changes(path), chance.randrange(1, 3)
        ended = 0
        while not ended and changes(path) - done < wanted:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        for _ in range(chance.randrange(0, 400)):  # somewhere in the next unit, or in a merge
            changes(path)
        if not ended:
            os.kill(pid, signal.SIGKILL)
            kills += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert os.waitpid(fork(lambda: sweep(model, path)), 0)[1] == 0
    return kills


def changes(path: Path) -> int:
    """The facts in the folder: a count that grows as parts appear, whatever is merged."""
    try:
        names = os.listdir(path / "parts")
    except FileNotFoundError:
        return 0
    highest = [int(name[:8]) for name in names if name[0] != "."]
    SEEN.update(highest)
    return len(SEEN)


SEEN: set[int] = set()


def main() -> None:
    root = Path(sys.argv[1])
    torch.set_num_threads(1)
    folders._MANY = 4  # so that merges are interrupted too
    model = tiny()
    for module in (
        "pyarrow.parquet",
        "polars",
        "filelock",
    ):  # before the forks, which then need not
        importlib.import_module(module)
    require(model, ["embed", "mlp", "neuron"])
    assert os.waitpid(fork(lambda: sweep(model, root / "calm")), 0)[1] == 0
    kills = killed_again_and_again(model, root / "killed")
    logs = [root / "first.log", root / "second.log"]
    both = [fork(lambda log=log: sweep(model, root / "two", log)) for log in logs]
    for pid in both:
        assert os.waitpid(pid, 0)[1] == 0
    did = [[int(line) for line in log.read_text().split()] for log in logs if log.exists()]
    print(json.dumps({"kills": kills, "did": did, "facts": len(facts())}))


if __name__ == "__main__":
    main()
