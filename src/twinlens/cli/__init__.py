"""Commands: parse, call the library, print. Imports nothing heavy at module level."""

from twinlens.cli import check, draw, look, neuron
from twinlens.cli.app import app, main

__all__ = ["app", "check", "draw", "look", "main", "neuron"]
