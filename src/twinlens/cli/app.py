"""The command line as a whole: its commands, its settings file, its exit codes."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter

from twinlens import __version__
from twinlens.cli.settings import settings_file
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
    if settings is not None:
        app.config = (settings_file(settings, app),)
    return app(tokens, exit_on_error=False, print_error=False, result_action="return_value")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 a check failed, 2 wrong input, 130 interrupted."""
    _print_what_the_console_can()
    try:
        code = app.meta(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.exit(code if isinstance(code, int) else 0)
    except (TwinlensError, CycloptsError) as error:
        _fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print("twinlens: interrupted; files appear whole or not at all", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _print_what_the_console_can() -> None:
    """Characters that the console's encoding lacks become `?` instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail(message: str) -> NoReturn:
    print(f"twinlens: {message}", file=sys.stderr)
    sys.exit(2)
