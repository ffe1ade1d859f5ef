"""`twinlens neuron`: the card of one neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twinlens.cli.app import app
from twinlens.cli.common import load_model, print_json, print_notes
from twinlens.cli.options import ModelOptions, Whole

if TYPE_CHECKING:
    from twinlens.see.card import NeuronCard


@app.command
def neuron(
    model: str,
    name: str,
    *,
    prompt: Annotated[str | None, Parameter(name=("--prompt", "-p"))] = None,
    top_k: Whole = 10,
    json: Annotated[bool, Parameter(negative="")] = False,
    load: ModelOptions | None = None,
) -> None:
    """The card of a neuron: tokens that it promotes and suppresses, its activation along a prompt.

    Parameters
    ----------
    model
        "hamlet" (comes with twinlens), a directory or a hub id.
    name
        LAYER.NEURON, e.g. 4.112: an input of that block's down-projection. Of an expert: 4.E2.N17;
        of the shared experts: 4.S.N17.
    prompt
        A text along which to print the neuron's activation.
    top_k
        Tokens at each end.
    json
        Print the card as JSON.
    """
    from twinlens.see.card import neuron_card, neuron_name

    layer, number = neuron_name(name)
    loaded = load_model(model, load or ModelOptions(), quiet=json)
    card = neuron_card(loaded, layer, number, prompt, top_k=top_k)
    if json:
        print_json(card.to_dict())
    else:
        _print(card)


def _print(card: NeuronCard) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(
        f"neuron {card.name}: its row of the down-projection (length"
        f" {card.norm:.3g}) through final norm and unembedding"
    )
    print_notes(console, card.notes)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("promotes", "logit", "suppresses", "logit"):
        table.add_column(column, justify="right" if column == "logit" else "left")
    for (_, up, high), (_, down, low) in zip(card.promoted, card.suppressed, strict=True):
        table.add_row(Text(up), f"{high:+.2f}", Text(down), f"{low:+.2f}")
    console.print(table)
    if card.tokens is None or card.activations is None:
        console.print("give --prompt TEXT to see where it is active", style="dim")
        return
    top = max(abs(float(a)) for a in card.activations) or 1.0
    along = Table(box=None, padding=(0, 2, 0, 0), title="activation along the prompt")
    for column in ("", "token", "activation", ""):
        along.add_column(column, justify="right" if column == "activation" else "left")
    for at, (label, value) in enumerate(zip(card.tokens.labels, card.activations, strict=True)):
        bar = "█" * round(24 * abs(float(value)) / top)
        colour = "dark_orange3" if value > 0 else "purple"
        along.add_row(str(at), Text(label), f"{value:+.3f}", Text(bar, style=colour))
    console.print(along)
