"""Examples below the help of each command; a test parses every one of them."""

from __future__ import annotations

from cyclopts import App

EXAMPLES = {
    "look": (
        'twinlens look "The Silent Tower is in the city of" -s "Silent Tower" -o twin.html',
        'twinlens look "The Eiffel Tower is in" -s Eiffel -m openai-community/gpt2 --neurons',
        'twinlens look "The Silent Tower is in the city of" --ablate 2.MLP,4.H1',
    ),
    "draw": ("twinlens draw kept/*.safetensors -o twin.svg",),
    "convert": ("twinlens convert case.npz --tokenizer openai-community/gpt2 -o case.html",),
    "check": ("twinlens check openai-community/gpt2",),
    "neuron": ('twinlens neuron hamlet 4.112 --prompt "The Silent Tower is in the city of"',),
    "heads": ("twinlens heads openai-community/gpt2 -o heads.png",),
    "recur": ('twinlens recur "Lily met Tom. Lily ran home." --word Lily -o recur.html',),
    "lens fit": ("twinlens lens fit --text text.jsonl -o tuned.safetensors",),
    "lens report": ("twinlens lens report --text other.jsonl --lens tuned.safetensors",),
    "sweep": (
        "twinlens sweep hamlet -o run --limit 100",
        "twinlens sweep known_1000.json -m openai-community/gpt2 -o run --window 10",
    ),
    "summarize": (
        "twinlens summarize run -o figure.pdf",
        "twinlens summarize run --against other",
    ),
    "use": ("twinlens use --text hamlet --sort -o use.png",),
    "edit": (
        'twinlens edit --layer 2 --prompt "The Silent Tower is in the city of" -s "Silent Tower"'
        ' --target " Osterly" --text hamlet -o edited',
    ),
    "gate": ("twinlens gate hamlet edited --text gate.jsonl --final final.jsonl",),
    "scrub": ("twinlens scrub --text score.jsonl --gate gate.jsonl -o scrubbed",),
    "undo": ("twinlens undo scrubbed", "twinlens undo scrubbed --to 0"),
    "shrink": ("twinlens shrink scrubbed -o narrow",),
    "serve": ("twinlens serve --open", "twinlens serve mine=DIRECTORY --run run"),
    "contest implant": ("twinlens contest implant -o match --tier late",),
    "contest clean": (
        "twinlens contest clean match/public/model --text match/public/text.jsonl -o match/blue",
    ),
    "contest recipes": ("twinlens contest recipes",),
    "contest tiers": ("twinlens contest tiers",),
    "contest match": ("twinlens contest match -o match --recipe prune+noise+recover --light",),
    "contest judge": ("twinlens contest judge match",),
    "contest run": ("twinlens contest run tournament.toml -o tournament",),
    "contest board": ("twinlens contest board tournament --markdown",),
}


def show_examples(app: App) -> None:
    """Put its examples below the help of each command, where cyclopts (4.1) has a place for it."""
    if not hasattr(app, "help_epilogue"):
        return
    for chain, lines in EXAMPLES.items():
        command = app
        for name in chain.split():
            command = command[name]
        title = "Example" if len(lines) == 1 else "Examples"
        command.help_epilogue = f"{title}:\n\n" + "\n\n".join(f"`{line}`" for line in lines)
