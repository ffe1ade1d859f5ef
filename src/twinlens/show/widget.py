"""A page in a notebook cell: a widget where anywidget is installed, else the page in a frame.

Both stand in the output, so that a saved notebook shows the page where no kernel runs.
"""

from __future__ import annotations

import html
import importlib.util
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinlens.show.page import Page

HEIGHT = 820  # pixels of the frame


def mimebundle(page: Page) -> Any:
    """What a notebook is given to show: (data, metadata) by kind of content."""
    data: dict[str, Any] = {"text/html": frame(page), "text/plain": repr(page.document.tokens.text)}
    metadata: dict[str, Any] = {}
    if (widget := _widget(page)) is not None:
        shown = widget._repr_mimebundle_()
        live, about = shown if isinstance(shown, tuple) else (shown, {})
        data |= {kind: content for kind, content in live.items() if kind not in data}
        metadata |= about
    return data, metadata


def frame(page: Page) -> str:
    """The whole page inside a frame: it runs in saved notebooks, and touches nothing of them."""
    inner = html.escape(page.html(), quote=True)
    return (
        f'<iframe sandbox="allow-scripts allow-downloads" srcdoc="{inner}" title="twinlens"'
        f' style="width:100%;height:{HEIGHT}px;border:0"></iframe>'
    )


def _widget(page: Page) -> Any:
    if importlib.util.find_spec("anywidget") is None:
        return None
    return _widget_class()(document=page.json())


@cache
def _widget_class() -> Any:
    import anywidget
    import traitlets

    from twinlens.show.page import BUNDLE

    class TwinWidget(anywidget.AnyWidget):
        """The viewer over one document."""

        _esm = BUNDLE
        document = traitlets.Unicode().tag(sync=True)

    return TwinWidget
