"""`twinlens serve`: the viewer in a browser, on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import find_models, load_model
from twinlens.cli.options import ModelOptions, Whole
from twinlens.errors import InputError
from twinlens.paths import expanded

if TYPE_CHECKING:
    from twinlens.model.model import Model

_NAMED = re.compile(r"([\w.-]+)=(.+)")


@app.command
def serve(
    *models: str,
    run: Annotated[list[str] | None, Parameter(negative="")] = None,
    host: str = "127.0.0.1",
    port: Whole = 7878,
    token: str | None = None,
    open: Annotated[bool, Parameter(negative="")] = False,
    max_tokens: Whole = 512,
    load: ModelOptions | None = None,
) -> None:
    """Look at prompts and runs in a browser, until Ctrl-C. Needs twinlens[viewer].

    Parameters
    ----------
    models
        "hamlet" (the default, where no run is given), directories or hub ids; NAME=MODEL gives one
        a name.
    run
        Folder that `twinlens sweep` wrote, finished or not: its average, and its facts one by one.
        NAME=FOLDER gives it a name; may be given several times.
    host
        Address to listen on. One that other machines can reach needs --token.
    port
        Port to listen on; 0 takes a free one.
    token
        What a browser must show: at least 16 characters, or "auto" for a random one.
    open
        Open a browser.
    max_tokens
        Tokens of the longest prompt that is taken.
    """
    from twinlens.show.server import require_extra

    require_extra()
    from twinlens.show import server
    from twinlens.show.server.listen import listen

    if max_tokens < 1:
        raise InputError(f"--max-tokens {max_tokens} must be at least 1")
    where = listen(host, port, token)
    with where.socket:
        runs = _runs(run or [])
        given = models or (() if runs else ("hamlet",))
        loaded = _loaded(given, load or ModelOptions())
        print(f"twinlens: {where.address}", flush=True)
        if open:
            import webbrowser

            webbrowser.open(where.address)
        server.serve(loaded, where, runs=runs, max_tokens=max_tokens)


def _loaded(given: tuple[str, ...], options: ModelOptions) -> dict[str, Model]:
    loaded: dict[str, Model] = {}
    named = [None if Path(text).exists() else _NAMED.fullmatch(text) for text in given]
    sources = [found[2] if found else text for found, text in zip(named, given, strict=True)]
    find_models(sources, options)
    for source, found in zip(sources, named, strict=True):
        model = load_model(source, options, quiet=False)
        name = found[1] if found else model.name
        if name in loaded:
            raise InputError(f"two models are called {name!r}; give one another: NAME={source}")
        loaded[name] = model
    return loaded


def _runs(given: list[str]) -> dict[str, Path]:
    """Folders by name; that they are runs is seen here, before a model is loaded."""
    from twinlens.sweep.store import open_run

    folders: dict[str, Path] = {}
    for text in given:
        named = None if Path(text).exists() else _NAMED.fullmatch(text)
        source = named[2] if named else text
        folder = expanded(source).resolve()
        name = named[1] if named else folder.name
        if name in folders:
            raise InputError(f"two runs are called {name!r}; give one another: --run NAME={source}")
        open_run(folder)
        folders[name] = folder
    return folders
