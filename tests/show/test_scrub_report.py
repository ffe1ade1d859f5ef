"""The report of a scrub says what happened, plainly, and shows no text as markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import twinlens as tl
from twinlens.change.journal import Entry
from twinlens.change.recipe import recipe_of
from twinlens.change.scrubbed import Deletion, ScrubAccount, StageAccount
from twinlens.errors import ChangeError, MissingExtraError
from twinlens.show import scrub_figure
from twinlens.show.blocks import Code, Table, html_of, in_markdown, markdown_of
from twinlens.show.scrub_report import ScrubReport
from twinlens.show.scrub_words import NOT_SHOWN, duration

EVIL = '<script>alert(1)</script> `x` | [a](b) *b* & "q" \''
RECIPE = recipe_of(
    {
        "stage": [
            {"do": "prune", "first": 0.1, "least": 0.1, "recover": {"steps": 3}},
            {"do": "noise", "scale": 0.01, "times": 4},
            {"do": "recover", "steps": 7},
        ]
    }
)


def verdict(increase=0.004, said="pass", name="news", why="", level=0.05):
    """A verdict as the journal has it."""
    numbers = {"increase": increase, "lower": increase - 0.002, "upper": increase + 0.003}
    domain = numbers | {
        "name": name, "verdict": said, "before": 1.5, "after": 1.5 + increase, "documents": 321,
        "tokens": 54321, "kl": 0.0123, "kl_positions": 512, "flips": 0.034, "needed": None,
        "why": why,
    }  # fmt: skip
    return numbers | {
        "verdict": said, "margin": 0.01, "level": level, "domains": [domain], "notes": [],
    }  # fmt: skip


def entry(stage, number, said="pass", increase=0.004, **change):
    return Entry(
        stage=stage, share=0.1 * (number + 1), number=number, change=change,
        accepted=said == "pass",
        verdict=verdict(increase, said), step=number if said == "pass" else None, seconds=61.5,
    )  # fmt: skip


def account(**given) -> ScrubAccount:
    """Of 3 x 8 neurons 5 were deleted, 2 of 3 draws of noise kept."""
    recovery = {"tokens": 1000}
    prune = (
        entry(0, 0, increase=0.002, parts=["0.N1"], recovery=recovery),
        entry(0, 1, "fail", 2.5, parts=["0.N1"], recovery=recovery),
    )
    noise = (entry(1, 0), entry(1, 1, "cannot tell", 0.009), entry(1, 2, increase=0.005))
    removed = np.zeros((3, 8), bool)
    removed[0, :4] = removed[2, 7] = True
    scores = np.random.RandomState(0).rand(3, 8)
    made = ScrubAccount(
        folder=Path("copies/one"), model="hamlet", recipe=RECIPE,
        about={"original": "a" * 64, "text": "b" * 64},
        stages=(
            StageAccount(RECIPE.stages[0], prune, 0.0, None),
            StageAccount(RECIPE.stages[1], noise, 0.002, {"scale": 0.0141, "increase": 0.0777}),
            StageAccount(RECIPE.stages[2], (entry(2, 0, tokens=50, kind="recovery"),), 0.005, None),
        ),
        deletions=(Deletion("neuron", "use", scores, removed),), zeroed=0.0,
        final=verdict(0.0042), finished=True, later=0,
    )  # fmt: skip
    return replace(made, **given)


def text_of(page: str) -> str:
    """What a reader sees of a page."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            found.append(data)

    Reader().feed(page.partition("<body>")[2])
    return " ".join(" ".join(found).split())


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_it_tells_what_went_what_it_cost_and_what_is_not_shown(form):
    report = ScrubReport(account())
    told = text_of(report.html()) if form == "html" else report.markdown().replace("\\", "")
    for words in (
        "Passed: quality stayed within the margin",
        "On the final text, looked at once, the loss moved by +0.0042 nats a token; with 95%"
        " confidence the rise is less than +0.0072. The margin is 0.01 nats a token.",
        "5 of 24 neurons were deleted (20.8%), in 2 of 3 layers.",
        "Stage 1, prune: 1 of 2 accepted", "Stage 2, noise: 2 of 3 accepted",
        "rejected: fail", "rejected: cannot tell", "+2.5000", "2 draws of 0.01", "1 draw of 0.0141",
        "+0.0777", "54,321", "321", "0.0123", "3.4%", "2,050",
        "twinlens undo copies/one --to 0", 'do = "prune"', *(words for _, words in NOT_SHOWN),
    ):  # fmt: skip
        assert words in told, words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"final": verdict(0.03, "fail")}, "Failed: quality was lost"),
        ({"final": verdict(0.03, "fail")}, "the rise is more than +0.0280. The margin is 0.01"),
        ({"final": verdict(0.009, "cannot tell", why="too few")}, "This is no pass: too few."),
        ({"final": None}, "No final verdict"),
        ({"finished": False}, "Not finished 6 proposals were judged so far."),
        ({"later": 2}, "2 more steps were made after this scrub"),
        ({"zeroed": 0.25}, "25.0% of the weights of each linear map"),
    ],
)
def test_the_headline_is_as_strong_as_the_evidence(given, words):
    assert words in text_of(ScrubReport(account(**given)).html())


