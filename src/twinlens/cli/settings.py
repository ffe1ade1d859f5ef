"""Settings from a TOML file: a table for each command."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path

from cyclopts import App
from cyclopts.config import Toml

from twinlens.errors import InputError, SettingsError

TYPED: ContextVar[Sequence[str] | None] = ContextVar("TYPED", default=None)
"""The words of the command line, where a settings file says more; None without such a file."""


def refuse_idle(option: str, why: str) -> None:
    """Refuse an option that would do nothing here, unless a settings file has it for all calls."""
    typed = TYPED.get()
    if typed is None or any(word.partition("=")[0] == option for word in typed):
        raise InputError(f"{option} {why}")


def settings_file(path: Path, app: App) -> Toml:
    """The file as settings of the app's commands; raises `SettingsError` where it does not fit."""
    import tomllib

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"settings file {str(path)!r} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        from twinlens.results.reading import why

        raise SettingsError(f"settings file {str(path)!r} cannot be read: {why(error)}") from error
    commands = [name for name in app if not name.startswith("-")]
    strange = sorted(set(tables) - set(commands))
    if strange:
        raise SettingsError(
            f"settings file {str(path)!r} has {strange[0]!r} at its top; expected a table for a"
            f" command: {', '.join(f'[{name}]' for name in commands)}"
        )
    return Toml(path, search_parents=False, use_commands_as_keys=True, allow_unknown=False)
