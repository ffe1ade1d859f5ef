"""The command line as a whole: its commands, its settings file, its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter

from twinlens import __version__
from twinlens.cli.settings import TYPED, settings_file
from twinlens.cli.streams import outliving_readers, to_nowhere
from twinlens.cli.wording import named_as_typed, worded
from twinlens.errors import TwinlensError

app = App(
    name="twinlens",
    default_parameter=Parameter(show_default=lambda value: value or None),
    help="See what each layer of a language model would say, beside what its answer depends on.",
    version=__version__,
    usage="Usage: twinlens COMMAND [--settings FILE.toml] ...",
)
app.meta.suppress_keyboard_interrupt = app.suppress_keyboard_interrupt = False  # `main` tells
app.meta.group_parameters = Group("Settings", sort_key=9)


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    settings: Path | None = None,
) -> Any:
    """Read settings, then run the command.

    Parameters
    ----------
    settings
        TOML file with a table for each command, e.g. [look] with subject = "Paris". What stands
        on the command line wins.
    """
    app.config = () if settings is None else (settings_file(settings, app),)
    TYPED.set(None if settings is None else tokens)
    try:
        return app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except TwinlensError as error:
        return _failed(named_as_typed(error, app, tokens))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 a check failed, 2 wrong input or a machine that
    could not, 130 interrupted."""
    with outliving_readers():
        try:
            code = _flushed(_run(arguments))
        except KeyboardInterrupt:
            print("twinlens: interrupted; files appear whole or not at all", file=sys.stderr)
            code = 130
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = app.meta(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        return _failed(worded(error))
    except TwinlensError as error:
        return _failed(str(error))
    except Exception as error:
        told = _what_the_machine_lacks(error)
        if told is None:
            raise
        return _failed(told)
    return code if isinstance(code, int) else 0


def _what_the_machine_lacks(error: Exception) -> str | None:
    """One line where neither input nor program is at fault; None for a mistake in a program."""
    if isinstance(error, OSError):
        named = "" if error.filename is None else f"{error.filename}: "
        return f"{named}{error.strerror or error}"
    if isinstance(error, MemoryError | RuntimeError):
        from twinlens.run.batches import is_out_of_memory, out_of_memory

        return str(out_of_memory(error)) if is_out_of_memory(error) else None
    return None


def _flushed(code: int) -> int:
    """The exit code, when what was printed is out; 2 where it cannot be."""
    try:
        sys.stdout.flush()
    except OSError as error:
        to_nowhere(sys.stdout.fileno())  # what is in its buffer must not fail again at the end
        return code if code == 2 else _failed(f"{error.strerror or error}")
    return code


def _failed(message: str) -> int:
    print(f"twinlens: {' '.join(message.split())}", file=sys.stderr)
    return 2
