"""What the command line says: options by the names that were typed."""

from __future__ import annotations

import pytest

from twinlens import cli
from twinlens.cli.wording import named_as_typed
from twinlens.errors import CorruptionError, FactsError, InputError

LOOK, CLEAN = ["look", "a text"], ["contest", "clean", "x"]


@pytest.mark.parametrize(
    ("tokens", "said", "told"),
    [
        (LOOK, "samples=0 must be at least 1", "--samples 0 must be at least 1"),
        (LOOK, "top_k=0 must be", "--top-k 0 must be"),
        (LOOK, "rule='t' is scaled by times_std", "--rule t is scaled by --times-std"),
        (LOOK, "factor=inf goes with to='zero'", "--ablate-factor inf goes with --ablate-to zero"),
        (LOOK, "focus='a word' is not", "--focus 'a word' is not"),
        (LOOK, "'a seed=5 b' in 'a top_k b' and 3", "'a seed=5 b' in 'a top_k b' and 3"),
        (LOOK, "the model's focus='a seed=5' is", "the model's --focus 'a seed=5' is"),
        (LOOK, 'focus="it\'s a top_k" is', '--focus "it\'s a top_k" is'),
        (LOOK, "crop=(5, 2) is", "--crop (5, 2) is"),
        (LOOK, "steps=0 is no option of look", "steps=0 is no option of look"),
        (LOOK, "the focus is 3, the rows are 4", "the focus is 3, the rows are 4"),
        (LOOK, "give tl.load(x, dtype='float32')", "give tl.load(x, dtype='float32')"),
        (LOOK, "/home/top_k/seed=1 top_k.txt 'kind=3'", "/home/top_k/seed=1 top_k.txt 'kind=3'"),
        (CLEAN, "steps=0 and kind='x'", "--steps 0 and kind='x'"),
        (["contest"], "steps=0", "steps=0"),
        ([], "steps=0", "steps=0"),
    ],
)
def test_a_message_names_the_options_of_the_command(tokens, said, told):
    assert named_as_typed(InputError(said), cli.app, tokens) == told


def test_what_is_said_of_a_file_keeps_its_names():
    assert named_as_typed(FactsError("limit=0"), cli.app, ["sweep", "x"]) == "limit=0"


def test_an_error_of_any_command_is_told_so(capsys, monkeypatch):
    def failing(*_args, **_options):
        raise CorruptionError("samples=0 must be at least 1")

    monkeypatch.setattr("twinlens.cli.recur.load_model", failing)
    with pytest.raises(SystemExit) as stop:
        cli.main(["recur"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "twinlens: --samples 0 must be at least 1\n"
