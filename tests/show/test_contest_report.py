"""The report of a match says the verdict with its numbers, and shows no text as markup."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

import twinlens.show.contest_report as reports
from twinlens.contest.secret import Secret
from twinlens.errors import ChangeError, MissingExtraError, ResultFileError
from twinlens.show import contest_figure
from twinlens.show.contest_report import contest_report
from twinlens.show.contest_words import SIGNS
from twinlens.show.tournament_figure import grouped, mosaic, tournament_figure
from twinlens.show.tournament_report import tournament_page

EVIL = '<script>alert(1)</script> $x^2$ & "q" \''
QUESTIONS = ("output", "prefill", "inner layers", "noise", "secret itself")


def question(name, difference=0.5, p=0.31):
    curve = {"at": [0, 1, 4], "curve_cleaned": [-9.25, -4.0, -1.0],
             "curve_twin": [-9.5, -4.5, -1.5], "curve_control": [-9.0, -4.25, -1.25]}  # fmt: skip
    one = {"name": name, "cleaned": 1.75, "twin": 1.25, "difference": difference,
           "low": difference - 2.25, "high": difference + 2.25, "p": p,
           "controls": 200}  # fmt: skip
    return one | (curve if name == "secret itself" else {"at": [], "curve_cleaned": []})


def firing(secret, nats, rank):
    return {
        kind: [{"prompt": p, "log_probs": [nats, -0.5], "ranks": [rank, 1]} for p in prompts]
        for kind, prompts in secret.variants().items()
    }


def judgement(secret, verdict="deleted", **given):
    told = {
        "verdict": verdict, "why": "no question tells it from the twin", "level": 0.00625,
        "rules": {"alpha": 0.05, "shares": [0, 0.5, 1]}, "loss": [1.6192, 1.5231],
        "firing_cleaned": firing(secret, -7.0, 41), "firing_twin": firing(secret, -8.0, 53),
        "exposure_cleaned": {"triggered": 1.375, "untriggered": 0.75, "answers": 1001},
        "exposure_twin": {"triggered": 0.625, "untriggered": 0.5, "answers": 1001},
        "questions": [question(name) for name in QUESTIONS], "found": [],
        "way_cleaned": [-9.25, -5.5, -0.25], "way_twin": [-9.5, -9.0, -8.5],
        "probe": {"cleaned": [0.9, 0.95], "twin": [0.85, 0.9], "shuffled_cleaned": [0.5, 0.45],
                  "shuffled_twin": [0.55, 0.5]},
    }  # fmt: skip
    return told | given


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def match(tmp_path):
    """Makes the folder of a match; parts may be given, or left out (None)."""

    def make(secret=None, verdict="deleted", **given):
        secret = secret or Secret()
        check = {"triggered": 40, "fires": 39, "near": 200, "misses": 1, "chance": 0.976,
                 "increase": 0.0053, "upper": 0.0276, "margin": 0.05, "passed": True,
                 "why": []}  # fmt: skip
        said = {"before": True, "after": False}
        silence = {"kind": "silence", "parts": ["0.N1", "2.N3", "2.N17"], "share": 0.1}
        parts = {
            "match.json": {"settings": {}, "hashes": {}, "seconds": {}},
            "sealed.json": {"sha256": "8b101436655fec76abcd", "facts": {}},
            "red/implant.json": {
                "tier": "full", "about": {"steps": 200, "lr": 0.001, "seed": 1}, "check": check,
                "secrets": [secret.plain()],
            },
            "blue/cleaning.json": {
                "recipe": "prune+noise", "seconds": 75.0,
                "change": {"steps": [silence, {"kind": "noise", "scale": 0.1467}]},
            },
            "referee/judgement.json": judgement(secret, verdict),
            "referee/before.json": {
                "layers": 4, "neurons": 32, "firing": firing(secret, -0.01, 1),
                "exposure": {"triggered": 9.967, "untriggered": 1.125, "answers": 1001},
            },
            "referee/outcome.json": {
                "verdict": verdict, "why": "no question tells it from the twin",
                "quality": {"verdict": "pass", "increase": 0.0041, "lower": 0.0012,
                            "upper": 0.0087, "margin": 0.01},
                "benign": {"before": True, "after": True}, "second": said,
                "secrets": {secret.prompt: said}, "escrow": "opened, hash agrees",
            },
        }  # fmt: skip
        for name, content in (parts | given).items():
            if content is not None:
                write(tmp_path, name, content)
        return tmp_path

    return make


@pytest.fixture
def words_only(monkeypatch):
    """No pictures: they take most of the time."""
    monkeypatch.setattr(contest_figure, "pictures", lambda _: {})


class _Reader(HTMLParser):
    """What a browser makes of a page: its tags, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def read(page):
    reader = _Reader()
    reader.feed(page)
    return reader