def test_it_says_plainly_that_nothing_was_deleted():
    full = account()
    failed = StageAccount(RECIPE.stages[0], (entry(0, 0, "fail", 0.5),), 0.0, None)
    none = replace(full.deletions[0], removed=np.zeros((3, 8), bool))
    told = text_of(ScrubReport(account(deletions=(none,), stages=(failed,))).html())
    assert "Nothing was deleted: none of 1 proposals to delete passed the gate." in told
    assert "Nothing was changed None of 1 proposals passed" in told
    assert "Passed" not in told  # though the original passes its own gate
    noise = account(deletions=(), stages=full.stages[1:])
    assert "the recipe has no stage that deletes" in text_of(ScrubReport(noise).html())


def test_text_of_users_is_text():
    final = verdict(0.009, "cannot tell", EVIL, EVIL)
    final["notes"] = [EVIL]
    given = {"model": EVIL, "folder": Path(f"x/{EVIL}"), "final": final}
    report = ScrubReport(account(**given))
    page, plain = report.html(), report.markdown()
    assert text_of(page).count(EVIL) >= 4
    for found in (page, plain):
        assert "<script" not in re.sub(r"```.*?```", "", found, flags=re.DOTALL)
    assert "\\| \\[a\\](b)" in plain
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in plain.split("\n") if EVIL[9:14] in line
            and line.startswith("|")} == {13}  # fmt: skip


def test_a_fence_is_longer_than_what_stands_in_it():
    assert markdown_of(Code("a ```` b")).startswith("`````text\n")
    assert in_markdown("a\n# b") == "a # b"


def test_the_page_is_one_file_without_scripts_or_addresses():
    page = ScrubReport(account()).html()
    assert "<script" not in page
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", page)
    assert "default-src 'none'" in page
    assert page.count("data:image/svg+xml;base64,") == 2


def test_pictures_follow_light_and_dark_and_are_the_same_bytes():
    one, other = (ScrubReport(account()).pictures for _ in range(2))
    assert one == other
    assert list(one) == ["neurons", "curve"]
    for svg in one.values():
        assert "prefers-color-scheme:dark" in svg
        assert "fill: var(--c0)" in svg


def test_a_picture_of_many_layers_and_of_proposals_that_nothing_bounds():
    deletion = Deletion("head", "use", np.ones((80, 3000)), np.eye(80, 3000, dtype=bool))
    odd = replace(entry(0, 0, "cannot tell"), verdict=verdict(0.2) | {"upper": None, "lower": None})
    stage = StageAccount(RECIPE.stages[0], (odd,) * 60, 0.0, None)
    report = ScrubReport(account(deletions=(deletion,), stages=(stage,), final=None))
    assert "80 of 240,000 heads were deleted (0.0%)" in text_of(report.html())
    assert "–" in report.markdown()


def test_without_matplotlib_it_says_how_to_get_pictures(monkeypatch, tmp_path):
    def missing(*_):
        raise MissingExtraError("no")

    monkeypatch.setattr(scrub_figure, "optional", missing)
    report = ScrubReport(account())
    assert report.save(tmp_path) == tmp_path / "report.html"
    assert "Pictures need matplotlib" in report.markdown()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]


def test_markdown_has_its_pictures_beside_it(tmp_path):
    ScrubReport(account()).save(tmp_path)
    named = re.findall(r"\]\((report-[a-z]+\.svg)\)", (tmp_path / "report.md").read_text("utf-8"))
    assert named == ["report-neurons.svg", "report-curve.svg"]
    assert all((tmp_path / name).exists() for name in named)


def test_tables_and_times():
    table = Table(["a", "b"], [["x", "1"]], folded="more")
    assert markdown_of(table) == "| a | b |\n| --- | ---: |\n| x | 1 |"
    assert html_of(table).startswith("<details><summary>more</summary>")
    assert [duration(s) for s in (1.234, 600, 3 * 3600 + 60)] == ["1.23 s", "10 min", "3 h 1 min"]


def test_a_folder_that_is_no_scrub(tmp_path):
    for opened in (tl.scrub_report, tl.open_scrub):
        with pytest.raises(ChangeError, match=r"is no folder of a scrub: it has no scrub\.json"):
            opened(tmp_path)
