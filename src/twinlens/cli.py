"""Commands: parse, call the library, print. Imports nothing heavy at module level."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.config import Toml

from twinlens import __version__
from twinlens.errors import InputError, ResultFileError, SettingsError, TwinlensError
from twinlens.options import (
    CorruptionOptions,
    LensOptions,
    ModelOptions,
    OutputOptions,
    TraceOptions,
)

if TYPE_CHECKING:
    from twinlens.model.model import Model
    from twinlens.results import Result

app = App(
    name="twinlens",
    default_parameter=Parameter(show_default=lambda value: value or None),
    help="See what each layer of a language model would say, beside what its answer depends on.",
    version=__version__,
    usage="Usage: twinlens COMMAND [--settings FILE.toml] ...",
)
app.meta.group_parameters = Group("Settings", sort_key=9)
ModelArgument = Annotated[str, Parameter(name=("--model", "-m"))]


@app.command
def look(
    prompt: str,
    *,
    model: ModelArgument,
    trace: TraceOptions | None = None,
    corruption: CorruptionOptions | None = None,
    lens: LensOptions | None = None,
    load: ModelOptions | None = None,
    output: OutputOptions | None = None,
) -> None:
    """See a prompt: the logit lens, and with a subject the causal trace beside it.

    Parameters
    ----------
    prompt
        The text to look at.
    model
        A directory or a hub id.
    """
    trace, corruption = trace or TraceOptions(), corruption or CorruptionOptions()
    lens, output = lens or LensOptions(), output or OutputOptions()
    _refuse_bad_output(output)
    loaded = _load(model, load or ModelOptions(), quiet=output.quiet)
    results = _measure(loaded, prompt, trace, corruption, lens, _progress(output))
    if output.json:
        _print_json({result.kind_of_result: result.to_dict() for result in results})
    _show(loaded, results, lens, output)


@app.command
def check(
    model: str,
    *,
    json: Annotated[bool, Parameter(negative="")] = False,
    load: ModelOptions | None = None,
) -> int:
    """Prove by numbers that twinlens knows where the parts of a model are. Exit code 1 if not.

    Parameters
    ----------
    model
        A directory or a hub id.
    json
        Print the checks as JSON.
    """
    import dataclasses

    from twinlens.run import check as run_check

    report = run_check.check(_load(model, load or ModelOptions(), quiet=json))
    if json:
        _print_json(dataclasses.asdict(report) | {"passed": report.passed})
    else:
        _print_checks(report)
    return 0 if report.passed else 1


@app.command
def draw(
    files: Annotated[list[Path], Parameter(negative="")],
    *,
    lens_metric: str | None = None,
    lens_target: str = "final",
    output: OutputOptions | None = None,
) -> None:
    """Show results that were saved before, without the model.

    Parameters
    ----------
    files
        Results of the same prompt (`look --save DIR` writes them).
    lens_metric
        Colour of the lens.
    lens_target
        Token of that metric.
    """
    from twinlens.results import open_result

    output = output or OutputOptions()
    _refuse_bad_output(output)
    results = [open_result(file) for file in files]
    if output.json:
        _print_json({result.kind_of_result: result.to_dict() for result in results})
    _show(None, results, LensOptions(lens_metric=lens_metric, lens_target=lens_target), output)  # type: ignore[arg-type]


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
        app.config = (_settings(settings),)
    return app(tokens, exit_on_error=False, print_error=False, result_action="return_value")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 a check failed, 2 wrong input, 130 interrupted."""
    try:
        code = app.meta(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.exit(code if isinstance(code, int) else 0)
    except (TwinlensError, CycloptsError) as error:
        _fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print("twinlens: interrupted; nothing was written", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str) -> NoReturn:
    print(f"twinlens: {message}", file=sys.stderr)
    sys.exit(2)


def _settings(path: Path) -> Toml:
    import tomllib

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"settings file {str(path)!r} does not exist") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"settings file {str(path)!r} cannot be read: {error}") from error
    commands = [name for name in app if not name.startswith("-")]
    strange = sorted(set(tables) - set(commands))
    if strange:
        raise SettingsError(
            f"settings file {str(path)!r} has {strange[0]!r} at its top; expected a table for a"
            f" command: {', '.join(f'[{name}]' for name in commands)}"
        )
    return Toml(path, search_parents=False, use_commands_as_keys=True, allow_unknown=False)


def _load(source: str, options: ModelOptions, *, quiet: bool) -> Model:
    from rich.console import Console

    console = Console(stderr=True, quiet=quiet)
    with console.status("importing torch and transformers"):
        import huggingface_hub
        import transformers

        from twinlens.model.load import load

    huggingface_hub.utils.logging.set_verbosity(50)  # its retries end in our one line
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with console.status(f"loading {source}"):
        return load(
            source,
            device=options.device,
            dtype=options.dtype,
            revision=options.revision,
            device_map=options.device_map,
            trust_remote_code=options.trust_remote_code,
        )


