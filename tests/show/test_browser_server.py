"""The whole way through a real server and a real browser."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("fastapi")

from tests.show.browsing import chromium, move_to, opened, until
from twinlens.show.server.app import create_app
from twinlens.show.server.listen import listen, server_of
from twinlens.show.server.service import Service

pytestmark = pytest.mark.slow
PROMPT = "The Silent Tower is in the city of"


@pytest.fixture(scope="module")
def address(hamlet_model):
    where = listen("127.0.0.1", 0)
    server = server_of(create_app(Service({"hamlet": hamlet_model}), where.rules))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [where.socket]})
    thread.start()
    yield where.address
    server.should_exit = True
    thread.join(60)
    where.socket.close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as made:
        made.wait_for_selector("[data-test=prompt]")
        yield made


def ask(page, prompt: str, subject: str) -> None:
    """Type a prompt and a subject, run, and wait for the answer."""
    if page.locator("[data-test=settings]").count() == 0:
        page.click("[data-test=open-settings]")
    page.fill("[data-test=prompt]", prompt)
    page.get_by_label("subject", exact=True).fill(subject)
    page.get_by_label("counterfactual").fill("")
    page.get_by_label("focus", exact=True).fill("")
    if page.locator("[data-test=cancel]").count():
        page.click("[data-test=cancel]")
    page.wait_for_selector("[data-test=run]")
    page.click("[data-test=run]")
    settled(page)


def settled(page) -> None:
    page.wait_for_selector("[data-test=run]")
    page.wait_for_selector("canvas")


def test_ask_point_drag_and_compare(page):
    ask(page, PROMPT, "Silent Tower")
    assert page.locator("[data-test=error]").count() == 0
    assert "Bellhaven" in page.inner_text("nav")
    subject = "document.querySelectorAll('[data-side=right] .subject').length"
    assert page.evaluate(subject) == 2
    move_to(page, "right", 2, 2)
    assert "effect" in page.inner_text("[data-test=card-right]")

    # keep it, then make another span the subject by dragging over its tokens
    page.click("[data-test=keep]")
    first, last = (page.locator(f"[data-side=left] [data-token='{t}']").first for t in (4, 6))
    boxes = [one.bounding_box() for one in (first, last)]
    page.mouse.move(boxes[0]["x"] + 9, boxes[0]["y"] + 20)
    page.mouse.down()
    page.mouse.move(boxes[1]["x"] + 9, boxes[1]["y"] + 20, steps=6)
    page.mouse.up()
    until(page, "window.twinlens.doc.looks.length === 2")
    settled(page)
    assert page.evaluate("window.twinlens.choice") == 1  # the new one is shown
    assert page.evaluate(subject) == 3
    page.click("[data-test=difference]")
    move_to(page, "right", 2, 2)
    assert "A − B" in page.inner_text("[data-test=card-right]")

    # a click on a token makes it the focus, of the prompt that is shown
    page.click("[data-test=keep]")
    page.fill("[data-test=prompt]", "Something else that was not run")
    page.locator("[data-side=left] [data-token='6']").first.click()
    until(page, "window.twinlens.focus === 6")
    assert page.input_value("[data-test=prompt]") == PROMPT


def test_neurons_and_what_they_write(page):
    page.click("[data-test=open-settings]")
    page.check("[data-test=neurons]")
    page.get_by_label("method").select_option("atp")
    ask(page, PROMPT, "Silent Tower")
    page.select_option("[data-test=grid-right]", "neurons.map")
    move_to(page, "right", 6, 7, click=True)
    assert "5." in page.inner_text("[data-test=strong]")
    page.locator("[data-test=block] canvas").click(position={"x": 30, "y": 3})
    page.wait_for_selector("[data-test=strong] .chosen")


def test_cancel_stops_and_errors_are_told_beside_their_field(page):
    page.click("[data-test=open-settings]")
    page.check("[data-test=neurons]")
    page.get_by_label("method").select_option("exact")
    page.get_by_label("seed").fill("77")
    page.wait_for_selector("[data-test=run]")
    page.click("[data-test=run]")
    page.wait_for_selector("[data-test=progress]")
    page.click("[data-test=cancel]")
    page.wait_for_selector("[data-test=run]")
    page.uncheck("[data-test=neurons]")
    ask(page, "Another text", "no such words")
    assert "no such words" in page.inner_text("[data-test=error]")
    assert page.locator(".wrong").count() == 1


def test_heads_and_attention_can_be_asked_for(page):
    if page.locator("[data-test=settings]").count() == 0:
        page.click("[data-test=open-settings]")
    page.check("[data-test=attention]")
    page.check("[data-test=heads]")
    ask(page, "Mr Pellam said. Mr", "")
    assert page.locator("[data-test=error]").count() == 0
    page.wait_for_selector("[data-test=looks-at]")
    assert page.locator("[data-test=head] option[value='5.H5']").count() == 1
    assert page.get_attribute("[data-side=right]", "data-grid") == "heads.prefix_matching"


def at_last(page, side: str, what: str, row: int, token: int) -> float:
    """A number of the grid of a side."""
    return page.evaluate(
        "([side, what, row, token]) => { const grid = window.twinlens[side];"
        " const { data, shape } = what ? grid.details[what] : grid.values;"
        " return data[row * shape[1] + token]; }",
        [side, what, row, token],
    )


def test_the_lens_after_restoring_the_pinned_cell(page):
    ask(page, PROMPT, "Silent Tower")
    move_to(page, "right", 2, 2, click=True)  # block 1, token 2
    page.focus("[data-test=restore]")
    page.keyboard.press("Enter")
    until(page, "window.twinlens.look.lenses.length === 2")
    name = "logit lens, restored block 1 at token 2"
    assert page.evaluate("window.twinlens.left.lens.name") == name
    assert name in page.inner_text("[data-side=left]")
    score = at_last(page, "right", "score", 2, 2)  # as the trace measured it
    last, focus = (page.evaluate(f"window.twinlens.{x}") for x in ("look.rows.length", "focus"))
    assert at_last(page, "left", "", last - 1, focus) == pytest.approx(score, abs=1e-5)
    assert page.evaluate("document.activeElement.dataset.test") == "restore"

    # it can stand on either side, and is not in the difference of two looks
    grid = page.evaluate("window.twinlens.left.id")
    page.select_option("[data-test=grid-right]", grid)
    page.select_option("[data-test=grid-left]", "trace.block")
    page.click("[data-test=keep]")
    page.get_by_label("direction").select_option("noise")
    page.click("[data-test=run]")
    settled(page)
    until(page, "window.twinlens.doc.looks.length === 2")
    assert page.inner_text("[data-test=restore]") == "lens after corrupting this"
    page.get_by_role("radio").first.click()  # A: the lens is of its own request
    assert page.inner_text("[data-test=restore]") == "lens after restoring this"
    assert page.evaluate("window.twinlens.right.id") == grid
    page.click("[data-test=difference]")
    assert page.locator("[data-test=restore]").count() == 0


def test_a_lens_that_fails_says_so_and_leaves_what_is_shown(page):
    ask(page, PROMPT, "Silent Tower")
    move_to(page, "right", 2, 2, click=True)
    said = (
        '{"error": {"type": "InputError", "message": "not this cell", "field": "restored_cells"}}'
    )
    asked: list = []  # one route, since changing routes may let a request through

    def answered(route) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.fulfill(status=422, body=said)

    page.route("**/api/looks", answered)
    page.click("[data-test=restore]")
    assert page.inner_text("[data-test=error]") == "not this cell"
    assert page.evaluate("window.twinlens.look.lenses.length") == 1
    page.click("[data-test=restore]")
    page.wait_for_selector("[data-test=progress]")
    page.click("[data-test=cancel]")
    until(page, "window.twinlens.pinned !== null")
    for route in asked[1:]:
        route.continue_()
    page.wait_for_selector("[data-test=run]")
    assert page.locator("[data-test=error]").count() == 0
    assert page.evaluate("window.twinlens.look.lenses.length") == 1
