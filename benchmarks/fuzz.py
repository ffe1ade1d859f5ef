"""Hostile input by the ten thousands: files, settings, prompts and requests, by coverage (atheris).

    python benchmarks/fuzz.py [TARGET ...] [--seconds 60] [--runs 1000000]

Each target reads the bytes that it is given as a file of its kind, a prompt, or a request, and may
raise a `TwinlensError` (the server: answer with a status below 500) and nothing else. A target runs
in a process of its own until its seconds or its runs are over; the number of inputs is printed. An
input that fails is left in the folder of the last line. Needs `pip install atheris`, which is no
dependency; the tests try some inputs of each target without it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Target = Callable[[bytes], None]
MODULES = (
    "results.storage", "results.foreign", "change.reference_file", "change.ledger",
    "change.journal", "change.scrubbed", "change.recipe", "change.facts_file", "change.cloze",
    "change.parts", "contest.escrow", "contest.tournament", "contest.board", "sweep.facts",
    "sweep.manifest", "sweep.store", "see.opening", "see.texts", "see.question", "model.convert",
    "model.spans", "show.twin", "show.server.app", "cli.settings", "cli.values",
)  # fmt: skip


@functools.cache
def place() -> Path:
    """A folder of this process, in memory where there is such a thing."""
    memory = Path("/dev/shm")
    kept = tempfile.TemporaryDirectory(
        prefix="twinlens-fuzz-", dir=memory if memory.is_dir() else None
    )
    place.kept = kept  # type: ignore[attr-defined]
    return Path(kept.name)


@functools.cache
def model() -> Any:
    """A random GPT-2 that reads hamlet's tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    import twinlens as tl

    torch.manual_seed(0)
    tokenizer = tl.load("hamlet").tokenizer
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=64,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return tl.load(GPT2LMHeadModel(config), tokenizer=tokenizer)


def refused(work: Callable[[], object]) -> None:
    """Work that ends, or is refused by name."""
    from twinlens.errors import TwinlensError

    with contextlib.suppress(TwinlensError):
        work()


def written(name: str, content: bytes) -> Path:
    path = place() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def result(data: bytes) -> None:
    """A saved result: opened, told, and drawn as a page."""
    import twinlens as tl

    def work() -> None:
        found = tl.open_result(written("r.safetensors", data))
        found.to_dict()
        tl.twin(found).page().html()

    refused(work)


def reference(data: bytes) -> None:
    """The reference of a gate, and the looks beside it."""
    import twinlens as tl

    head, _, tail = data.partition(b"\n#\n")
    written("gate.looks.json", tail)
    refused(lambda: tl.open_reference(written("gate.safetensors", head)))


def copy(data: bytes) -> None:
    """Ledger, journal and settings of a scrub."""
    from twinlens.change.scrubbed import account_of

    for name, part in zip(("ledger.jsonl", "scrub.jsonl", "scrub.json"), parts(data), strict=True):
        written(f"copy/{name}", part)
    refused(lambda: account_of(place() / "copy").to_dict())


def escrow(data: bytes) -> None:
    from twinlens.contest.escrow import open_escrow

    sealed, opened, _ = parts(data)
    refused(lambda: open_escrow(written("sealed.json", sealed), written("opened.json", opened)))


def tournament(data: bytes) -> None:
    """A tournament's folder: what is played, and a cell."""
    from twinlens.contest.board import leaderboard

    about, cell, _ = parts(data)
    written("t/tournament.json", about)
    written("t/cells/full-1-prune.json", cell)
    refused(lambda: leaderboard(place() / "t").to_dict())


def run(data: bytes) -> None:
    """The folder of a sweep: manifest, rejected rows, and a table."""
    import twinlens as tl

    manifest, rejected, table = parts(data)
    written("run/manifest.json", manifest)
    written("run/rejected.jsonl", rejected)
    written("run/facts.parquet", table)

    def work() -> None:
        found = tl.open_run(place() / "run")
        found.layers("mlp")
        refused(lambda: found.rejected)
        found.counts()

    refused(work)


def settings(data: bytes) -> None:
    """TOML: a recipe, a tournament, the settings of commands."""
    from twinlens.change.recipe import recipe_of
    from twinlens.cli.app import app
    from twinlens.cli.settings import settings_file
    from twinlens.contest.tournament import tournament_of

    path = written("s.toml", data)
    refused(lambda: recipe_of(path))
    refused(lambda: tournament_of(path))
    refused(lambda: settings_file(path, app))


def facts(data: bytes) -> None:
    """Data sets of facts, edits, items of a task and texts, in all their formats."""
    from twinlens.change.cloze import read_items
    from twinlens.change.facts_file import read_edits
    from twinlens.see.texts import documents
    from twinlens.sweep.facts import read_facts

    for ending in ("json", "jsonl", "csv"):
        path = written(f"f.{ending}", data)
        refused(lambda path=path: read_facts(path))
    refused(lambda: read_edits(place() / "f.jsonl"))
    refused(lambda: read_items(place() / "f.json"))
    refused(lambda: documents(place() / "f.jsonl"))


