"""`twinlens check`: prove by numbers that the parts of a model were found."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import load_model, print_json
from twinlens.cli.options import ModelOptions


@app.command
def check(
    model: str = "hamlet",
    *,
    json: Annotated[bool, Parameter(negative="")] = False,
    load: ModelOptions | None = None,
) -> int:
    """Prove by numbers that twinlens knows where the parts of a model are. Exit code 1 if not.

    Parameters
    ----------
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    json
        Print the checks as JSON.
    """
    import dataclasses

    from twinlens.run import check as run_check

    report = run_check.check(load_model(model, load or ModelOptions(), quiet=json))
    if json:
        print_json(dataclasses.asdict(report) | {"passed": report.passed})
    else:
        _print_checks(report)
    return 0 if report.passed else 1


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
