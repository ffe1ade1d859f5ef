"""Commands that are broken off: the disk is full, Ctrl-C, killed; and then the same once more.

    python -m tests.reliability.broken FOLDER

Runs in a process of its own, without the tests' type checks, which forks: children share the
imports. Each command is run calmly first; that time says when another is broken off. Prints JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tests.conftest import random_model
from tests.tokenizers_ import byte_level
from twinlens import cli

PROMPT = ("Once upon a time, a girl named Lily. She loved", "-s", "Lily", "--samples", "2")
RECIPE = '[[stage]]\ndo = "noise"\nscale = 0.0001\ntimes = 2\n'
MOMENTS = ((signal.SIGINT, 0.4), (signal.SIGKILL, 0.7))
"""Signals, and at which share of a calm run they come."""
SHORT = ("case.safetensors",)
"""Commands that are over too soon: signals come when the file is written and not yet named."""


def commands(root: Path) -> dict[str, list[str]]:
    """Every command that writes, without its output."""
    given: dict[str, tuple[object, ...]] = {
        "look.html": ("look", *PROMPT, "--model", root / "model", "-q", "-o"),
        "sweep": (
            "sweep", root / "facts.jsonl", "--model", root / "model", "--samples", 2, "--kinds",
            "block", "--measure", "trace,lens", "--threads", 1, "-q", "-o",
        ),
        "lens.safetensors": (
            "lens", "fit", root / "model", "--text", root / "text.jsonl", "--steps", 3,
            "--length", 16, "-q", "-o",
        ),
        "edit": (
            "edit", root / "model", "--prompt", "The Eiffel Tower is in", "--subject", "Tower",
            "--target", "Seattle", "--layer", 1, "--method", "fine-tune", "--steps", 2, "-o",
        ),
        "shrink": ("shrink", root / "model", "--pairs", 1, "--limit", 50, "-o"),
        "scrub": (
            "scrub", root / "model", "--recipe", root / "recipe.toml", "--text",
            root / "text.jsonl", "--gate", root / "gate.jsonl", "--margin", 5, "-q", "-o",
        ),
        "case.safetensors": ("convert", root / "other.npz", "-o"),
        "use.safetensors": (
            "use", root / "model", "--text", root / "text.jsonl", "--length", 16, "-q", "-o",
        ),
        "blue": (
            "contest", "clean", root / "model", "--text", root / "text.jsonl", "--recipe",
            "noise+recover", "--steps", 1, "--length", 16, "--batch-tokens", 64, "-q", "-o",
        ),
    }  # fmt: skip
    return {name: [str(part) for part in parts] for name, parts in given.items()}


def make(root: Path) -> None:
    """A tiny model and what commands read."""
    tokenizer = byte_level()
    random_model("gpt2", tokenizer).save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "model")
    (root / "recipe.toml").write_text(RECIPE)
    words = ("cat", "dog", "bird", "girl", "boy")
    for name, first in (("text", 0), ("gate", 1000)):
        told = [f"The {words[n % 5]} {n} sat by {words[n // 5 % 5]} {7 * n}." for n in
                range(first, first + 110)]  # fmt: skip
        lines = [json.dumps({"text": text}) for text in told]
        (root / f"{name}.jsonl").write_text("\n".join(lines[: 16 if name == "text" else 110]))
    facts = [{"prompt": f"{who} went to the", "subject": who} for who in ("Lily", "He", "Paris")]
    (root / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)))
    np.savez(root / "other.npz", scores=np.zeros((2, 3)), tokens=np.array(["a", "b", "c"]))


def begin(arguments: list[str], output: Path, before: Callable[[], None] = lambda: None) -> int:
    """A child that runs a command as a process would; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    handle = os.open(output.parent / "messages", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(handle, 2)
    code = 99
    try:
        before()
        cli.main([*arguments, str(output)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int:
    """The exit code; minus the signal where one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def full() -> None:
    """From now on no file can grow beyond 300 bytes: what a full disk does to a writer."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))


def seen(folder: Path) -> dict[str, object]:
    """What is in the folder beside the output, what was told, and whether the output is there."""
    told = folder / "messages"
    lines = told.read_text().splitlines() if told.exists() else []
    hidden = [p.name for p in folder.rglob(".*")]
    return {"messages": lines, "hidden": hidden, "names": sorted(os.listdir(folder))}


def tried(name: str, arguments: list[str], root: Path, chance: random.Random) -> dict[str, object]:
    folder = root / f"of-{name}"
    folder.mkdir()
    started = time.monotonic()
    calm = ended(begin(arguments, folder / name))
    took = time.monotonic() - started
    found: dict[str, object] = {"calm": calm, **seen(folder)}
    full_folder = root / f"full-{name}"
    full_folder.mkdir()
    if not Path(name).suffix:  # a new folder
        code = ended(begin(arguments, full_folder / name, full))
        found["full"] = {"code": code, **seen(full_folder)}
    else:  # over a file that is there
        (full_folder / name).write_text("before")
        code = ended(begin(arguments, full_folder / name, full))
        kept = (full_folder / name).read_text() == "before"
        found["full"] = {"code": code, "kept": kept, **seen(full_folder)}
    broken = root / f"broken-{name}"
    broken.mkdir()
    found["broken"] = [
        broken_off(arguments, broken / name, kind, took * share * chance.uniform(0.8, 1.2))
        if name not in SHORT
        else broken_off(arguments, broken / name, kind, None)
        for kind, share in MOMENTS
    ]
    found["last"] = {"code": ended(begin(arguments, broken / name)), **seen(broken)}
    return found


def broken_off(
    arguments: list[str], output: Path, kind: signal.Signals, seconds: float | None
) -> dict[str, object]:
    """A run that gets a signal in the middle; None: where a file would get its name."""

    def at_the_name() -> None:
        Path.replace = Path.rename = lambda *_: os.kill(os.getpid(), kind)  # type: ignore[assignment]

    if seconds is None:
        pid = begin(arguments, output, at_the_name)
    else:
        pid = begin(arguments, output)
        time.sleep(seconds)
        os.kill(pid, kind)  # to a process that is done it does nothing
    return {"signal": kind.name, "code": ended(pid), **seen(output.parent)}


def warm(arguments: list[str], output: Path) -> None:
    """Run a command in this process, for its imports, which children then share."""
    output.parent.mkdir(exist_ok=True)
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        cli.main([*arguments, str(output)])


def main() -> None:
    root = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    make(root)
    chance = random.Random(5)
    names = sys.argv[2:] or list(commands(root))
    for name in names:
        warm(commands(root)[name], root / "warm" / name)
    print(json.dumps({n: tried(n, commands(root)[n], root, chance) for n in names}))


if __name__ == "__main__":
    main()
