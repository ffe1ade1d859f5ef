"""Commands: parse, call the library, print. Imports nothing heavy at module level."""

from twinlens.cli import (
    check,
    contest,
    contest_match,
    contest_run,
    convert,
    draw,
    edit,
    gate,
    heads,
    lens,
    look,
    neuron,
    recur,
    scrub,
    serve,
    shrink,
    sweep,
    undo,
    use,
)
from twinlens.cli.app import app, main
from twinlens.cli.examples import show_examples

show_examples(app)

__all__ = [
    "app",
    "check",
    "contest",
    "contest_match",
    "contest_run",
    "convert",
    "draw",
    "edit",
    "gate",
    "heads",
    "lens",
    "look",
    "main",
    "neuron",
    "recur",
    "scrub",
    "serve",
    "shrink",
    "sweep",
    "undo",
    "use",
]
