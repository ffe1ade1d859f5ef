"""The local server of the viewer: one page, one API, one worker.

Needs the extra `viewer`. Importing this package imports nothing of it; `serve` and `schema` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twinlens.results.base import optional

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twinlens.model.model import Model
    from twinlens.show.server.listen import Listening


def require_extra() -> None:
    """Raises `MissingExtraError` where FastAPI or uvicorn are not installed."""
    for module in ("fastapi", "uvicorn"):
        optional(module, "viewer")


def serve(
    models: Mapping[str, Model],
    where: Listening,
    *,
    runs: Mapping[str, Path] | None = None,
    max_tokens: int = 512,
) -> None:
    """Serve some models and the folders of some runs, each by name, where the server listens, until
    it is interrupted. Raises `RunFolderError` where a folder is no run."""
    require_extra()
    from twinlens.show.server.app import create_app
    from twinlens.show.server.listen import run
    from twinlens.show.server.runs import Runs
    from twinlens.show.server.service import Service

    opened = Runs(runs or {})
    run(create_app(Service(models, max_tokens=max_tokens), where.rules, runs=opened), where)


def schema() -> dict[str, Any]:
    """The OpenAPI of the server; no model is loaded for it."""
    require_extra()
    from twinlens.show.server.app import create_app
    from twinlens.show.server.service import Service

    service = Service({})
    try:
        return create_app(service).openapi()
    finally:
        service.jobs.close()
