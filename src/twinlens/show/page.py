"""A document as one HTML file: the viewer's bundle and the data, nothing from the network."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.errors import InputError
from twinlens.results.writing import replacing
from twinlens.show.document import document
from twinlens.show.schema import Document
from twinlens.show.twin import TwinView

if TYPE_CHECKING:
    from twinlens.show.comparison import Comparison

BUNDLE = Path(__file__).parent / "static" / "twinlens.js"
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
    " img-src data: blob:; base-uri 'none'; form-action 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="generator" content="twinlens {version}">
<title>{title}</title>
<style>
html {{ color-scheme: light dark }}
body {{ margin: 0; background: Canvas }}
#twinlens > * {{ min-height: 100vh }}
</style>
</head>
<body>
<div id="twinlens"><noscript>This page needs JavaScript.</noscript></div>
<script type="application/json" id="twinlens-document">{data}</script>
<script type="module">{bundle}</script>
</body>
</html>
"""


@dataclass(frozen=True, eq=False)
class Page:
    """An interactive page that shows itself in a notebook and saves itself to one file."""

    document: Document

    def json(self) -> str:
        """The document as one line of strict JSON."""
        return json.dumps(dataclasses.asdict(self.document), allow_nan=False)

    def html(self) -> str:
        """The whole page: opens without a network, in light and dark."""
        title = f"{self._about()} · twinlens"
        return _PAGE.format(
            policy=_POLICY,
            version=self.document.twinlens,
            title=html.escape(title),
            data=_in_script(self.json()),
            bundle=_bundle(),
        )

    def _about(self) -> str:
        """The prompt, shortened; where no grid is about one, what the first is about."""
        grids = [grid for look in self.document.looks for grid in look.grids]
        if grids and all(grid.columns is not None for grid in grids):
            return f"{self.document.looks[0].name}: {grids[0].group}"
        prompt = " ".join(self.document.tokens.text.split())
        return prompt[:60] + ("…" if len(prompt) > 60 else "")

    def save(self, path: str | Path) -> Path:
        """Write the page as .html; the file appears whole or not at all.

        Raises `InputError` for another ending, `ResultFileError` where it cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"cannot write a page to {str(path)!r}; choose a name in .html")
        with replacing(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")
        return path

    def _repr_mimebundle_(self, **_: Any) -> Any:
        from twinlens.show.widget import mimebundle

        return mimebundle(self)


def compare(views: Mapping[str, TwinView]) -> Comparison:
    """Two (or more) views of the same tokens: each, and the difference of two.

    Before and after a change, two models with one tokenizer, noise and replacement. The names are
    shown as they are given. It shows itself in a notebook and saves itself as a page, where any two
    can be subtracted, or as a picture, where the difference is second less first. Raises
    `InputError` where the tokens or rows differ.
    """
    from twinlens.show.comparison import Comparison

    if len(views) < 2:
        raise InputError(f"a comparison needs two views, got {len(views)}")
    named = {str(name): view for name, view in views.items()}
    return Comparison(document({name: view.results for name, view in named.items()}), named)


def _in_script(text: str) -> str:
    """JSON that cannot end the script element it stands in."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def _bundle() -> str:
    """The viewer, safe to stand inside a script element."""
    return BUNDLE.read_text(encoding="utf-8").replace("</script", "<\\/script")
