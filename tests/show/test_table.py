"""The terminal table: what the picture says, in as many characters as there are."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console

import twinlens as tl
from twinlens.show.picture import picture
from twinlens.show.table import table


def printed(results, width: int) -> str:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table(picture(results), width))
    return capture.get()


@pytest.mark.parametrize("width", [24, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(results, width):
    for line in printed(results, width).splitlines():
        assert cell_len(line.rstrip()) <= width


def test_subject_and_focus_are_always_shown(results):
    text = printed(results, 40)
    assert "▼" in text
    assert "▬" in text
    assert "tokens left out" in text


def test_a_wide_terminal_shows_every_token(results):
    text = printed(results, 400)
    assert "left out" not in text
    assert "★" in text or not results[0].right().any()


def test_effects_are_printed_with_their_sign(results):
    trace = results[1]
    effect = f"{trace.effects()[0, trace.focus]:+.3f}".replace("-", "−")
    largest = max(trace.effects().ravel(), key=abs)
    assert f"{largest:+.3f}".replace("-", "−") in printed([trace], 400) or abs(largest) < 5e-4
    assert effect in printed([trace], 400) or "·" in printed([trace], 400)


def test_wide_characters_keep_the_columns(gpt2):
    text = printed([tl.logit_lens(gpt2, "中文字 of")], 80)
    assert text
