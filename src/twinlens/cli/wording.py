"""What the command line says of arguments that it cannot take: what is wrong, and what to do."""

from __future__ import annotations

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnusedCliTokensError,
)


def worded(error: CycloptsError) -> str:
    """The error in our words, where those of cyclopts do not say what to do."""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        extra = " ".join(error.unused_tokens)
        return f"{extra!r} has no place here; put a text with spaces in quotes"
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