def foreign(data: bytes) -> None:
    """What other tools wrote: archives of numpy, a lens of the tuned-lens library."""
    import twinlens as tl

    refused(lambda: tl.convert(written("o.npz", data)))
    config, parameters, _ = parts(data)
    written("lens/config.json", config)
    written("lens/params.pt", parameters)
    refused(lambda: tl.open_lens(place() / "lens"))


def prompt(data: bytes) -> None:
    """Any text as prompt, subject, focus and answer; as names of parts and cells."""
    from twinlens.change.parts import parts_of
    from twinlens.cli import values
    from twinlens.see.question import ask
    from twinlens.see.restored import cell_of

    text = data.decode("utf-8" if _decodes(data) else "latin-1", "surrogatepass")
    said, subject, asked = [*text.split("\n#\n"), "", ""][:3]
    refused(lambda: ask(
        model(), said, subject or said[:5], focus=asked or -1, answer=asked or None, kind="block",
        window=1, metric="probability", foil=None, direction="denoise",
    ))  # fmt: skip
    refused(lambda: model().encode(text))
    refused(lambda: parts_of([text]))
    refused(lambda: cell_of(text))
    refused(lambda: values.token(text, "--answer"))
    refused(lambda: values.span(text, "--crop"))


def http(data: bytes) -> None:
    """A request: a line with method and path, and a body."""
    line, _, body = data.partition(b"\n")
    method, _, path = line.decode("latin-1").partition(" ")
    answer = client().request(
        "".join(c for c in method if c.isalnum())[:10] or "GET",
        "http://localhost/" + "".join(c for c in path if " " < c < "\x7f").lstrip("/"),
        content=body, headers={"content-type": "application/json"},
    )  # fmt: skip
    assert answer.status_code < 500, f"{line!r} was answered with {answer.status_code}"


@functools.cache
def client() -> Any:
    from starlette.testclient import TestClient

    from twinlens.show.server.app import create_app
    from twinlens.show.server.service import Service

    app = create_app(Service({"tiny": model()}, max_tokens=32, measure=lambda *_: b"{}"))
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def parts(data: bytes) -> list[bytes]:
    """Three files in one input."""
    return [*data.split(b"\n#\n"), b"", b""][:3]


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


TARGETS: dict[str, Target] = {
    one.__name__: one
    for one in (
        result, reference, copy, escrow, tournament, run, settings, facts, foreign, prompt, http,
    )
}  # fmt: skip


def seeds(name: str) -> Iterable[bytes]:
    """Sound inputs to begin with."""
    return _SEEDS[name]() if name in _SEEDS else ()


def _results() -> Iterable[bytes]:
    import twinlens as tl

    noise, path = tl.Noise(samples=2), place() / "seed.safetensors"
    for made in (
        tl.logit_lens(model(), "The clay went"),
        tl.causal_trace(model(), "The clay went", "clay", corruption=noise),
        tl.neuron_trace(model(), "The clay went", "clay", corruption=noise, method="atp"),
        tl.attention(model(), "The clay went"),
    ):
        yield made.save(path).read_bytes()


def _references() -> Iterable[bytes]:
    import twinlens as tl

    texts = [f"The {word} was sold to the man." for word in ("clay", "iron", "salt", "wood")]
    path = place() / "seed-gate.safetensors"
    tl.Gate(texts, 0.1, length=16).of(model(), progress=False).save(path)
    yield path.read_bytes() + b"\n#\n" + path.with_name("seed-gate.looks.json").read_bytes()


def _copies() -> Iterable[bytes]:
    ledger = {"step": 0, "change": {"kind": "original", "model": "m"}, "before": "a", "after": "a",
              "cost": {}, "changed": 0, "relative": 0.0, "undo": None, "sha256": None,
              "made": "now", "schema": 1}  # fmt: skip
    verdict = {"increase": 0.0, "lower": -0.1, "upper": 0.1, "verdict": "pass"}
    entry = {"stage": 0, "share": 0.1, "number": 0, "change": {"parts": ["0.N1"]},
             "verdict": verdict, "accepted": True, "step": 0, "seconds": 1.0}  # fmt: skip
    about = {"recipe": {"stage": [{"do": "prune", "units": "neurons"}], "seed": 1},
             "original": "a", "text": "b", "finished": True}  # fmt: skip
    yield b"\n#\n".join(json.dumps(one).encode() for one in (ledger, entry, about))


