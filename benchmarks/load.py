"""What twinlens does under load: many sessions, a long prompt, a long sweep, a long life.

    python benchmarks/load.py sessions [--sessions 20] [--looks 5]
    python benchmarks/load.py long     [--tokens 10000]
    python benchmarks/load.py sweep    [--facts 10000]
    python benchmarks/load.py soak     [--cycles 600]

`sessions`: so many clients at once at `twinlens serve` (a process of its own, over HTTP on
127.0.0.1); each asks for looks at prompts of its own, follows their progress, and compares every
document byte for byte with the one that this process makes. `long`: peak memory of a lens and of a
trace of a long prompt on a tiny random model. `sweep`: memory while very many facts are measured on
a tiny random model. `soak`: models loaded, looks, pictures, changes, copies and sweeps again and
again in one process; memory, open files, threads and children before and after. Reads /proc: Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils.logging import disable_progress_bar

import twinlens as tl
from lens_memory import prompt_of, status
from sweep import WORDS, facts_of

PATIENCE, MIB = 600, 2**20


def tiny(context: int = 128, layers: int = 2, width: int = 32) -> tl.Model:
    """A random GPT-2 that reads hamlet's tokens."""
    disable_progress_bar()
    torch.manual_seed(0)
    hamlet = tl.load("hamlet")
    config = GPT2Config(
        vocab_size=hamlet.n_vocab, n_embd=width, n_layer=layers, n_head=4, n_positions=context,
        initializer_range=0.2, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return tl.load(GPT2LMHeadModel(config), tokenizer=hamlet.tokenizer)


def session_prompt(session: int, number: int) -> dict[str, Any]:
    subject = f"{WORDS[session % 16]} {WORDS[(session // 16 + number) % 16]}"
    return {"prompt": f"The {subject} number {number} was sold to the", "subject": [subject]}


def sessions(count: int, looks: int) -> None:
    command = [sys.executable, "-m", "twinlens", "serve", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[1]
        before = resident(server.pid)
        started = time.perf_counter()
        with ThreadPoolExecutor(count) as pool:
            found = list(pool.map(lambda n: session(address, n, looks), range(count)))
        took = time.perf_counter() - started
        after = resident(server.pid)
    finally:
        server.terminate()
        server.wait()
    told(found, took, count, looks)
    print(f"server's memory {before / MIB:,.0f} MiB before, {after / MIB:,.0f} MiB after")


def session(address: str, number: int, looks: int) -> dict[str, Any]:
    """One client's looks, each waited for as the page does; between them lists and cards."""
    import httpx

    found: dict[str, Any] = {"look": [], "short": [], "documents": []}
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        for at in range(looks):
            asked = {"model": "hamlet", **session_prompt(number, at)}
            started = time.perf_counter()
            name = client.post("/api/looks", json=asked).raise_for_status().json()["id"]
            with client.stream("GET", f"/api/looks/{name}/events") as answer:
                for _ in answer.iter_lines():
                    pass
            document = client.get(f"/api/looks/{name}").raise_for_status().content
            found["look"].append(time.perf_counter() - started)
            found["documents"].append((asked, document))
            card = {"model": asked["model"], "layer": 1, "neuron": number}
            for ask in (
                lambda: client.get("/api/models"),
                lambda card=card: client.post("/api/neurons", json=card),
            ):
                started = time.perf_counter()
                ask().raise_for_status()
                found["short"].append(time.perf_counter() - started)
    return found


def told(found: list[dict[str, Any]], took: float, count: int, looks: int) -> None:
    from twinlens.show.server.requests import LookRequest, settings_of
    from twinlens.show.server.service import measured

    model, wrong, own = tl.load("hamlet"), 0, 0
    for one in found:
        for asked, document in one["documents"]:
            settings = settings_of(LookRequest(**asked))
            made = measured(asked["model"], model, settings, lambda *_: None)
            own += asked["prompt"].encode() in document
            wrong += made != document
    print(f"{count} sessions at once, {looks} looks each: {count * looks} looks in {took:.1f} s")
    for name in ("look", "short"):
        times = sorted(t for one in found for t in one[name])
        low, high = statistics.median(times), times[int(0.95 * (len(times) - 1))]
        kind = "a look, asked to shown" if name == "look" else "a list or a card meanwhile"
        print(f"{kind}: median {low * 1000:,.0f} ms, 95 % {high * 1000:,.0f} ms")
    print(f"documents about the session's own prompt {own}; other bytes than alone {wrong}")


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(one for one in lines if one.startswith("VmRSS")).split()[1]) * 1024


class _EnoughError(Exception):
    pass


def peak(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and MiB of the largest resident set above that before."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed before is not this work's
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest resident set so far
    before, started = status("VmRSS"), time.perf_counter()
    work()
    return time.perf_counter() - started, (status("VmHWM") - before) / MIB


def long_prompt(n_tokens: int) -> None:
    model = tiny(context=n_tokens + 16, layers=4)
    warm = prompt_of(8, model.n_vocab)
    tl.logit_lens(model, warm)
    tl.causal_trace(model, warm, (2, 4), corruption=tl.Noise(samples=2))
    for length in (n_tokens // 2, n_tokens):
        tokens = prompt_of(length, model.n_vocab)
        seconds, most = peak(lambda tokens=tokens: tl.logit_lens(model, tokens))
        print(f"lens   {length:6d} tokens  {most:7,.0f} MiB  {seconds:6.1f} s")
        for start, share, what in (
            (length - 40, 1.0, "a subject near the end"),
            (4, 0.002, "a subject at the start, the first 0.2 % of the cells"),
        ):
            span = (start, start + 2)
            seconds, most = peak(lambda t=tokens, s=span, n=share: traced(model, t, s, n))
            print(f"trace  {length:6d} tokens  {most:7,.0f} MiB  {seconds:6.1f} s  {what}")


def traced(model: tl.Model, tokens: Any, subject: tuple[int, int], share: float) -> None:
    """A trace, broken off when a share of its cells is done."""

    def stop(done: int, total: int) -> None:
        if done < total and done >= share * total:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        tl.causal_trace(model, tokens, subject, corruption=tl.Noise(samples=2), progress=stop)


def long_sweep(count: int) -> None:
    model = tiny()
    seen: list[tuple[int, float]] = []

    def sample(done: int, total: int) -> None:
        if done % max(1, total // 20) == 0 and (not seen or seen[-1][0] != done):
            seen.append((done, status("VmRSS") / MIB))

    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        run = tl.sweep_facts(
            model, facts_of(count), Path(root) / "run", kinds=("block",), restored=2,
            corruption=tl.Noise(samples=2), top_neurons=3, threads=1, progress=sample,
        )  # fmt: skip
        took = time.perf_counter() - started
        assert len(run.facts) == count
        size = sum(p.stat().st_size for p in run.path.rglob("*") if p.is_file())
    for done, memory in seen:
        print(f"{done:6d} facts  {memory:7,.1f} MiB")
    half = [m for done, m in seen if done >= count / 2]
    slope = np.polyfit([d for d, _ in seen if d >= count / 2], half, 1)[0]
    print(f"{count} facts in {took:.0f} s; store {size / MIB:.1f} MiB;", end=" ")
    print(f"growth in the second half {slope * 1000:+.2f} MiB for 1,000 facts")


def held() -> dict[str, float]:
    """What this process holds on to."""
    gc.collect()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    temporary = [p for p in Path(tempfile.gettempdir()).iterdir() if "twinlens" in p.name]
    return {
        "memory, MiB": status("VmRSS") / MIB,
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "threads of the system": len(os.listdir("/proc/self/task")),
        "children": len(children),
        "temporary files": len(temporary),
    }


def cycle(folder: Path, number: int, done: dict[str, int]) -> None:
    """Once everything: loading, looking, drawing, saving, changing, copying, sweeping, failing."""
    model = tl.load(folder / "model")
    fact = facts_of(number % 4000 + 1)[-1]
    prompt, subject = fact["prompt"], fact["subject"]
    results = [
        tl.logit_lens(model, prompt),
        tl.causal_trace(model, prompt, subject, corruption=tl.Noise(samples=2)),
        tl.neuron_trace(model, prompt, subject, corruption=tl.Noise(samples=2), method="atp"),
    ]
    for one in results:
        assert tl.open_result(one.save(folder / "result.safetensors")) is not None
    tl.twin(*results).save(folder / "twin.html")
    with contextlib.suppress(tl.errors.TwinlensError):
        tl.logit_lens(model, "")
    with tl.changed(model, tl.Silence(["1.N3"])):
        tl.logit_lens(model, prompt)
    done["loads"] += 1
    done["looks"] += 4
    done["files"] += 4
    done["changes"] += 1
    if number % 10 == 0:
        occasional(folder, model, number, done)


def occasional(folder: Path, model: tl.Model, number: int, done: dict[str, int]) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as root:
        copy = tl.Copy.create(model, Path(root) / "copy")
        copy.apply(tl.Silence(["0.N1"]))
        copy.undo(0)
        tl.sweep_facts(
            model, facts_of(2), Path(root) / "run", kinds=("block",), restored=2, top_neurons=2,
            corruption=tl.Noise(samples=2), threads=1, progress=False,
        )  # fmt: skip
        results = [tl.logit_lens(model, facts_of(number + 1)[-1]["prompt"])]
        tl.twin(*results).save(folder / "twin.png")
    done["copies"] += 1
    done["sweeps"] += 1
    done["files"] += 1


def soak(cycles: int, folder: Path, say: Callable[[str], None] = print) -> list[dict[str, float]]:
    """Cycles in this process; what it held after a tenth of them (warm), and at the end."""
    made = tiny()
    made.hf.save_pretrained(folder / "model")
    made.tokenizer.save_pretrained(folder / "model")
    kinds = ("loads", "looks", "files", "changes", "copies", "sweeps")
    done, seen = dict.fromkeys(kinds, 0), list[dict[str, float]]()
    started = time.perf_counter()
    for number in range(cycles):
        cycle(folder, number, done)
        if (number + 1) % max(1, cycles // 10) == 0:
            seen.append(held())
            now = "  ".join(f"{name} {value:,.0f}" for name, value in seen[-1].items())
            say(f"{number + 1:6d} cycles  {now}")
    took = time.perf_counter() - started
    counts = ", ".join(f"{n} {what}" for what, n in done.items())
    say(f"{cycles} cycles in {took:.0f} s: {counts}")
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["sessions", "long", "sweep", "soak"])
    for name, value in (("sessions", 20), ("looks", 5), ("tokens", 10_000), ("facts", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--cycles", type=int, default=600)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if given.what == "sessions":
        sessions(given.sessions, given.looks)
    elif given.what == "long":
        long_prompt(given.tokens)
    elif given.what == "sweep":
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as `twinlens sweep` does
        long_sweep(given.facts)
    else:
        with tempfile.TemporaryDirectory() as root:
            soak(given.cycles, Path(root))


if __name__ == "__main__":
    main()
