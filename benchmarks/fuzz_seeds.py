"""Sound inputs for `fuzz.py` to begin with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from fuzz_targets import model, place


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
    tl.Gate(texts, 0.1, length=16, sample=4).of(model(), progress=False).save(path)
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