def _escrows() -> Iterable[bytes]:
    from twinlens.contest.escrow import seal
    from twinlens.contest.secret import Secret

    sealed, opened = place() / "seed-sealed.json", place() / "seed-opened.json"
    if not sealed.exists():
        seal(Secret(), sealed, opened, facts={"tier": "full"}, salt="0" * 64)
    yield sealed.read_bytes() + b"\n#\n" + opened.read_bytes()


def _tournaments() -> Iterable[bytes]:
    about = {"tiers": ["full"], "entrants": [{"name": "prune"}], "seeds": 1}
    cell = {"tier": "full", "seed": 1, "recipe": "prune", "counts": True, "blind": True,
            "verdict": "deleted", "upper": 0.001, "increase": 0.0, "adaptive": False,
            "seconds": {"clean": 1.0, "judge": 1.0}, "fired": 0.0, "benign": True,
            "second": False, "found": [], "before": {"benign": True, "second": True}}  # fmt: skip
    yield json.dumps(about).encode() + b"\n#\n" + json.dumps(cell).encode()


def _runs() -> Iterable[bytes]:
    import twinlens as tl

    fact = {"prompt": "The clay went", "subject": "clay"}
    found = tl.sweep_facts(
        model(), [fact], place() / "seed-run", kinds=("block",), corruption=tl.Noise(samples=2),
        restored=1, top_neurons=1, threads=1, progress=False,
    )  # fmt: skip
    names = ("manifest.json", "rejected.jsonl", "facts.parquet")
    yield b"\n#\n".join((found.path / name).read_bytes() for name in names)


def _foreigners() -> Iterable[bytes]:
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, scores=np.zeros((2, 3)), tokens=np.array(["a", "b", "c"]))
    yield buffer.getvalue()
    yield b'{"num_hidden_layers": 2, "d_model": 4}\n#\nPK'


_SEEDS: dict[str, Callable[[], Iterable[bytes]]] = {
    "result": _results,
    "reference": _references,
    "copy": _copies,
    "escrow": _escrows,
    "tournament": _tournaments,
    "run": _runs,
    "settings": lambda: [
        b'seed = 1\n[[stage]]\ndo = "prune"\nunits = "neurons"\nby = "use_mean"\nmost = 0.5\n',
        b'[[stage]]\ndo = "noise"\nscale = 0.01\n[[stage]]\ndo = "recover"\nsteps = 10\n',
        b'tiers = ["full"]\nseeds = 2\n[budget]\nsteps = 10\n[[recipe]]\nname = "prune"\n',
        b'[look]\nmodel = "hamlet"\nsubject = ["Tower"]\n',
    ],
    "facts": lambda: [
        b'[{"prompt": "The Tower is in", "subject": "Tower", "attribute": "Paris"}]',
        b'{"prompt": "The Tower is in", "subject": "Tower", "target": " Rome"}\n{"text": "a"}',
        b"prompt,subject,answer\nThe Tower is in,Tower,Paris\n",
    ],
    "foreign": _foreigners,
    "prompt": lambda: [b"The clay went\n#\nclay\n#\n2", b"3.N17,4.H2,5.MLP", b"mlp:3:7", b"#12"],
    "http": lambda: [
        b'POST /api/looks\n{"model": "tiny", "prompt": "The clay went", "subject": ["clay"]}',
        b'POST /api/neurons\n{"model": "tiny", "layer": 1, "neuron": 3, "prompt": "The"}',
        b"GET /api/models\n", b"GET /api/looks/x/events\n", b"DELETE /api/looks/x\n",
    ],
}  # fmt: skip


def fuzz(name: str, runs: int, seconds: int, corpus: Path) -> None:
    """Run one target in this process, which ends with it."""
    import atheris  # pyright: ignore[reportMissingImports]

    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["twinlens"]):
        for module in MODULES:
            importlib.import_module(f"twinlens.{module}")
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    TARGETS[name](next(iter(seeds(name))))  # what is slow the first time
    options = [
        f"-runs={runs}", f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=4096",
        "-max_len=60000", f"-artifact_prefix={corpus.parent}/",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[name])
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("targets", nargs="*", default=[])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.corpus is not None:
        fuzz(given.targets[0], given.runs, given.seconds, given.corpus)
    total = 0
    for name in given.targets or TARGETS:
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
        (folder / "corpus").mkdir()
        command = [sys.executable, __file__, name, "--corpus", str(folder / "corpus")]
        command += ["--runs", str(given.runs), "--seconds", str(given.seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        counts = re.findall(r"Done (\d+) runs", done.stderr) or re.findall(
            r"^#(\d+)\t", done.stderr, re.M
        )
        tried = int(counts[-1]) if counts else 0
        total += tried
        print(f"{name:11s} {tried:8d} inputs, exit code {done.returncode}", flush=True)
        if done.returncode:
            print(done.stderr[-3000:], f"\nin {folder}", flush=True)
    print(f"{total} inputs in all")


if __name__ == "__main__":
    main()
