"""A request's body: read within its time and bounds, and unpacked where it is encoded."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable

from artefacts import UsageError
from controller.daemon.configuration.settings import LimitSettings
from controller.daemon.inference.refusals import TooLargeError, TooSlowError, UnsupportedError
from controller.daemon.inference.served import HeldAccount
from controller.daemon.inference.working import WorkPool
from controller.daemon.service import BusyError

CODINGS = ("gzip", "deflate")
"""Content codings of a body that are understood (RFC 9110, 8.4.1)."""
PART_BYTES = 262_144
"""So much is unpacked between two looks at the bounds."""
SLICE_BYTES = 65_536


def check_coding(named: str) -> str:
    """The content coding of a body ('': none). Raises `UnsupportedError`."""
    coding = named.strip().lower()
    coding = {"identity": "", "x-gzip": "gzip"}.get(coding, coding)
    if coding and coding not in CODINGS:
        raise UnsupportedError(
            f"Content-Encoding: found '{named[:40]}', expected {' or '.join(CODINGS)}, or none"
        )
    return coding


async def read_body(
    parts: AsyncIterable[bytes],
    announced: int | None,
    coding: str,
    limits: LimitSettings,
    account: HeldAccount,
    work: WorkPool,
) -> bytes:
    """The body, unpacked. `announced`: its length as sent, where that was said before.

    Raises `TooLargeError`, `TooSlowError`, `BusyError` and, for a damaged coding, `UsageError`.
    """
    if announced is not None and announced > limits.body_bytes:
        raise _too_large(limits)
    gives_way = False
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.body_s) as time:

            def give_way() -> None:
                nonlocal gives_way
                gives_way = True
                time.reschedule(loop.time())

            with account.coming(give_way):
                sent = await _collect(parts, limits, account)
            return sent if not coding else await _unpack(sent, coding, limits, account, work)
    except TimeoutError:
        if gives_way:
            raise BusyError("this body has been coming in longest, and others need room") from None
        raise TooSlowError(f"body: found it not whole after {limits.body_s:g} s") from None


def _too_large(limits: LimitSettings) -> TooLargeError:
    return TooLargeError(f"body: found more than {limits.body_bytes:,} bytes")


async def _collect(
    parts: AsyncIterable[bytes], limits: LimitSettings, account: HeldAccount
) -> bytes:
    kept, length = [], 0
    async for part in parts:
        length += len(part)
        if length > limits.body_bytes:
            raise _too_large(limits)
        account.take(len(part))
        kept.append(part)
    return b"".join(kept)


async def _unpack(
    sent: bytes, coding: str, limits: LimitSettings, account: HeldAccount, work: WorkPool
) -> bytes:
    unpacker, kept, length = _Unpacker(sent, coding), list[bytes](), 0
    while True:
        try:
            part = await work.run(unpacker.next, PART_BYTES)
        except (zlib.error, EOFError) as error:
            raise UsageError(f"body: found no {coding} that can be read ({error})") from None
        if not part:
            return b"".join(kept)
        length += len(part)
        kept.append(part)
        if length > limits.body_bytes:
            raise _too_large(limits)
        account.take(len(part))


class _Unpacker:
    """One stream of zlib's, a part at a time."""

    def __init__(self, sent: bytes, coding: str) -> None:
        # "deflate" is a zlib stream; some clients send a bare one, whose first byte tells
        bare = coding == "deflate" and bool(sent) and sent[0] & 0x0F != 8
        bits = 31 if coding == "gzip" else -zlib.MAX_WBITS if bare else zlib.MAX_WBITS
        self._inner, self._sent, self._at = zlib.decompressobj(bits), memoryview(sent), 0
        self._rest = b""

    def next(self) -> bytes:
        """Some more, at most `PART_BYTES`; nothing at the end. Raises `zlib.error`, `EOFError`."""
        while not self._inner.eof:
            taken = self._rest or self._slice()
            part = self._inner.decompress(taken, PART_BYTES)
            self._rest = self._inner.unconsumed_tail
            if part:
                return part
            if not taken and not self._inner.eof:
                raise EOFError("it ends too early")
        if self._inner.unused_data or self._rest or self._at < len(self._sent):
            raise EOFError("more bytes follow it")
        return b""

    def _slice(self) -> memoryview:
        """A part of what was sent: what zlib leaves of it is copied each time."""
        self._at += SLICE_BYTES
        return self._sent[self._at - SLICE_BYTES : self._at]
