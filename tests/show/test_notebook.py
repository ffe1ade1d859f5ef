"""A view in a notebook: a live widget, and the page itself where the notebook was saved."""

from __future__ import annotations

import json

import pytest

import twinlens as tl
from tests.show.browsing import chromium, opened


@pytest.fixture(scope="module")
def view(hamlet_model):
    return tl.twin(tl.logit_lens(hamlet_model, "The Silent Tower is in the city of"))


def test_the_widget_and_the_page_stand_in_one_output(view):
    pytest.importorskip("anywidget")
    data, _ = view._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<iframe" in data["text/html"]


def test_the_widget_has_the_document_and_the_bundle(view):
    pytest.importorskip("anywidget")
    from twinlens.show.page import BUNDLE
    from twinlens.show.widget import _widget

    widget = _widget(view.page())
    assert json.loads(widget.document)["tokens"]["labels"][0] == "The"
    assert str(widget._esm) == BUNDLE.read_text("utf-8")


def test_without_anywidget_the_page_is_shown(view, monkeypatch):
    from twinlens.show import widget

    monkeypatch.setattr(widget, "_widget", lambda page: None)
    data, _ = view._repr_mimebundle_()
    assert set(data) == {"text/html", "text/plain"}


@pytest.mark.slow
def test_a_notebook_is_run_and_its_saved_page_is_alive(tmp_path):
    nbconvert = pytest.importorskip("nbconvert", reason="nbconvert is not installed")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    code = (
        "import twinlens as tl\n"
        "tl.twin(tl.logit_lens(tl.load('hamlet'), 'The Silent Tower is in the city of'))"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    run = nbconvert.preprocessors.ExecutePreprocessor(timeout=180)
    run.preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    for output in notebook.cells[0].outputs:  # as one saved without the widgets' state
        output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    notebook.metadata.pop("widgets", None)
    exporter = nbconvert.HTMLExporter(template_name="basic")
    body, _ = exporter.from_notebook_node(notebook)
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset='utf-8'>{body}", "utf-8")
    with chromium() as browser, opened(browser, path.as_uri(), offline=True) as page:
        frame = page.frame_locator("iframe[title=twinlens]")
        frame.locator("canvas").first.wait_for()
        assert "logit lens" in frame.locator("main").inner_text()
