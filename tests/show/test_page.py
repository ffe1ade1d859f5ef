"""The page is one file, complete, and nothing in a text can leave its place in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import twinlens as tl
from twinlens.errors import InputError, ResultFileError
from twinlens.show.page import BUNDLE, compare

VIEWER = Path(__file__).parents[2] / "viewer"
STORED = re.compile(r'<script type="application/json" id="twinlens-document">(.*?)</script>', re.S)


@pytest.fixture(scope="module")
def view(hamlet_model):
    return tl.twin(
        tl.logit_lens(hamlet_model, "A </script><script>alert(1)</script> <img onerror>")
    )


def test_the_document_comes_back_from_the_page(view, tmp_path):
    path = view.save(tmp_path / "x.html")
    stored = STORED.findall(path.read_text("utf-8"))
    assert len(stored) == 1
    assert json.loads(stored[0]) == json.loads(view.page().json())


def test_a_text_cannot_end_the_script_it_stands_in(view):
    made = view.page().html()
    assert len(re.findall("<script", made)) == 2
    assert len(re.findall("</script", made)) == 2
    assert "<img" not in made


def test_the_bundle_names_no_address_on_the_network():
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}[\w./-]*", BUNDLE.read_text("utf-8"))
    names_of_xml = {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"}
    assert set(addresses) <= names_of_xml


def test_another_ending_and_a_missing_folder(view, tmp_path):
    with pytest.raises(InputError, match=r"\.html"):
        view.page().save(tmp_path / "x.txt")
    with pytest.raises(ResultFileError):
        view.save(tmp_path / "missing" / "x.html")
    assert not list(tmp_path.iterdir())


def test_two_views_are_compared_and_one_is_not(view, hamlet_model):
    assert [look.name for look in compare({"a": view, "b": view}).document.looks] == ["a", "b"]
    with pytest.raises(InputError, match="two views"):
        compare({"a": view})
    other = tl.twin(tl.logit_lens(hamlet_model, "Another"))
    with pytest.raises(InputError, match="different prompts"):
        compare({"a": view, "b": other})


@pytest.fixture(scope="module")
def npm():
    """Run an npm script of the viewer; its packages come from the lock file."""
    found = shutil.which("npm")
    if found is None:
        pytest.skip("npm is not installed: the viewer's own tests need it")
    if not (VIEWER / "node_modules").is_dir():
        pytest.skip("the viewer's packages are not installed (`npm ci` in viewer/)")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [found, *arguments], cwd=VIEWER, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_the_bundle_is_what_its_source_builds(npm, tmp_path):
    npm("run", "build", "--", "--outDir", str(tmp_path), "--emptyOutDir")
    assert (tmp_path / BUNDLE.name).read_text("utf-8") == BUNDLE.read_text("utf-8")


@pytest.mark.slow
def test_the_viewer_s_own_tests_and_types(npm):
    assert "passed" in npm("test")
    npm("run", "check")


def test_the_types_are_those_of_the_server():
    pytest.importorskip("fastapi")
    from twinlens.show.server import schema

    written = (VIEWER / "openapi.json").read_text("utf-8")
    made = json.dumps(schema()).replace("Unprocessable Content", "Unprocessable Entity")
    made = made.replace("Content Too Large", "Request Entity Too Large")  # Python 3.13's words
    assert json.loads(written) == json.loads(made)


@pytest.mark.slow
def test_the_type_script_types_are_made_from_them(npm, tmp_path):
    made = tmp_path / "api.d.ts"
    npm("exec", "--", "openapi-typescript", "openapi.json", "-o", str(made))
    assert made.read_text("utf-8") == (VIEWER / "src" / "api.d.ts").read_text("utf-8")
