"""The routes: the page, its bundle, and the API that the page is written against."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.requests import Request

from twinlens import __version__
from twinlens.errors import TwinlensError
from twinlens.show.schema import Document
from twinlens.show.server import replies, run_routes
from twinlens.show.server.guard import Guard, Rules
from twinlens.show.server.job import FINAL, Job, Progress
from twinlens.show.server.requests import Accepted, Card, CardRequest, LookRequest, Models
from twinlens.show.server.runs import Runs
from twinlens.show.server.service import Service

BUNDLE = Path(__file__).parents[1] / "static" / "twinlens.js"
_INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>twinlens</title>
<style>html { color-scheme: light dark } body { margin: 0; background: Canvas }</style>
</head>
<body>
<div id="twinlens" data-server="/api"><noscript>This page needs JavaScript.</noscript></div>
<script type="module" src="/static/twinlens.js"></script>
</body>
</html>
"""

pages = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api")


def _service(request: Request) -> Service:
    return request.app.state.service


Serving = Annotated[Service, Depends(_service)]


def _job(look: str, service: Serving) -> Job:
    return service.jobs.find(look)


Found = Annotated[Job, Depends(_job)]


def _refusals_of_events() -> dict[int | str, dict[str, Any]]:
    """The same where the answer itself is no JSON."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Refused"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in (400, 401, 403, 404, 422)
    }


@pages.get("/")
async def index() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_INDEX)


@pages.get("/static/twinlens.js")
async def bundle(request: Request) -> FileResponse:
    """The page's script; no other file is ever served."""
    path: Path = request.app.state.bundle
    if not path.is_file():
        raise replies.NotFoundError(
            "the page's script is missing: `npm run build` in viewer/ makes it"
        )
    return FileResponse(path, media_type="text/javascript", headers={"cache-control": "no-cache"})


@api.get("/models", responses=replies.refusals())
async def models(service: Serving) -> Models:
    """The models that the server was started with."""
    return service.listed()


@api.get("/defaults", response_model=LookRequest, responses=replies.refusals(404))
async def defaults(service: Serving) -> Any:
    """The look that the page asks for first."""
    return service.defaults()


@api.post("/looks", status_code=202, responses=replies.refusals(404, 413, 422, 429))
def ask(request: LookRequest, service: Serving) -> Accepted:  # pyright: ignore[reportInvalidTypeForm]
    """Ask for a look; its id leads to its progress and its result."""
    job, cached = service.take_on(request)
    return Accepted(id=job.id, place=service.jobs.progress(job).place, cached=cached)


@api.get("/looks/{look}", response_model=Document, responses=replies.refusals(404, 409, 422))
async def result(job: Found, service: Serving) -> Response:
    """The document of a look that is done."""
    return Response(service.result(job), media_type="application/json")


@api.delete("/looks/{look}", responses=replies.refusals(404, 422))
async def cancel(job: Found, service: Serving) -> Progress:
    """Cancel a look that is not finished, for all who wait for it."""
    return service.jobs.cancel(job)


@api.get(
    "/looks/{look}/events", response_class=EventSourceResponse, responses=_refusals_of_events()
)
async def events(job: Found, service: Serving) -> AsyncIterable[ServerSentEvent]:
    """Progress as server-sent events (`event: progress`), from now until a final state."""
    woken, loop, jobs = asyncio.Event(), asyncio.get_running_loop(), service.jobs

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(woken.set)

    told = None
    with jobs.listening(job, wake):
        while True:
            now = jobs.progress(job)
            if now != told:
                yield ServerSentEvent(data=now, event="progress")
            if now.state in FINAL:
                return
            told = now
            await woken.wait()
            woken.clear()


@api.post(
    "/neurons", response_model=Card, response_model_exclude_none=True,
    responses=replies.refusals(404, 413, 422, 429),
)  # fmt: skip
async def card(request: CardRequest, service: Serving) -> Any:
    """The card of one neuron: what it writes, and with a prompt when it is active."""
    future = await asyncio.to_thread(service.card, request)
    return await asyncio.wrap_future(future)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema, in which what is always told is required: a default is no reason to leave out."""
    made = FastAPI.openapi(app)
    for name in ("Grid", "Look", "LensTop", "Attention"):
        part = made["components"]["schemas"][name]
        part["required"] = list(part["properties"])
    return made


def create_app(
    service: Service,
    rules: Rules | None = None,
    bundle: Path = BUNDLE,
    runs: Runs | None = None,
) -> FastAPI:
    """The application around a service; `rules` say who may ask (None: this machine)."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        yield
        await asyncio.to_thread(service.jobs.close)

    app = FastAPI(
        title="twinlens", version=__version__, lifespan=lifespan, redirect_slashes=False,
        openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,
        default_response_class=JSONResponse,
    )  # fmt: skip
    app.state.service, app.state.bundle, app.state.runs = service, bundle, runs or Runs({})
    app.openapi = partial(_openapi, app)
    app.include_router(pages)
    app.include_router(api)
    app.include_router(run_routes.api)
    app.add_exception_handler(TwinlensError, replies.of_ours)
    app.add_exception_handler(RequestValidationError, replies.of_validation)
    app.add_exception_handler(HTTPException, replies.of_http)
    app.add_exception_handler(Exception, replies.of_bug)
    app.add_middleware(Guard, rules=rules or Rules())
    return app
