"""What the command line says of arguments that it cannot take: what is wrong, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from twinlens.errors import FactsError, SettingsError, TwinlensError

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_SAID = re.compile(  # what is told of Python, and what stands in quotes, stays as it is
    rf"""tl\.\w+\([^)]*\)|(?<![\w=])(?:{_QUOTED})(?!\w)"""
    rf"""|(?<![\w.'"/-])(?P<name>[a-z][a-z_]*)(?![\w./'"-])(?P<set>=(?P<value>{_QUOTED})?)?"""
)
_WORD = re.compile(r"'([\w.+:-]+)'")  # a value that needs no quotes


def named_as_typed(error: TwinlensError, app: App, tokens: Sequence[str]) -> str:
    """What the library says, with `samples=0` as the option of this command, `--samples 0`.

    What is said of a file keeps the names that stand in the file.
    """
    if isinstance(error, SettingsError | FactsError):
        return str(error)
    options = _options(app, tokens)

    def typed(found: re.Match[str]) -> str:
        name, is_set = found["name"] or "", found["set"] is not None
        dashed = name.replace("_", "-")
        option = next((o for o in (f"--{dashed}", f"--ablate-{dashed}") if o in options), None)
        if option is None or not (is_set or "_" in name):
            return found[0]
        word = _WORD.fullmatch(value := found["value"] or "")
        return f"{option} {word[1] if word else value}" if is_set else option

    return _SAID.sub(typed, str(error))


def _options(app: App, tokens: Sequence[str]) -> set[str]:
    """The long names that the command which these words call has."""
    *_, command = app.parse_commands(tokens)[1]
    if command.default_command is None:
        return set()
    arguments = command.assemble_argument_collection()
    return {name for one in arguments for name in one.names if name.startswith("--")}


def worded(error: CycloptsError) -> str:
    """The error in our words, where those of cyclopts do not say what to do."""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        extra = " ".join(error.unused_tokens)
        return f"{extra!r} has no place here; put a text with spaces in quotes"
    if isinstance(error, UnknownOptionError) and "Did you mean" not in str(error):
        chain = " ".join(["twinlens", *(error.command_chain or ()), "--help"])
        return f"{str(error).rstrip('.')}; `{chain}` lists those that there are"
    if type(error) is MissingArgumentError:
        return _missing(error)
    if isinstance(error, CoercionError) and error.target_type is float and error.token is not None:
        keyword = error.token.keyword or ""
        return f"Invalid value for {keyword}: {error.token.value!r} is no number"
    return str(error)


def _missing(error: MissingArgumentError) -> str:
    """A value is missing behind an option, or the whole argument is."""
    chain, argument = " ".join(error.command_chain or ()), error.argument
    if argument is None:
        return str(error)
    typed = getattr(error, "keyword", None)  # cyclopts 4.0 has none
    given = typed or next((t.keyword for t in argument.tokens if t.keyword), None)
    if given is not None or not argument.required:
        return f"{given or argument.name} needs a value; `twinlens {chain} --help` says which"
    positional = argument.index is not None
    name = argument.name.lstrip("-").upper() if positional else argument.name
    return f"{name} is missing; `twinlens {chain} --help` says what it is"
