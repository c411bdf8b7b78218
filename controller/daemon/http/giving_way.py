"""Which of the open connections gives way, and whose time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.daemon.configuration.settings import LimitSettings

if TYPE_CHECKING:
    from controller.daemon.http.connections import HttpConnection


def spareable(one: HttpConnection) -> tuple[bool, float] | None:
    """A connection's place among those that give way, the least first; None: it does not.

    Bytes that come now and then make no connection younger.
    """
    if one.stalled_s is not None:
        return False, one.stalled_s
    if one.under_way:
        return (False, one.begun_s) if one.delayed_s is not None or one.coming_in else None
    if one.dropping:
        return False, one.begun_s
    if one.partial_s is not None:
        return False, one.partial_s
    return (True, one.answered_s) if one.requests else (False, one.made_s)


def overdue(one: HttpConnection, now_s: float, limits: LimitSettings) -> str | None:
    """Why a connection's time is over; None while it is not."""
    if one.has_gone():
        return "the other end has gone"
    if one.stalled_s is not None:
        late = now_s - one.stalled_s > limits.stalled_s
        return f"it took nothing of its answer for {limits.stalled_s:g} s" if late else None
    if one.under_way:
        return None
    since_s = one.partial_s if one.partial_s is not None or one.requests else one.made_s
    if since_s is not None:
        late = now_s - since_s > limits.head_s
        return f"no whole request head within {limits.head_s:g} s" if late else None
    late = now_s - one.answered_s > limits.idle_s
    return f"no request for {limits.idle_s:g} s" if late else None
