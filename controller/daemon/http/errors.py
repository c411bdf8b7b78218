"""A mistake as HTTP answers it: one line of JSON under `error`."""

from __future__ import annotations

import json

from aiohttp import web


def error_response(status: int, why: str, headers: dict[str, str] | None = None) -> web.Response:
    """A mistake as the protocol has it: one line of JSON under `error`."""
    body = json.dumps({"error": why}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def let_go(error: BaseException) -> None:
    """Drop the frames of an error that is answered: they hold a body, some of them in a circle."""
    left: BaseException | None = error
    while left is not None:
        left.__traceback__ = None
        behind = left.__context__
        left.__context__ = left.__cause__ = None
        left = behind


def turned_away() -> bytes:
    """What a connection hears that there is no room for."""
    why = "every connection has a request under way"
    return raw_refusal("503 Service Unavailable", why, "Retry-After: 1\r\n")


def raw_refusal(status: str, why: str, more: str = "") -> bytes:
    """A whole answer, for a connection on which no request is under way; `more`: headers."""
    body = json.dumps({"error": why}).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
    )
    return head.encode() + body
