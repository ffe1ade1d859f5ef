"""Paths as they are typed, in every function that takes one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_imports import FILES
from twinlens.errors import InputError
from twinlens.paths import expanded


def test_the_home_of_nobody_is_a_named_error():
    assert expanded("~/x") == Path.home() / "x"
    assert expanded(Path("a/~/x")) == Path("a/~/x")
    with pytest.raises(InputError, match="'~nosuchuser/x': there is no such home folder"):
        expanded("~nosuchuser/x")


def test_no_function_asks_for_a_home_by_itself():
    """`Path.expanduser` raises RuntimeError, which no caller expects."""
    assert [path.name for path in FILES if ").expanduser()" in path.read_text()] == ["paths.py"]
