"""What a reader does with a saved page, in a real browser without a network."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

import twinlens as tl
from tests.show.browsing import chromium, move_to, opened
from twinlens.show.page import compare

pytestmark = pytest.mark.slow

PROMPT, SUBJECT = "The Silent Tower is in the city of", "Silent Tower"
LOOKED = "[data-test=cell]"


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def results(hamlet_model):
    quiet = {"progress": False}
    return [
        tl.logit_lens(hamlet_model, PROMPT),
        tl.causal_trace(hamlet_model, PROMPT, SUBJECT, **quiet),
        tl.causal_trace(hamlet_model, PROMPT, SUBJECT, kind="head", **quiet),
        tl.neuron_trace(hamlet_model, PROMPT, SUBJECT, method="atp", restored=8, **quiet),
    ]


@pytest.fixture(scope="module")
def saved(results, tmp_path_factory):
    return tl.twin(*results).save(tmp_path_factory.mktemp("page") / "twin.html")


@pytest.fixture
def page(browser, saved):
    with opened(browser, saved.as_uri(), offline=True) as made:
        made.wait_for_selector("canvas")
        yield made


def test_both_grids_light_up_and_say_what_the_results_say(page, results):
    lens, trace = results[:2]
    move_to(page, "left", 3, 2)
    left, right = (page.inner_text(f"[data-test=card-{side}]") for side in ("left", "right"))
    for text in (left, right):
        assert "layer 2, token 2" in text
    assert lens.label(lens.top_ids[3, 2, 0]) in left
    assert f"{lens.top_probs[3, 2, 0]:.3g}" in left
    assert f"{abs(trace.effects()[3, 2]):.3g}" in right
    assert f"{trace.clean:.3g}" in right
    assert f"{trace.corrupted:.3g}" in right
    move_to(page, "right", 5, 7)  # and the other way round
    assert "layer 4, token 7" in page.inner_text("[data-test=card-left]")


def test_the_cells_have_the_colours_of_the_values(page, results):
    effects = results[1].effects()
    page.mouse.move(1, 1)
    page.wait_for_timeout(200)
    row, token = (int(i) for i in divmod(effects.argmax(), effects.shape[1]))
    red, green, blue = page.evaluate(
        "([row, token]) => { const v = window.twinlens;"
        " const c = document.querySelector('[data-test=canvas-right]');"
        " const k = c.width / c.clientWidth;"
        " return [...c.getContext('2d').getImageData((v.cellW * token + 5) * k,"
        " (v.cellH * row + 5) * k, 1, 1).data].slice(0, 3); }",
        [row, token],
    )
    assert red > blue  # the strongest effect is dark orange
    assert red + green + blue < 300


def test_pin_a_cell_and_read_its_neurons(page, results):
    units = results[3]
    layer, token, _ = max(
        (
            (layer, token, float(abs(units.effects()[layer, token]).max()))
            for layer in range(len(units.layers))
            for token in range(len(units.tokens))
        ),
        key=lambda found: found[2],
    )
    page.select_option("[data-test=grid-right]", "neurons.map")
    assert page.get_attribute("[data-side=right]", "data-grid") == "neurons.map"
    move_to(page, "right", layer + 1, token, click=True)
    told = page.inner_text("[data-test=strong]")
    cell = units.effects()[layer, token]
    best = int(abs(cell).argmax())
    assert f"{layer}.{best}" in told
    assert "exact" in told
    assert page.locator("[data-test=trajectory] circle").count() > 6
    assert page.locator("[data-test=block] canvas").count() == 1
    # what the strongest neurons write is stored in the page
    promoted = units.label(units.promoted[units.named.tolist().index([layer, best])][0])
    assert promoted in told
    page.keyboard.press("Escape")


def test_by_keyboard_alone(page):
    page.focus("[data-test=canvas-left]")
    page.keyboard.press("ArrowUp")  # pins the focus at the last row, then moves
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert "layer 4, token 6" in page.inner_text("[data-test=live]")
    assert page.locator(f"{LOOKED} [data-test=restore]").count() == 0  # no model is behind it
    page.keyboard.press("Escape")
    assert page.locator(LOOKED).count() == 0


def test_turned_and_as_a_table(page):
    page.click("[data-test=menu] summary")
    page.get_by_label("flip: last layer first").check()
    page.get_by_label("transpose: tokens go down").check()
    page.get_by_label("table view").check()
    assert "Silent" in page.inner_text("[data-test=table]")
    page.reload()
    page.wait_for_selector("canvas")
    assert page.evaluate("[window.twinlens.flip, window.twinlens.transpose]") == [True, True]


@pytest.mark.parametrize("kind", ["PNG", "SVG", "JSON"])
def test_take_away(page, results, tmp_path, kind):
    page.click("[data-test=menu] summary")
    with page.expect_download() as coming:
        page.get_by_role("button", name=f"Save {kind}").click()
    path = tmp_path / coming.value.suggested_filename
    coming.value.save_as(path)
    payload = path.read_bytes()
    if kind == "PNG":
        assert payload.startswith(b"\x89PNG")
        assert len(payload) > 20_000
    elif kind == "SVG":
        texts = [node.text for node in ElementTree.fromstring(payload).iter() if node.text]
        assert "logit lens" in texts
    else:
        assert json.loads(payload) == json.loads(tl.twin(*results).page().json())
        page.set_input_files("input[type=file]", str(path))  # and what was saved opens
        assert page.locator("[data-test=error]").count() == 0


def test_what_is_no_document_is_refused_in_words(page, tmp_path):
    (tmp_path / "x.json").write_text('{"schema_version": 99}')
    page.click("[data-test=menu] summary")
    page.set_input_files("input[type=file]", str(tmp_path / "x.json"))
    page.wait_for_selector("[data-test=error]")
    assert "schema 2" in page.inner_text("[data-test=error]")


def test_two_looks_and_their_difference(browser, results, hamlet_model, tmp_path):
    other = tl.causal_trace(
        hamlet_model, PROMPT, SUBJECT, corruption=tl.Noise(seed=7), progress=False
    )
    views = {"seed 1": tl.twin(*results[:2]), "seed 7": tl.twin(results[0], other)}
    path = compare(views).save(tmp_path / "compare.html")
    with opened(browser, path.as_uri(), offline=True) as page:
        page.wait_for_selector("canvas")
        page.click("[data-test=difference]")
        move_to(page, "right", 2, 2)
        a, b = results[1].effects()[2, 2], other.effects()[2, 2]
        told = page.inner_text("[data-test=card-right]").replace("−", "-")
        for value in (a, b, a - b):
            assert f"{abs(value):.3g}" in told


def test_two_traces_on_one_page_keep_their_own_scores(browser, results, hamlet_model, tmp_path):
    other = tl.causal_trace(hamlet_model, PROMPT, SUBJECT, metric="logit", progress=False)
    path = tl.twin(*results[:2], other, flip=True).save(tmp_path / "x.html")
    with opened(browser, path.as_uri(), offline=True) as page:
        page.wait_for_selector("canvas")
        assert page.evaluate("window.twinlens.flip") is True
        page.select_option("[data-test=grid-right]", "trace.block~2")
        move_to(page, "right", 2, 2)
        told = page.inner_text("[data-test=card-right]")
        assert "logit restored" in told
        assert f"{other.clean:.3g}" in told


def test_columns_and_tokens_line_up_where_scroll_bars_take_room(browser, hamlet_model, tmp_path):
    prompt = " ".join([tl.hamlet.story()] * 2)
    path = tl.twin(tl.logit_lens(hamlet_model, prompt)).save(tmp_path / "x.html")
    with opened(browser, path.as_uri(), offline=True) as page:
        page.wait_for_selector("canvas")
        page.set_viewport_size({"width": 900, "height": 420})
        page.evaluate("document.querySelector('.scroller').scrollLeft = 1e6")
        page.evaluate("document.querySelector('.scroller').scrollTop = 1e6")
        page.wait_for_timeout(300)
        last = page.locator("[data-token]").last
        token, strip = int(last.get_attribute("data-token")), last.bounding_box()["x"]
        canvas = page.locator("[data-test=canvas-left]").bounding_box()["x"]
        column = page.evaluate(
            "(token) => token * window.twinlens.cellW - window.twinlens.x", token
        )
        assert abs(canvas + column - strip) < 1


def test_a_token_is_text_whatever_it_says(browser, hamlet_model, tmp_path):
    hostile = '<img src=x onerror="alert(1)"> </script><script>alert(2)</script>'
    path = tl.twin(tl.logit_lens(hamlet_model, hostile)).save(tmp_path / "x.html")
    with opened(browser, path.as_uri(), offline=True) as page:
        page.wait_for_selector("canvas")
        move_to(page, "left", 1, 1, click=True)
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 2
        strip = "".join(page.locator("[data-token] span").all_inner_texts())
        assert "<" in strip


def test_dark_narrow_and_long(browser, hamlet_model, tmp_path):
    path = tl.twin(tl.logit_lens(hamlet_model, tl.hamlet.story())).save(tmp_path / "x.html")
    with opened(browser, path.as_uri(), offline=True, color_scheme="dark") as page:
        page.set_viewport_size({"width": 420, "height": 800})
        page.wait_for_selector("canvas")
        assert page.get_attribute("main", "data-theme") == "dark"
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        assert page.locator("[data-token]").count() < 40  # only what is in sight
