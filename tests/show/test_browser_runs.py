"""Runs in a real browser: the average, the list of facts, a fact, the next one; no model."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("pyarrow")

from tests.show.browsing import chromium, opened, until
from twinlens.show.server.app import create_app
from twinlens.show.server.listen import listen, server_of
from twinlens.show.server.runs import Runs
from twinlens.show.server.service import Service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(small_run):
    where, service = listen("127.0.0.1", 0), Service({})
    runs = Runs({"small": small_run.path, "again": small_run.path})
    server = server_of(create_app(service, where.rules, runs=runs))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [where.socket]})
    thread.start()
    yield where.address
    server.should_exit = True
    thread.join(60)
    where.socket.close()


SHOWN = "window.twinlens?.doc.labels.join('')"


def test_the_average_a_search_a_fact_and_the_next(address, small_run):
    with chromium() as browser, opened(browser, address) as page:
        # the average of the first run, on roles, beside the list of its facts
        until(page, "window.twinlens?.right?.column === 'role'")
        assert page.evaluate("window.twinlens.right.id") == "trace.block"
        assert page.locator("[data-side=right] [data-column]").count() == 7
        assert "2 measured" in page.inner_text("[data-test=run-small]")
        page.focus("[data-test=canvas-right]")
        page.keyboard.press("ArrowUp")
        assert "95 % interval" in page.inner_text("[data-test=cell]")
        until(page, "document.querySelectorAll('[data-test=fact]').length === 4")

        # the grid that was chosen stays when a fact is opened, and in the next one
        page.select_option("[data-test=grid-right]", "trace.mlp")
        page.fill("[data-test=search]", "DURSLEY")
        until(page, "document.querySelectorAll('[data-test=fact]').length === 1")
        page.click("[data-test=fact]")
        until(page, f"{SHOWN}.includes('Dursley')")
        assert page.evaluate("window.twinlens.right.id") == "trace.mlp"
        assert page.locator("[data-side=right] .subject").count() == 2
        assert "clean" in page.inner_text("nav")
        page.fill("[data-test=search]", "")
        until(page, "document.querySelectorAll('[data-test=fact]').length === 4")
        assert "fact 2, 3 of 4" in page.inner_text("[data-test=which]")
        page.focus("[data-test=canvas-left]")
        page.keyboard.press("n")
        assert "could not be asked" in page.inner_text("[data-test=missing]")
        page.keyboard.press("p")
        page.keyboard.press("p")
        assert "does not know" in page.inner_text("[data-test=missing]")
        page.keyboard.press("p")
        until(page, f"{SHOWN}.includes('Lily')")
        page.click(
            "[data-side=right] [data-token='1']"
        )  # a run has one focus: its column is pinned
        assert page.evaluate("window.twinlens.pinned.token") == 1

        # one run against another: the same facts, so nothing differs
        page.click("[data-test=average]")
        until(page, "window.twinlens.right.column === 'role'")
        page.click("[data-test=keep]")
        page.click("[data-test=run-again]")
        until(page, "window.twinlens.doc.looks.length === 2")
        page.click("[data-test=difference]")
        values = "window.twinlens.right.values.data"
        assert page.evaluate(f"{values}.every((value) => value === 0 || Number.isNaN(value))")
