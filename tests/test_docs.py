"""What the documents say can be done can be done."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import json
import linecache
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

import twinlens as tl
from twinlens import errors
from twinlens.cli import app
from twinlens.model import hamlet

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# A comment before a block says what it needs that the tests may lack, or why it is not run.
FENCE = re.compile(r"(?:<!-- (needs|not run): (.*?) -->\n+)?```(\w+)\n(.*?)```", re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page: its language, its text, where it stands and what it asks for."""

    language: str
    text: str
    line: int
    needs: tuple[str, ...]
    not_run: str


def blocks(page: Path, language: str) -> list[Block]:
    text = page.read_text("utf-8")
    found = []
    for match in FENCE.finditer(text):
        mark, said, kind, body = match.groups()
        needs = tuple(said.split(", ")) if mark == "needs" else ()
        line = text[: match.start(4)].count("\n") + 1
        found.append(Block(kind, body, line, needs, said if mark == "not run" else ""))
    return [block for block in found if block.language == language]


def run(page: Path, found: list[Block]) -> None:
    """The blocks one after the other, in one namespace, as a reader runs them."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in found:
        source = "\n" * (block.line - 1) + block.text  # a failure names the line of the page
        place = f"{page}:{block.line}"
        linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
        exec(compile(source, place, "exec"), names)


WITH_PYTHON = [name for name, page in zip(NAMES, PAGES, strict=True) if blocks(page, "python")]


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """An empty folder, and a cache of its own."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_the_python_of_a_page_runs(name, reader):
    found = blocks(ROOT / name, "python")
    run(ROOT / name, [block for block in found if not block.needs and not block.not_run])
    if name == "README.md":
        assert (reader / "twin.html").stat().st_size > 10_000


NEEDY = [
    pytest.param(name, block, id=f"{name}:{block.line}")
    for name in WITH_PYTHON
    for block in blocks(ROOT / name, "python")
    if block.needs
]


@pytest.mark.parametrize(("name", "block"), NEEDY)
def test_the_python_that_needs_other_packages_runs_where_they_are(name, block, reader):
    for package in block.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    before = [b for b in blocks(ROOT / name, "python") if b.line < block.line]
    run(ROOT / name, [*(b for b in before if not b.needs and not b.not_run), block])


def commands(page: Path) -> list[tuple[int, list[str]]]:
    """Every `twinlens ...` of a page's shell blocks, with its line, as words."""
    found = []
    for block in blocks(page, "sh"):
        text = block.text.replace("\\\n", "  ")
        for number, line in enumerate(text.splitlines()):
            for part in re.split(r"\s(?:&&|\|)\s", line):
                words = shlex.split(part, comments=True)
                if words and words[0].removeprefix(".venv/bin/") == "twinlens":
                    found.append((block.line + number, words[1:]))
    return found


COMMANDS = [
    pytest.param(words, id=f"{name}:{line}")
    for name, page in zip(NAMES, PAGES, strict=True)
    for line, words in commands(page)
]


@pytest.mark.parametrize("words", COMMANDS)
def test_the_command_line_knows_what_pages_tell_it(words):
    if {"--help", "--version"} & set(words):
        words = [word for word in words if word not in ("--help", "--version")]
        assert app[words[0]] is not None
        return
    if "--settings" in words:
        place = words.index("--settings")
        words = words[:place] + words[place + 2 :]
    _, _, unused = app.parse_args(words, exit_on_error=False, print_error=False)[:3]
    assert not unused


def test_every_command_stands_in_some_page():
    told = {param.values[0][0] for param in COMMANDS}
    assert {name for name in app if not name.startswith("-")} <= told


def test_every_error_has_an_entry_that_says_what_to_do():
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    entries = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE))
    classes = {name for name, _ in inspect.getmembers(errors, inspect.isclass)}
    assert set(entries) == classes
    for name, text in entries.items():
        assert "**Do**" in text, name


NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_from_top_to_bottom(path, reader):
    """In this process; the site's build (.ci/run) runs each in a kernel of its own."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "notebooks are kept without outputs"
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)


def test_every_public_name_is_in_the_reference_once():
    pages = "".join(p.read_text("utf-8") for p in (ROOT / "docs" / "reference").glob("*.md"))
    named = re.findall(r"^::: twinlens\.(\w+)$", pages, re.MULTILINE)
    assert sorted(named) == sorted(set(tl.__all__) - {"__version__"})


def test_examples_in_docstrings_are_true():
    found = doctest.testmod(hamlet)
    assert found.attempted > 2
    assert found.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_between_pages_lead_somewhere(page):
    for target, anchor in re.findall(
        r"\]\((?!http)([^)#\s]*)(?:#([^)]+))?\)", page.read_text("utf-8")
    ):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.MULTILINE)
            assert anchor in {_anchor(title) for title in titles}, anchor


def _anchor(title: str) -> str:
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip())
