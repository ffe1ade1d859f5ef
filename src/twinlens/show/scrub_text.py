"""The report of a scrub as sections of blocks, in the order in which they are read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from twinlens.change.recipe import Noise
from twinlens.change.recipe_text import toml_of
from twinlens.change.scrubbed import ScrubAccount, StageAccount, tokens_of
from twinlens.show.blocks import Block, Bullets, Code, Facts, Paragraph, Picture, Section, Table
from twinlens.show.scrub_words import (
    NOT_SHOWN,
    answer,
    bound,
    deleted,
    described,
    duration,
    nothing,
    number,
    proposed,
    rounded,
)

LIMITS = "What this does not show"
_NO_PICTURES = "Pictures need matplotlib: pip install 'twinlens[figures]', then make this again."


def sections(account: ScrubAccount, pictures: Mapping[str, str]) -> list[Section]:
    """All of the report below its headline; `pictures`: SVG by name."""
    made = [
        Section("What was deleted, and where", _deleted(account, pictures)),
        Section("Quality, proposal by proposal", _curve(account, pictures)),
        Section("Stage by stage", _stages(account)),
    ]
    if any(isinstance(one.stage, Noise) for one in account.stages):
        made.append(Section("Noise in steps, and as much at once", _control(account)))
    made.append(Section("The final verdict", _verdict(account)))
    made.append(Section(LIMITS, [Bullets(NOT_SHOWN)]))
    made.append(Section("Time and training", [_cost(account)]))
    made.append(Section("The way back, and how it was made", _made(account)))
    return made


def facts(account: ScrubAccount) -> Facts:
    """The numbers that say most."""
    found = [
        (f"{one.share:.1%}", f"of the {one.kind}s deleted: {int(one.removed.sum()):,} of"
         f" {one.removed.size:,}")
        for one in account.deletions
    ]  # fmt: skip
    if account.zeroed:
        found.append((f"{account.zeroed:.1%}", "of the weights in the blocks set to zero"))
    for one in account.stages:
        if isinstance(one.stage, Noise):
            told = f"draws of noise of {one.stage.scale:g} deviations kept"
            found.append((f"{len(one.accepted)} of {len(one.entries)}", told))
    found.append((f"{len(account.accepted)} of {len(account.entries)}", "proposals accepted"))
    if account.verdict is not None and account.accepted:
        where = "final text" if account.final else "gate text"
        found.append((number(account.verdict["increase"]), f"nats a token on the {where}"))
    return Facts(found)


def _deleted(account: ScrubAccount, pictures: Mapping[str, str]) -> list[Block]:
    if (none := nothing(account)) is not None:
        return [Paragraph(none, strong=True)]
    made: list[Block] = []
    if account.zeroed:
        told = f"{account.zeroed:.1%} of the weights of each linear map in the blocks are zero: the"
        made.append(Paragraph(f"{told} same share in every layer."))
    for one in account.deletions:
        made.append(Paragraph(deleted(one)))
        if (svg := pictures.get(f"{one.kind}s")) is not None and one.removed.any():
            caption = (
                f"Each cell is a {one.kind}; layers run top to bottom, and within a layer from the"
                f" highest {one.score} to the lowest. Pink: deleted. Otherwise the darker, the"
                " higher, on a scale of powers of ten."
            )
            alt = f"A map of the {one.kind}s by layer. {deleted(one)}"
            made.append(Picture(f"report-{one.kind}s.svg", svg, alt, caption))
    tables = [one for one in account.deletions if one.removed.any()]
    return made + ([_by_layer(account)] if tables else []) + _hint(account, pictures)


def _by_layer(account: ScrubAccount) -> Table:
    head = ["layer"]
    for one in account.deletions:
        head += [f"{one.kind}s deleted", "share"]
    layers = range(len(account.deletions[0].removed))
    rows = [
        [str(layer)] + [cell for one in account.deletions for cell in
         (f"{one.removed[layer].sum():,}", f"{one.removed[layer].mean():.1%}")]
        for layer in layers
    ]  # fmt: skip
    total = [c for d in account.deletions for c in (f"{d.removed.sum():,}", f"{d.share:.1%}")]
    return Table(head, [*rows, ["all", *total]], folded="The numbers by layer")


def _hint(account: ScrubAccount, pictures: Mapping[str, str]) -> list[Block]:
    return [] if pictures or not account.entries else [Paragraph(_NO_PICTURES)]


def _curve(account: ScrubAccount, pictures: Mapping[str, str]) -> list[Block]:
    if not account.entries:
        return [Paragraph("No proposal was judged yet.")]
    kept, tried = len(account.accepted), len(account.entries)
    told = (
        f"{tried} proposals were judged, {kept} accepted. Each was put on the copy as it was then"
        " and compared with the original, at a look of its own at the gate text; only a pass is"
        " accepted. “Cannot tell” is no pass."
    )
    made: list[Block] = [Paragraph(told)]
    if (svg := pictures.get("curve")) is not None:
        alt = "The increase of the loss at each proposal, with its bounds, against the margin."
        caption = (
            "Points: increase of the loss in the worst domain; bars: its one-sided bounds at the"
            " level of the look. What ends below the dashed line passes. Below: what was proposed"
            " (share of the units, n: a draw of noise, r: a training). An arrow: beyond the picture"
        )
        made.append(Picture("report-curve.svg", svg, alt, f"{caption}."))
    return made


def _stages(account: ScrubAccount) -> list[Block]:
    made, first = list[Block](), 1
    for n, one in enumerate(account.stages, 1):
        kind = type(one.stage).__name__.lower()
        told = f"{len(one.accepted)} of {len(one.entries)} accepted"
        made.append(Paragraph(f"Stage {n}, {kind}: {told if one.entries else 'not begun'}", True))
        made.append(Paragraph(described(one.stage)))
        if one.entries:
            made.append(_proposals(one, first))
        if one.entries and (told := rounded(one.entries[0])):
            made.append(Paragraph(told))
        first += len(one.entries)
    return made


def _proposals(one: StageAccount, first: int) -> Table:
    head = ["no.", "proposal", "verdict", "increase", "lower", "upper", "step", "s"]
    rows = [
        [str(n), proposed(e, one.stage), answer(e), number(e.verdict["increase"]),
         bound(e.verdict, "lower"), bound(e.verdict), "" if e.step is None else str(e.step),
         f"{e.seconds:.1f}"]
        for n, e in enumerate(one.entries, first)
    ]  # fmt: skip
    if any(map(tokens_of, one.entries)):
        head.append("tokens trained")
        for row, entry in zip(rows, one.entries, strict=True):
            row.append(f"{tokens_of(entry):,}")
    return Table(head, rows, words=(0, 1, 2))


def _control(account: ScrubAccount) -> list[Block]:
    rows: list[list[str]] = []
    for n, one in enumerate(account.stages, 1):
        if isinstance(one.stage, Noise) and one.control is not None:
            kept = one.accepted
            after = kept[-1].increase if kept else one.before
            trained = ", trained" if one.stage.recover else ""
            rows += [
                [str(n), "as it began", number(one.before)],
                [str(n), f"{len(kept)} draws of {one.stage.scale:g}{trained}", number(after)],
                [str(n), f"1 draw of {one.control['scale']:.3g}", number(one.control["increase"])],
            ]
    if not rows:
        return [Paragraph("There is no control: it is made of stages with several draws.")]
    told = (
        "The control is one draw of as much noise as was kept (k draws of a scale are one of the"
        " scale times √k), on the weights with which the stage began, without training. Its"
        " increase is a number on the gate text, with no verdict and no bounds; between two draws"
        " of noise it differs."
    )
    return [Table(["stage", "noise", "increase"], rows, words=(0, 1)), Paragraph(told)]


def _verdict(account: ScrubAccount) -> list[Block]:
    verdict = account.verdict
    if verdict is None:
        return [Paragraph("There is none: nothing was accepted, and no final text was looked at.")]
    made: list[Block] = []
    if not account.accepted:
        made.append(Paragraph("The copy has the original's weights: there was nothing to judge."))
    if account.final is None:
        made.append(Paragraph("No final text was looked at."))
    made.append(_domains(account))
    reasons = [(f"{d['name']}:", f"{d['why']}.") for d in verdict["domains"] if d["why"]]
    told = (
        f"Nats a token; the margin is {verdict['margin']:g}. Bounds are one-sided, documents are"
        " clusters. KL is that of the original to the copy, at sampled positions; flips is the"
        " share of tokens where the likeliest next token is another. The gate text is that of the"
        " last step that was accepted: it was looked at again and again, and steps were chosen by"
        " it, so only the final text is a fair witness."
    )
    made += [*([Bullets(reasons)] if reasons else []), Paragraph(told)]
    return made + [Paragraph(f"Note: {note}") for note in verdict.get("notes", ())]


def _domains(account: ScrubAccount) -> Table:
    """The final text, and the gate text as it was last accepted."""
    final = account.final["domains"] if account.final else []
    gate = account.accepted[-1].verdict["domains"] if account.accepted else []
    domains = [("final", d) for d in final] + [("gate", d) for d in gate]
    head = ["looked at", "domain", "verdict", "increase", "lower", "upper",
            "loss before", "after", "KL", "flips", "documents", "tokens"]  # fmt: skip
    rows = [
        [which, d["name"], d["verdict"], number(d["increase"]), number(d["lower"]),
         number(d["upper"]), f"{d['before']:.4f}", f"{d['after']:.4f}",
         "–" if d["kl"] is None else f"{d['kl']:.4f}",
         f"{d['flips']:.1%}", f"{d['documents']:,}", f"{d['tokens']:,}"]
        for which, d in domains
    ]  # fmt: skip
    return Table(head, rows, words=(0, 1, 2))


def _cost(account: ScrubAccount) -> Table:
    rows = [
        [f"{n} {type(one.stage).__name__.lower()}", str(len(one.entries)), str(len(one.accepted)),
         f"{sum(map(tokens_of, one.accepted)):,}", f"{sum(map(tokens_of, one.entries)):,}",
         duration(sum(entry.seconds for entry in one.entries))]
        for n, one in enumerate(account.stages, 1)
    ]  # fmt: skip
    kept, lost = (account.tokens(accepted=which) for which in (True, False))
    rows.append(["all", str(len(account.entries)), str(len(account.accepted)), f"{kept:,}",
                 f"{kept + lost:,}", duration(account.seconds)])  # fmt: skip
    head = ["stage", "proposals", "accepted", "tokens trained, accepted", "all", "time"]
    return Table(head, rows)


def _made(account: ScrubAccount) -> list[Block]:
    folder = shlex.quote(str(account.folder))
    told = (
        "The folder is a model that transformers loads. Every accepted step can be taken back, bit"
        " for bit; the steps are those of the tables above, 0 is the original."
    )
    later = (
        [Paragraph(f"{account.later} more steps were made after this scrub; the weights in the"
                   " folder are no longer those that this report is about.", True)]
        if account.later else []
    )  # fmt: skip
    hashes = (
        f"The original is {account.model}, weights {account.about['original'][:16]}; the text by"
        " which units were scored and the copy was trained has the hash"
        f" {account.about['text'][:16]}."
    )
    return [
        *later, Paragraph(told), Code(f"twinlens undo {folder}\ntwinlens undo {folder} --to 0"),
        Paragraph(hashes), Paragraph("The recipe:"), Code(toml_of(account.recipe)),
    ]  # fmt: skip
