"""What several commands do: load the model, refuse bad output early, show results."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.cli.options import LensOptions, ModelOptions, NoiseOptions, OutputOptions
from twinlens.cli.refusing import refuse_bad_file, refuse_bad_name, refuse_idle_layout
from twinlens.cli.values import span, token
from twinlens.errors import InputError, ResultFileError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from twinlens.model.model import Model
    from twinlens.results import Result
    from twinlens.see.corruption import Noise
    from twinlens.show.comparison import Comparison
    from twinlens.show.twin import TwinView


def load_model(source: str, options: ModelOptions, *, quiet: bool) -> Model:
    """The model, with a word on standard error while it comes."""
    from rich.console import Console

    refuse_bad_name(source, options)
    console = Console(stderr=True, quiet=quiet)
    with console.status("importing torch and transformers"):
        import transformers
        from huggingface_hub.utils import logging

        from twinlens.model.load import load

    logging.set_verbosity(50)  # its retries end in our one line
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with console.status(f"loading {source}"), _warnings_said(quiet=quiet):
        return load(
            source,
            device=options.device,
            dtype=options.dtype,
            revision=options.revision,
            device_map=options.device_map,
            trust_remote_code=options.trust_remote_code,
        )


@contextlib.contextmanager
def _warnings_said(*, quiet: bool) -> Generator[None]:
    """Warnings are notes on standard error; none where the command is quiet."""
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        warnings.showwarning = lambda message, *_, **__: say(str(message))
        yield


def find_models(sources: Sequence[str], options: ModelOptions) -> None:
    """Refuse a model that is not there before another is loaded and measured."""
    for source in sources:
        refuse_bad_name(source, options)
    from huggingface_hub.utils import logging

    from twinlens.model.load import refuse_missing

    logging.set_verbosity(50)  # its retries end in our one line
    for source in sources:
        refuse_missing(
            source, revision=options.revision, trust_remote_code=options.trust_remote_code
        )


def show(
    model: Model | None,
    results: list[Result],
    lens: LensOptions,
    output: OutputOptions,
    reduce: str = "mean",
) -> None:
    """Print results as a table or JSON, and write the files that were asked for."""
    from rich.console import Console

    from twinlens.show.table import table

    view = view_of(results, lens, output, reduce, token(lens.lens_target, "--lens-target"))
    named = named_by_kind(results)
    if output.json:
        print_json({name: result.to_dict() for name, result in named.items()})
    console = Console(quiet=output.quiet or output.json, highlight=False)
    console.print(table(view.picture, console.width))
    if len(results) == 1 and model is not None:
        console.print("give --subject TEXT to see what the answer depends on", style="dim")
    write(view, named, output)


def view_of(
    results: Sequence[Result],
    lens: LensOptions,
    output: OutputOptions,
    reduce: str,
    target: str | int,
) -> TwinView:
    """The picture of results that options mean; `target` is the token of the lens' metric."""
    from twinlens.show.twin import twin

    return twin(
        *results,
        lens_metric=lens.lens_metric,
        lens_target=target,
        reduce=reduce,
        columns=output.columns,
        crop=None if output.crop is None else span(output.crop, "--crop"),
        flip=output.flip,
        transpose=output.transpose,
    )


def write(view: TwinView | Comparison, named: dict[str, Result], output: OutputOptions) -> None:
    """Write the picture and the results that were asked for, and say where."""
    from rich.console import Console

    messages = Console(stderr=True, quiet=output.quiet, highlight=False, soft_wrap=True)
    if output.output is not None:
        messages.print(f"wrote {view.save(output.output)}", markup=False)
    if output.open:
        open_page(view, output, messages.print)
    if output.save is not None:
        _make_folder(output.save)
        for name, result in named.items():
            path = result.save(output.save / f"{name}.safetensors")
            messages.print(f"wrote {path}", markup=False)


def open_page(
    view: TwinView | Comparison, output: OutputOptions, say: Callable[[str], None]
) -> None:
    """Show the page in the browser: the one that was written, else one in the temporary folder."""
    import tempfile
    import webbrowser

    path = output.output
    if path is None or path.suffix.lower() != ".html":
        path = view.save(Path(tempfile.mkdtemp(prefix="twinlens-")) / "twin.html")
    if not webbrowser.open(path.absolute().as_uri()):
        say(f"no browser was found; the page is {path}")


def named_by_kind(results: Sequence[Result]) -> dict[str, Result]:
    """Each result under its kind; the second of a kind is `trace-2`."""
    named: dict[str, Result] = {}
    for result in results:
        kind = result.kind_of_result
        number = 1 + sum(other.kind_of_result == kind for other in named.values())
        named[kind if number == 1 else f"{kind}-{number}"] = result
    return named


def refuse_bad_output(output: OutputOptions) -> None:
    """Before anything is computed: can what was asked for be written?"""
    from twinlens.results.base import optional
    from twinlens.show.twin import check_format

    if output.output is not None:
        check_format(output.output)
        if output.output.suffix.lower() != ".html":
            optional("matplotlib", "figures")
        refuse_bad_file(output.output)
    if output.columns is not None and output.columns < 1:
        raise InputError(f"--columns {output.columns} must be at least 1")
    if output.crop is not None:
        span(output.crop, "--crop")
    refuse_idle_layout(output)
    if output.save is not None:
        there = next(p for p in (output.save, *output.save.absolute().parents) if p.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise ResultFileError(f"cannot write into {output.save}: {there} is no folder to write")
        for taken in output.save.glob("*.safetensors"):
            if taken.is_dir():
                raise ResultFileError(f"cannot write into {output.save}: {taken} is a folder")


def refuse_bad_crop(output: OutputOptions, model: Model, prompt: str) -> None:
    """Before anything is computed: has the prompt the tokens of --crop?"""
    from twinlens.show.layout import cropped

    if output.crop is not None:
        cropped(span(output.crop, "--crop"), len(model.encode(prompt)))


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultFileError(f"cannot make the folder {path}: {error.strerror}") from error


def print_json(value: Any) -> None:
    """One line of strict JSON in ASCII on standard output, whatever the console's encoding; null
    for what is not finite."""
    import json

    from twinlens.results.storage import plain

    print(json.dumps(plain(value), allow_nan=False))


def table_of_numbers(*columns: str, title: str | None = None) -> Table:
    """An empty table: names in the first column, on the left, and numbers, on the right.

    Where it is too wide for the terminal, names go on in the next line; nothing is cut.
    """
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    name, *numbers = columns
    table.add_column(name, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def number(value: float | None, form: str) -> str:
    """The number in a form such as `+.3f`; a dash where there is none, or it is not finite."""
    return "-" if value is None or not math.isfinite(value) else format(value, form)


def print_notes(console: Console, notes: Sequence[str]) -> None:
    """What a reader must know, below what was printed."""
    for note in notes:
        console.print(f"note: {note}", style="dim", markup=False)


def noise_of(options: NoiseOptions) -> Noise:
    """The noise that options mean."""
    from twinlens.see.corruption import Noise

    return Noise(
        sigma=options.sigma, times_std=options.times_std, samples=options.samples,
        seed=options.seed, rule=options.rule, df=options.df, replace=options.noise_replaces,
    )  # fmt: skip


def say(message: str) -> None:
    """A note on standard error, at once."""
    print(f"note: {message}", file=sys.stderr, flush=True)


def progress(output: OutputOptions) -> bool | None:
    """None: a bar on standard error where that is a terminal."""
    return False if output.quiet else None
