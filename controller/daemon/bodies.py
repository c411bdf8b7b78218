"""A request's body: read within its time and bounds, and unpacked where it is encoded."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable

from artefacts import CoinferError, UsageError
from controller.daemon.served import HeldAccount, TooLargeError, TooSlowError
from controller.daemon.settings import LimitSettings

CODINGS = ("gzip", "deflate")
"""Content codings of a body that are understood (RFC 9110, 8.4.1)."""
PART_BYTES = 262_144
"""So much is unpacked between two looks at the bounds."""


class UnsupportedError(CoinferError):
    """A media type or content coding that is not served."""


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
) -> bytes:
    """The body, unpacked. `announced`: its length as sent, where that was said before.

    Raises `TooLargeError`, `TooSlowError`, `BusyError` and, for a damaged coding, `UsageError`.
    """
    if announced is not None and announced > limits.body_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.body_s):
            sent = await _collect(parts, limits, account)
            return sent if not coding else await _unpack(sent, coding, limits, account)
    except TimeoutError:
        raise TooSlowError(f"body: found it not whole after {limits.body_s:g} s") from None


def _too_large(limits: LimitSettings) -> TooLargeError:
    return TooLargeError(f"body: found more than {limits.body_bytes:,} bytes")


async def _collect(
    parts: AsyncIterable[bytes], limits: LimitSettings, account: HeldAccount
) -> bytes:
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > limits.body_bytes:
            raise _too_large(limits)
        account.take(len(part))
    return bytes(body)


async def _unpack(sent: bytes, coding: str, limits: LimitSettings, account: HeldAccount) -> bytes:
    unpacker, body = _Unpacker(sent, coding), bytearray()
    while True:
        try:
            part = await asyncio.to_thread(unpacker.next)
        except (zlib.error, EOFError) as error:
            raise UsageError(f"body: found no {coding} that can be read ({error})") from None
        if not part:
            return bytes(body)
        body += part
        if len(body) > limits.body_bytes:
            raise _too_large(limits)
        account.take(len(part))


class _Unpacker:
    """One stream of zlib's, a part at a time."""

    def __init__(self, sent: bytes, coding: str) -> None:
        # "deflate" is a zlib stream; some clients send a bare one, whose first byte tells
        bare = coding == "deflate" and bool(sent) and sent[0] & 0x0F != 8
        bits = 31 if coding == "gzip" else -zlib.MAX_WBITS if bare else zlib.MAX_WBITS
        self._inner, self._rest = zlib.decompressobj(bits), sent

    def next(self) -> bytes:
        """Some more, at most `PART_BYTES`; nothing at the end. Raises `zlib.error`, `EOFError`."""
        part = self._inner.decompress(self._rest, PART_BYTES)
        self._rest = self._inner.unconsumed_tail
        if not part and not self._inner.eof:
            raise EOFError("it ends too early")
        if not part and self._inner.unused_data:
            raise EOFError("more bytes follow it")
        return part
