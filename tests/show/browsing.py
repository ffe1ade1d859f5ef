"""A browser for the tests: the system's Chromium, without a network."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator
from typing import Any

import pytest

_QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextlib.contextmanager
def chromium() -> Generator[Any]:
    """A headless Chromium with scroll bars, as users have them; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("Chromium is not installed: the viewer's flows need it")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=list(_QUIET), ignore_default_args=["--hide-scrollbars"]
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Any, address: str, **options: Any) -> Generator[Any]:
    """A page; errors in it, and what it asks of anybody but its own host, fail the test."""
    size = {"width": 1500, "height": 1000}
    context = browser.new_context(viewport=size, accept_downloads=True, **options)
    wrong: list[str] = []

    def ask(route: Any) -> None:
        url = route.request.url
        if url.startswith((address, "file:", "blob:", "data:", "http://127.0.0.1:")):
            route.continue_()
        else:
            wrong.append(f"asked for {url}")
            route.abort()

    context.route("**/*", ask)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append("a dialog opened"), dialog.dismiss()))
    page.goto(address)
    yield page
    context.close()
    assert not wrong, wrong


def until(page: Any, condition: str) -> None:
    """Wait until an expression is true (the page's own policy forbids it to evaluate text)."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never true: {condition}")


def move_to(page: Any, side: str, row: int, token: int, *, click: bool = False) -> None:
    """Put the pointer on a cell of a grid."""
    box = page.locator(f"[data-test=canvas-{side}]").bounding_box()
    place = page.evaluate(
        "([row, token]) => { const v = window.twinlens;"
        " return [v.cellW * (token + .5) - v.x, v.cellH * (row + .5) - v.y]; }",
        [row, token],
    )
    page.mouse.move(box["x"] + place[0], box["y"] + place[1])
    if click:
        page.mouse.click(box["x"] + place[0], box["y"] + place[1])