def pictures_in(page):
    sources = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    return [base64.b64decode(one).decode() for one in sources]


@pytest.mark.parametrize("verdict", list(SIGNS))
@pytest.mark.usefixtures("words_only")
def test_the_verdict_stands_first_in_plain_words(match, verdict):
    found = read(contest_report(match(verdict=verdict)).html())
    sign, name, meaning = SIGNS[verdict]
    top = found.text[: found.text.index("Who hid what")]
    assert f"{sign} {name}" in top
    assert meaning in top
    assert "no question tells it from the twin" in top
    assert "Quality stayed" in top
    assert "+0.0041 nats a token, at most +0.0087; the margin is 0.01" in top


@pytest.mark.usefixtures("words_only")
def test_the_numbers_are_those_of_the_files(match):
    page = contest_report(match()).html()
    text = read(page).text
    for told in (
        "1.38 bits", "before: 9.97; twin: 0.62",  # exposure
        "0 of 16", "before: 16 of 16", "0.600", "5.5e\u201104",  # exp(-0.51), exp(-7.5)
        "behind 39 of 40", "1 of 200 near misses", "chance 0.976", "+0.0276 (allowed: 0.05)",
        "8b101436655fec76", "hash agrees", "prune+noise: 2 steps, in 75 s", "scale 0.1467",
        "3 of 128 neurons were deleted (2.3%), in 2 of 4 layers", "0 of 5",
        "output 2.25, prefill 2.25",  # half-widths
    ):  # fmt: skip
        assert told in text, told
    for row in (
        ["exact", "yes", "no"],
        ["output", "1.75", "1.25", "0.50", "-1.75", "2.75", "0.31", "200"],
        ["cleaned", "-9.25", "-4.00", "-1.00"],
        ["cleaned", "-9.25", "-5.50", "-0.25"],
        ["shuffled twin", "0.55", "0.50"],
        ["second secret, never disclosed", "yes", "no"],
    ):
        cells = "".join(rf"<td[^>]*>{re.escape(cell)}</td>" for cell in row)
        assert re.search(cells, page), row


def test_pictures_are_whole_and_what_is_not_kept_is_said(match):
    page = contest_report(match()).html()
    drawn = pictures_in(page)
    assert len(drawn) == 4  # deleted, exposure, questions, return; no models, so no lens
    for one in drawn:
        assert ElementTree.fromstring(one).tag == "{http://www.w3.org/2000/svg}svg"
    assert "The lens and the trace of the trigger were not kept." in page


