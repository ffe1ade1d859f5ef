"""What `fuzz.py` attacks: each target reads bytes as a file of its kind, a prompt or a request."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Target = Callable[[bytes], None]


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