def _measure(
    model: Model,
    prompt: str,
    asked: TraceOptions,
    corruption: CorruptionOptions,
    lens: LensOptions,
    progress: bool | None,
) -> list[Result]:
    import warnings

    from twinlens.see.lens import logit_lens
    from twinlens.see.trace import causal_trace

    target = _token(lens.lens_target, "--lens-target")
    extra = [] if target in ("final", "next") else [target]
    results: list[Result] = []
    results.append(
        logit_lens(
            model, prompt, rows=lens.rows, targets=extra, top_k=lens.top_k, progress=progress
        )
    )
    subjects = [*asked.subject, *(_span(text, "--subject-tokens") for text in asked.subject_tokens)]
    if subjects or corruption.counterfactual is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the notes of the result are printed instead
            results.append(
                causal_trace(
                    model,
                    prompt,
                    subjects or None,
                    focus=_position(asked.focus),
                    answer=_token_or_none(asked.answer, "--answer"),
                    kind=asked.kind,
                    window=asked.window,
                    corruption=_corruption(corruption),
                    metric=asked.metric,
                    foil=_token_or_none(asked.foil, "--foil"),
                    direction=asked.direction,
                    batch_tokens=asked.batch_tokens,
                    progress=progress,
                )
            )
    return results


def _corruption(options: CorruptionOptions) -> Any:
    from twinlens.see.corruption import Noise, Replace

    if options.counterfactual is not None or options.replace:
        return Replace(prompt=options.counterfactual, subjects=options.replace or None)
    return Noise(
        sigma=options.sigma,
        times_std=options.times_std,
        samples=options.samples,
        seed=options.seed,
        rule=options.rule,
    )


def _show(
    model: Model | None, results: list[Result], lens: LensOptions, output: OutputOptions
) -> None:
    from rich.console import Console

    from twinlens.show.table import table
    from twinlens.show.twin import twin

    view = twin(
        *results,
        lens_metric=lens.lens_metric,
        lens_target=_token(lens.lens_target, "--lens-target"),
        columns=output.columns,
        crop=None if output.crop is None else _span(output.crop, "--crop"),
        flip=output.flip,
        transpose=output.transpose,
    )
    console = Console(quiet=output.quiet or output.json, highlight=False)
    console.print(table(view.picture, console.width))
    if len(results) == 1 and model is not None:
        console.print("give --subject TEXT to see what the answer depends on", style="dim")
    messages = Console(stderr=True, quiet=output.quiet, highlight=False, soft_wrap=True)
    if output.output is not None:
        messages.print(f"wrote {view.save(output.output)}", markup=False)
    if output.save is not None:
        for result in results:
            path = output.save / f"{result.kind_of_result}.safetensors"
            messages.print(f"wrote {result.save(path)}", markup=False)


def _refuse_bad_output(output: OutputOptions) -> None:
    """Before anything is computed: can what was asked for be written?"""
    from twinlens.results.base import optional
    from twinlens.show.twin import check_format

    if output.output is not None:
        check_format(output.output)
        optional("matplotlib", "figures")
        if not output.output.parent.is_dir():
            raise ResultFileError(
                f"cannot write {output.output}: the folder {output.output.parent} does not exist"
            )
    if output.save is not None:
        try:
            output.save.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResultFileError(f"cannot make the folder {output.save}: {error}") from error


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _print_checks(report: Any) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "check", "error", "allowed"):
        table.add_column(column)
    for made in report.checks:
        mark = Text("ok", style="green") if made.passed else Text("FAILED", style="bold red")
        why = "" if made.passed else f"\n{made.means}"
        table.add_row(mark, Text(made.name + why), f"{made.error:.1e}", f"{made.tolerance:.0e}")
    console = Console(highlight=False)
    console.print(table)
    failed = len(report.failed())
    verdict = "every check holds" if report.passed else f"{failed} of {len(report.checks)} failed"
    console.print(f"{report.model} (family {report.family}): {verdict}", markup=False)


def _progress(output: OutputOptions) -> bool | None:
    return False if output.quiet else None


def _position(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _token_or_none(text: str | None, option: str) -> str | int | None:
    return None if text is None else _token(text, option)


def _token(text: str, option: str) -> str | int:
    """`#1234` is a token id, everything else is text."""
    if not (text.startswith("#") and len(text) > 1):
        return text
    if not text[1:].isdecimal():
        raise InputError(f"{option} {text!r} is no token id; expected # and a number, or text")
    return int(text[1:])


def _span(text: str, option: str) -> tuple[int, int]:
    start, colon, stop = text.partition(":")
    if not (colon and start.strip().isdecimal() and stop.strip().isdecimal()):
        raise InputError(f"{option} {text!r} is no span of tokens; expected START:STOP, e.g. 3:5")
    return int(start), int(stop)
