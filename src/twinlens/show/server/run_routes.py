"""The routes of runs: which there are, their facts, and facts and averages as documents."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from starlette.requests import Request

from twinlens.show.schema import Document
from twinlens.show.server.replies import refusals
from twinlens.show.server.run_requests import MOST_FACTS, FactPage, FactQuery, RunList
from twinlens.show.server.runs import Runs

api = APIRouter(prefix="/api/runs")


def _runs(request: Request) -> Runs:
    return request.app.state.runs


Serving = Annotated[Runs, Depends(_runs)]
Number = Annotated[int, Path(ge=0, le=MOST_FACTS)]


@api.get("", responses=refusals())
def runs(request: Request, serving: Serving) -> RunList:
    """The runs that the server was started with, as their folders are now."""
    return RunList(runs=serving.listed(request.app.state.service.by_weights))


@api.get("/{run}/facts", responses=refusals(404, 422))
def facts(run: str, query: Annotated[FactQuery, Query()], serving: Serving) -> FactPage:
    """The facts of a run: searched, kept by status, sorted, some at a time."""
    return serving.facts(run, query)


@api.get("/{run}/facts/{fact}", response_model=Document, responses=refusals(404, 422))
def fact(run: str, fact: Number, serving: Serving) -> Response:
    """One measured fact as a document: layers top to bottom, tokens left to right."""
    return Response(serving.fact(run, fact), media_type="application/json")


@api.get("/{run}/average", response_model=Document, responses=refusals(404, 422))
def average(run: str, serving: Serving) -> Response:
    """The average over the facts as a document: layers top to bottom, token roles left to right."""
    return Response(serving.average(run), media_type="application/json")
