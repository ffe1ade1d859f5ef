"""What the documents say can be done can be done."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from twinlens.model import hamlet

ROOT = Path(__file__).parents[1]


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})
    assert (tmp_path / "twin.html").stat().st_size > 10_000


CHANGES = (ROOT / "docs" / "change.md").read_text("utf-8").split("\n## ")[1:]


@pytest.mark.parametrize("section", CHANGES, ids=lambda section: section.partition("\n")[0])
def test_the_python_of_a_section_on_changes_runs(section, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(block, names)


def test_examples_in_docstrings_are_true():
    found = doctest.testmod(hamlet)
    assert found.attempted > 2
    assert found.failed == 0


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/guide.md",
        "docs/design.md",
        "docs/scale.md",
        "docs/change.md",
        "docs/contest.md",
    ],
)
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target