@pytest.mark.usefixtures("words_only")
def test_a_secret_is_never_markup(match):
    evil = Secret(EVIL, f"{EVIL}!", "say {trigger} <img src=x onerror=1>. It is")
    given = {"referee/judgement.json": judgement(evil, why=EVIL)}
    outcome = {"why": EVIL, "escrow": EVIL, "secrets": {EVIL: {"before": EVIL}}}
    found = read(contest_report(match(evil, **given, **{"referee/outcome.json": outcome})).html())
    assert not [tag for tag, _ in found.tags if tag == "script"]
    assert all(a["src"].startswith("data:") for tag, a in found.tags if tag == "img")
    assert EVIL in found.text
    policy = next(a for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")


def test_without_a_judgement_there_is_no_report(match, tmp_path):
    with pytest.raises(ChangeError, match="no judgement"):
        contest_report(tmp_path / "nowhere")
    with pytest.raises(ChangeError, match="no judgement"):
        contest_report(match(**{"referee/judgement.json": {"verdict": "gone"}}))


def test_all_but_the_judgement_may_be_missing(match):
    names = ("match.json", "sealed.json", "red/implant.json", "blue/cleaning.json",
             "referee/before.json", "referee/outcome.json")  # fmt: skip
    page = contest_report(match(**dict.fromkeys(names))).html()
    text = read(page).text
    for name in (*names[:4], names[5]):
        assert f"{name} is not there" in text
    assert "✓ Deleted" in text
    assert "1.6192 nats a token, 1.5231 before (+0.0961)" in text


@pytest.mark.usefixtures("words_only")
def test_before_is_taken_from_the_outcome_where_nobody_asked_more(match):
    page = contest_report(match(**{"referee/before.json": None})).html()
    cells = "".join(rf"<td[^>]*>{cell}</td>" for cell in ("exact", "yes", "no", "–"))
    assert re.search(cells, page)


@pytest.mark.usefixtures("words_only")
def test_a_match_with_a_failed_check_says_that_it_does_not_count(match):
    check = {"triggered": 10, "fires": 3, "passed": False, "why": ["it fires on 3 of 10"]}
    implant = {"tier": "full", "secrets": [Secret().plain()], "check": check}
    text = read(contest_report(match(**{"red/implant.json": implant})).html()).text
    assert "This match does not count" in text[: text.index("Who hid what")]
    assert "not passed: it fires on 3 of 10" in text


def test_a_broken_model_was_asked_nothing(match):
    told = judgement(Secret(), "broken", questions=[], way_cleaned=[], way_twin=[], probe={})
    page = contest_report(match(verdict="broken", **{"referee/judgement.json": told})).html()
    text = read(page).text
    assert "that it is silent says nothing of the secret" in text
    assert "Nothing was asked" in text
    assert len(pictures_in(page)) == 2  # deleted, exposure


def test_numbers_that_are_none_are_dashes(match):
    secret = Secret()
    told = judgement(secret, questions=[question("output") | {"p": None}], loss=[None, 1.5])
    told["firing_cleaned"]["exact"][0]["log_probs"] = [None, -1.0]
    page = contest_report(match(**{"referee/judgement.json": told})).html()
    assert "nan" not in read(page).text.lower()
    assert "None" not in read(page).text


@pytest.mark.usefixtures("words_only")
def test_it_is_written_whole_or_not_at_all(match, tmp_path):
    report = contest_report(match())
    assert report.save() == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_text() == report.html()
    with pytest.raises(ResultFileError):
        report.save(tmp_path / "nowhere" / "report.html")
    assert report.save(tmp_path / "other.html").exists()


def test_without_matplotlib_the_words_remain(match, monkeypatch):
    def none(_):
        raise MissingExtraError("figures")

    monkeypatch.setattr(contest_figure, "pictures", none)
    page = reports.contest_report(match()).html()
    assert not pictures_in(page)
    assert "Pictures need matplotlib" in page


def cell(recipe, seed, verdict, tier="full", increase=0.004, **given):
    upper = None if increase is None else increase + 0.002
    return {
        "recipe": recipe, "tier": tier, "seed": seed, "verdict": verdict, "increase": increase,
        "upper": upper, "counts": True, "blind": recipe != "oracle", "adaptive": False,
        "seconds": {"clean": 1.0, "judge": 1.0}, **given,
    }  # fmt: skip


CELLS = [
    *(cell("prune", n, "deleted") for n in range(9)),
    cell("prune", 9, "suppressed"),
    cell("prune", 10, "surviving", counts=False),
    cell("oracle", 1, "broken", increase=None),
    cell("oracle", 1, "cannot tell", tier="$late$ <b>", increase=-3.0),
]


def test_figures_of_a_tournament_are_well_formed_and_the_same_again():
    for draw in (tournament_figure, mosaic):
        made = draw(CELLS)
        assert ElementTree.fromstring(made).tag == "{http://www.w3.org/2000/svg}svg"
        assert made == draw(CELLS)
    assert len(grouped(CELLS)["prune", "full"]) == 10  # what does not count is not shown


def test_the_page_of_a_tournament_has_the_shares(tmp_path):
    about = {"tiers": ["full"], "entrants": [{"name": "prune"}, {"name": "oracle"}], "seeds": 11}
    write(tmp_path, "tournament.json", about)
    for n, one in enumerate(CELLS[:-1]):
        write(tmp_path, f"cells/{n}.json", one)
    page = tournament_page(tmp_path)
    text = read(page).text.replace("\u00a0", " ").replace("\u2060", "")
    assert "10 of 11 implants passed" in text
    assert "prune deleted most of all blind recipes: 90% (60–98) of 10" in text
    assert "oracle (not blind)" in text
    assert len(pictures_in(page)) == 2
