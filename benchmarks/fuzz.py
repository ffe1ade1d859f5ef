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
import importlib
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from fuzz_seeds import seeds
from fuzz_targets import TARGETS

MODULES = (
    "results.storage", "results.foreign", "change.reference_file", "change.ledger",
    "change.journal", "change.scrubbed", "change.recipe", "change.facts_file", "change.cloze",
    "change.parts", "contest.escrow", "contest.tournament", "contest.board", "sweep.facts",
    "sweep.manifest", "sweep.store", "see.opening", "see.texts", "see.question", "model.convert",
    "model.spans", "show.twin", "show.server.app", "cli.settings", "cli.values",
)  # fmt: skip


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
