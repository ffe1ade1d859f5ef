"""The house: imports go only downward, and the front door is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "twinlens"

# Top to bottom. A room imports from itself and from what stands below it.
HOUSE = [
    "cli", "show", "contest", "sweep", "change", "see", "run", "model", "results", "paths",
    "errors",
]  # fmt: skip


def _room(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return parts[0]


def _imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


DOORS = (SRC / "__init__.py", SRC / "__main__.py")  # they open onto every room
FILES = sorted(path for path in SRC.rglob("*.py") if path not in DOORS)


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(SRC)) for p in FILES])
def test_imports_go_downward(path):
    here = HOUSE.index(_room(path))
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "twinlens" and len(parts) > 1 and parts[1] in HOUSE:
            assert HOUSE.index(parts[1]) >= here, f"{path.name} in {_room(path)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(SRC)) for p in FILES])
def test_every_room_has_a_place_in_the_house(path):
    assert _room(path) in HOUSE


def test_results_know_no_torch_and_show_computes_nothing():
    for path in FILES:
        if _room(path) in ("results", "show", "errors"):
            assert not any(n.split(".")[0] in ("torch", "transformers") for n in _imports(path))


@pytest.mark.parametrize("statement", ["import twinlens", "import twinlens.cli"])
def test_the_front_door_imports_nothing_heavy(statement):
    script = (
        f"{statement}\nimport sys\n"
        "print([n for n in ('torch', 'transformers', 'matplotlib', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
