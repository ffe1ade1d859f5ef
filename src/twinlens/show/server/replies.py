"""What the server says where it does not do as asked: one shape for every refusal."""

from __future__ import annotations

import json
import re
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from twinlens.errors import (
    AnswerError,
    FocusError,
    PromptError,
    SubjectError,
    TwinlensError,
)

_FIELDS: dict[type[TwinlensError], str] = {
    PromptError: "prompt", SubjectError: "subject", FocusError: "focus", AnswerError: "answer",
}  # fmt: skip
_NAMED = re.compile(
    r"(kind|window|metric|foil|direction|target|cell|samples|seed|rule|df|sigma|times_std)="
)
_AS_ASKED = {"kind": "kinds", "target": "targets", "cell": "restored_cells"}


class Problem(BaseModel):
    """What is wrong: the error's name, a sentence, and the field of the request it is about."""

    type: str
    message: str
    field: str | None


class Refused(BaseModel):
    """The body of every answer that is not 2xx."""

    error: Problem


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How a route may refuse; 400, 401 and 403 are the guard's and the parser's, for each."""
    return {status: {"model": Refused} for status in (400, 401, 403, *statuses)}


class RefusalError(TwinlensError):
    """A request that is refused; the class says with which status."""

    status = 400

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(RefusalError):
    """There is no model, look, run or fact of that name."""

    status = 404


class NotReadyError(RefusalError):
    """The look has no result, or has none yet."""

    status = 409


class TooLargeError(RefusalError):
    """The request's body is larger than any honest one."""

    status = 413


class BusyError(RefusalError):
    """Too much is waiting."""

    status = 429


class TokenError(RefusalError):
    """The request does not show the token that the server was started with."""

    status = 401


class ForeignError(RefusalError):
    """The request comes from another site, or was meant for another host."""

    status = 403


def reply(status: int, kind: str, message: str, field: str | None = None) -> Response:
    """A refusal as a response; ASCII, so that no character of the request can break it."""
    problem = Problem(type=kind, message=message[:2000], field=field)
    body = json.dumps(Refused(error=problem).model_dump())
    return Response(body, status, media_type="application/json")


async def of_ours(_request: Request, error: Exception) -> Response:
    """The reply to an error that twinlens raised on purpose."""
    assert isinstance(error, TwinlensError)
    message = " ".join(str(error).split())
    if isinstance(error, RefusalError):
        return reply(error.status, type(error).__name__, message, error.field)
    return reply(422, type(error).__name__, message, _field(error, message))


async def of_validation(_request: Request, error: Exception) -> Response:
    """The reply to a body that does not fit the schema, in one sentence."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return reply(400, "InputError", f"the body is no JSON: {first['ctx']['error']}")
    where = [str(part) for part in first["loc"][1:]]
    named = ".".join(where)[:200]
    message = f"{named}: {first['msg']}" if named else f"the body: {first['msg']}"
    return reply(422, "InputError", message, where[0][:200] if where else None)


async def of_http(_request: Request, error: Exception) -> Response:
    """The reply to a path or method that does not exist."""
    assert isinstance(error, HTTPException)
    kind = NotFoundError if error.status_code == 404 else RefusalError
    made = reply(error.status_code, kind.__name__, str(error.detail))
    made.headers.update(error.headers or {})
    return made


async def of_bug(_request: Request, error: Exception) -> Response:
    """The reply where the server itself failed."""
    return reply(500, "ServerError", f"the server failed: {type(error).__name__}")


def _field(error: TwinlensError, message: str) -> str | None:
    """The field of a request that an error is about, as far as it says so."""
    if named := _NAMED.match(message):
        return _AS_ASKED.get(named[1], named[1])
    return next((name for cls, name in _FIELDS.items() if isinstance(error, cls)), None)
