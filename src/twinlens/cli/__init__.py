"""Commands: parse, call the library, print. Imports nothing heavy at module level."""

from twinlens.cli import (
    check,
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

__all__ = [
    "app",
    "check",
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
