"""The wheel: it builds without node, has what it needs, and works outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
SMOKE = """
import pathlib, sys
import twinlens as tl
from twinlens.cli import main
assert pathlib.Path(tl.__file__).is_relative_to(sys.argv[1]), tl.__file__
assert len(tl.hamlet.facts()) == 2800
main(["look", "The Silent Tower is in the city of", "-s", "Silent Tower", "-o", "twin.html"])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that the checkout stays as it is, where no node can be found."""
    if int(metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools is older than 77")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    _run(
        "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", "dist", "--quiet",
        cwd=folder,
    )  # fmt: skip
    return next((folder / "dist").glob("twinlens-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    site = tmp_path_factory.mktemp("site")
    _run("-m", "pip", "install", "--no-deps", "--quiet", "--target", site, wheel, cwd=site)
    return site


def _run(*arguments: object, cwd: Path, site: Path | None = None) -> str:
    """Python with a path on which there is no node, and no checkout."""
    surroundings = {k: v for k, v in os.environ.items() if k not in ("PATH", "PYTHONPATH")}
    surroundings["PATH"] = str(cwd)
    if site is not None:
        surroundings["PYTHONPATH"] = str(site)
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=surroundings,
        capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_wheel_holds_the_package_its_model_and_its_page_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    kept = {str(p.relative_to(ROOT / "src")) for p in (ROOT / "src" / "twinlens").rglob("*")}
    kept = {name for name in kept if "__pycache__" not in name}
    packed = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert packed == {name for name in kept if (ROOT / "src" / name).is_file()}
    assert "twinlens/py.typed" in packed
    assert "twinlens/model/hamlet/model.safetensors" in packed
    assert any(name.startswith("twinlens/show/static/") for name in packed)


def test_the_installed_wheel_looks_at_a_prompt_and_writes_the_page(installed, tmp_path):
    said = _run("-c", SMOKE, installed, cwd=tmp_path, site=installed)
    assert "Bellhaven" in said
    page = (tmp_path / "twin.html").read_text("utf-8")
    assert "Silent" in page
    assert len(page) > 50_000
    assert "<script src" not in page
