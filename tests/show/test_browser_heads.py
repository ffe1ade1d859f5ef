"""What a reader does with heads and several lenses on a saved page, in a real browser."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import pytest

import twinlens as tl
from tests.show.browsing import chromium, opened

pytestmark = pytest.mark.slow

PROMPT, SUBJECT = "The Silent Tower is in the city of", "Silent Tower"


@pytest.fixture(scope="module")
def results(hamlet_model):
    lens = tl.logit_lens(hamlet_model, PROMPT)
    tuned = dataclasses.replace(
        lens, settings={**lens.settings, "decoder": "tuned"}, top_ids=lens.top_ids[..., ::-1]
    )
    return {
        "lens": lens,
        "tuned": tuned,
        "trace": tl.causal_trace(
            hamlet_model, PROMPT, SUBJECT, kind="head", corruption=tl.Noise(samples=2),
            progress=False,
        ),
        "attention": tl.attention(hamlet_model, PROMPT, progress=False),
        "heads": tl.induction(hamlet_model, sequences=2, progress=False),
    }  # fmt: skip


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    path = tl.twin(*results.values()).save(tmp_path_factory.mktemp("heads") / "x.html")
    with chromium() as browser, opened(browser, path.as_uri(), offline=True) as made:
        made.wait_for_selector("canvas")
        yield made


def arcs(page) -> tuple[str, int, list[int]]:
    """The head, the token that looks, and the tokens that have an arc."""
    page.wait_for_timeout(100)
    svg = page.locator("[data-test=arcs]").first
    tokens = [int(one.get_attribute("data-token")) for one in svg.locator("path").all()]
    return svg.get_attribute("data-head"), int(svg.get_attribute("data-query")), tokens


def point(page, side: str, row: int, column: int, share: float = 0.5) -> None:
    """Put the pointer on a cell, a share of its width from its left."""
    box = page.locator(f"[data-test=canvas-{side}]").bounding_box()
    x, y = page.evaluate(
        "([side, row, column, share]) => { const g = window.twinlens.geometryOf(side);"
        " return [g.cellW * (column + share) - g.x, g.cellH * (row + .5) - g.y]; }",
        [side, row, column, share],
    )
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.wait_for_timeout(100)


def strong(attention, head: str, query: int) -> set[int]:
    """The tokens that a head looks at more than next to nothing."""
    return {int(t) for t, w in enumerate(attention.pattern(head)[query]) if w >= 0.01}


def test_a_head_of_the_list_shows_what_it_looks_at_from_the_focus(page, results):
    focus = results["trace"].focus
    assert arcs(page)[0] in ("1.H0", "1.H1")  # the best by its score, before any is chosen
    page.select_option("[data-test=head]", "5.H2")
    head, query, tokens = arcs(page)
    assert (head, query) == ("5.H2", focus)
    assert set(tokens) == strong(results["attention"], "5.H2", focus)
    point(page, "left", 3, 4)  # the token under the pointer looks
    assert arcs(page)[1] == 4
    best = int(results["attention"].pattern("5.H2")[4].argmax())
    assert f"{best} {results['lens'].tokens.labels[best]}" in page.inner_text(
        "[data-test=looks-at]"
    )
    page.mouse.move(1, 1)
    page.select_option("[data-test=head]", "off")
    assert page.locator("[data-test=arcs]").count() == 0
    page.select_option("[data-test=head]", "5.H2")


def test_heads_are_columns_and_the_one_under_the_pointer_has_its_arcs(page, results):
    page.select_option("[data-test=grid-right]", "heads.prefix_matching")
    point(page, "right", 2, 1)
    assert arcs(page)[0] == "1.H1"
    told = page.inner_text("[data-test=card-right]")
    assert "head 1.H1" in told
    assert f"{results['heads'].mean()[1, 1]:.3g}" in told
    assert page.locator("[data-test=card-left]").count() == 0  # its columns are tokens
    page.mouse.move(1, 1)
    assert arcs(page)[0] == "5.H2"


def test_heads_by_keyboard_and_as_a_table(page, results):
    page.focus("[data-test=canvas-right]")
    for key in ("ArrowUp", "ArrowRight", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)  # the first pins the last row's first head
    assert "head 4.H2" in page.inner_text("[data-test=live]")
    assert arcs(page)[0] == "4.H2"
    page.click("[data-test=menu] summary")
    page.get_by_label("table view").check()
    page.click("[data-test=menu] summary")
    table = page.inner_text("[data-test=table]")
    assert "H5" in table
    assert "logit lens" in table
    focus, pattern = results["trace"].focus, results["attention"].pattern("4.H2")
    told = page.inner_text("[data-test=table-attention]")
    assert f"head 4.H2 from token {focus}" in told
    assert f"{pattern[focus].max():.3g}" in told
    page.evaluate("window.twinlens.showsTable = false")
    page.keyboard.press("Escape")
    page.evaluate("window.twinlens.unpin()")


def test_a_trace_of_heads_at_the_pinned_token(page, results):
    page.select_option("[data-test=grid-right]", "trace.head")
    point(page, "right", 3, 5, share=0.6)  # six heads a cell: the fourth
    assert arcs(page)[0] == "2.H3"
    page.mouse.down()
    page.mouse.up()
    page.select_option("[data-test=grid-right]", "trace.head@token")
    point(page, "right", 6, 2)
    effect = results["trace"].effects()[5, 5, 2]
    assert f"{abs(effect):.3g}".replace("e-0", "e−") in page.inner_text("[data-test=card-right]")
    assert "token 5" in page.inner_text("[data-side=right] h2")
    page.evaluate("window.twinlens.unpin()")


def test_any_grid_on_either_side_and_each_lens_says_its_own(page, results):
    page.select_option("[data-test=grid-right]", "lens.tuned.block.probability.final")
    assert page.inner_text("[data-side=right] h2") == "tuned lens"
    point(page, "left", 4, 3)
    for side, name in (("left", "lens"), ("right", "tuned")):
        first = results[name].label(results[name].top_ids[4, 3, 0])
        assert first in page.inner_text(f"[data-test=card-{side}]").splitlines()[1]
    page.select_option("[data-test=grid-left]", "heads.copying")
    assert page.get_attribute("[data-side=left]", "data-grid") == "heads.copying"
    page.select_option("[data-test=grid-right]", "none")
    assert page.locator("canvas").count() == 1
    page.select_option("[data-test=grid-right]", "trace.head")  # set beside it again
    page.select_option("[data-test=grid-left]", "lens.block.probability.final")
    assert page.locator("canvas").count() == 2


def test_the_picture_that_is_taken_away_names_the_heads(page, tmp_path):
    page.select_option("[data-test=grid-right]", "heads.prefix_matching")
    page.click("[data-test=menu] summary")
    with page.expect_download() as coming:
        page.get_by_role("button", name="Save SVG").click()
    coming.value.save_as(tmp_path / "x.svg")
    page.click("[data-test=menu] summary")
    shown = [node.text for node in ElementTree.parse(tmp_path / "x.svg").iter() if node.text]
    for text in ("H0", "H5", "heads: prefix matching", "logit lens"):
        assert text in shown
