"""Bodies: their codings, bounds and time. Streams of real bytes, no sockets."""

import asyncio
import gzip
import random
import tracemalloc
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import UsageError
from controller.daemon.configuration.settings import LimitSettings
from controller.daemon.http.bodies import SLICE_BYTES, check_coding, read_body
from controller.daemon.inference.refusals import TooLargeError, TooSlowError, UnsupportedError
from controller.daemon.inference.served import HeldBytes
from controller.daemon.inference.working import WorkPool
from controller.daemon.service import BusyError

PLAIN = bytes(range(256)) * 8
WORK = WorkPool(lambda: 10**6, threads=1)
LIMITS = LimitSettings(body_bytes=4096, bodies_bytes=10_000)


def bare(data):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = {"gzip": gzip.compress, "deflate": zlib.compress, "bare": bare, "": bytes}


def read(sent, coding="", limits=LIMITS, announced=None, held=None, part=100):
    held = held or HeldBytes(lambda: limits)

    async def parts():
        for at in range(0, len(sent), part):
            yield sent[at : at + part]

    async def whole():
        with held.account() as account:
            return await read_body(parts(), announced, check_coding(coding), limits, account, WORK)

    try:
        return asyncio.run(whole())
    finally:
        assert held.held == 0, "whatever happens, nothing stays held"


@pytest.mark.parametrize("coding", PACKED)
def test_every_coding_gives_the_body(coding):
    named = "deflate" if coding == "bare" else coding
    for name in (named, named.upper(), f" {named} "):
        assert read(PACKED[coding](PLAIN), name) == PLAIN
    assert read(PACKED[coding](b""), named) == b""


def test_other_names_of_a_coding_are_known_and_unknown_ones_are_refused():
    assert check_coding("X-GZIP") == "gzip"
    assert check_coding("identity") == ""
    for name in ("br", "zstd", "lz9", "gzip, deflate", "gzip,gzip", "\x00"):
        with pytest.raises(UnsupportedError, match="expected gzip or deflate, or none"):
            check_coding(name)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "bare"])
def test_a_damaged_coding_is_refused_and_never_half_of_it_taken(coding):
    named, good = "deflate" if coding == "bare" else coding, PACKED[coding](PLAIN)
    for wrong in (good[:-1], good[: len(good) // 2], b"", b"x" + good, good + b"x"):
        with pytest.raises(UsageError, match=f"body: found no {named} that can be read"):
            read(wrong, named)


@given(data=st.binary(max_size=200), coding=st.sampled_from(["gzip", "deflate"]))
def test_no_bytes_do_more_than_be_refused(data, coding):
    try:
        assert PACKED[coding](read(data, coding)) or True
    except UsageError as error:
        assert "\n" not in str(error)


def test_a_body_that_unpacks_without_end_is_cut_at_the_limit():
    for bomb in (gzip.compress(bytes(500_000_000), 1), zlib.compress(bytes(500_000_000), 1)):
        limits = msgspec.structs.replace(LIMITS, body_bytes=8_000_000, bodies_bytes=2**30)
        tracemalloc.start()
        with pytest.raises(TooLargeError, match="more than 8,000,000 bytes"):
            read(bomb, "gzip" if bomb[0] == 0x1F else "deflate", limits, part=65536)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 40_000_000


def test_many_members_of_gzip_are_no_way_around():
    with pytest.raises(UsageError, match="more bytes follow it"):
        read(gzip.compress(b"") * 100, "gzip")


def test_bounds_hold_for_one_and_for_all():
    with pytest.raises(TooLargeError, match="more than 4,096"):
        read(bytes(4097))
    with pytest.raises(TooLargeError):
        read(b"", announced=4097)
    assert len(read(bytes(4096))) == 4096
    held = HeldBytes(lambda: LIMITS)
    with held.account() as other:
        other.take(8000)

        async def one_more():
            async def parts():
                yield bytes(3000)

            with held.account() as account:
                await read_body(parts(), None, "", LIMITS, account, WORK)

        with pytest.raises(BusyError, match="11,000 bytes of requests are held, expected at most"):
            asyncio.run(one_more())
        assert held.held == 8000
    assert held.held == 0


def test_what_is_packed_counts_as_held_with_what_it_becomes():
    limits = msgspec.structs.replace(LIMITS, body_bytes=200_000, bodies_bytes=100_000)
    with pytest.raises(BusyError):
        read(gzip.compress(bytes(150_000)), "gzip", limits)


def test_a_body_has_its_time():
    limits = msgspec.structs.replace(LIMITS, body_s=0.1)

    async def never():
        yield b"a"
        await asyncio.Event().wait()

    async def whole():
        held = HeldBytes(lambda: limits)
        with held.account() as account:
            await read_body(never(), None, "", limits, account, WORK)

    with pytest.raises(TooSlowError, match="found it not whole after 0.1 s"):
        asyncio.run(whole())


def test_whoever_has_been_sending_longest_gives_way():
    """A body that never ends shuts nobody out; one that is whole and being answered stays."""
    limits = msgspec.structs.replace(LIMITS, bodies_bytes=10_000)
    held = HeldBytes(lambda: limits)

    async def stalled(begun):
        async def parts():
            yield bytes(4000)
            begun.set()
            await asyncio.Event().wait()

        with held.account() as account:
            return await read_body(parts(), None, "", limits, account, WORK)

    async def whole(count):
        async def parts():
            yield bytes(count)

        with held.account() as account:
            return len(await read_body(parts(), None, "", limits, account, WORK))

    async def go():
        tasks, begun = [], [asyncio.Event() for _ in range(2)]
        for one in begun:
            tasks.append(asyncio.create_task(stalled(one)))
            await one.wait()
        assert held.held == 8000
        assert await whole(1500) == 1500
        assert await whole(4096) == 4096
        with pytest.raises(BusyError, match="has been coming in longest"):
            await tasks[0]
        assert held.held == 4000
        assert not tasks[1].done()
        with held.account() as answered:
            answered.take(5000)
            assert await whole(4096) == 4096
            with pytest.raises(BusyError):
                await tasks[1]
            with pytest.raises(BusyError, match="10,096 bytes of requests are held"):
                answered.take(5096)
            answered.take(-5096)
        assert held.held == 0

    asyncio.run(go())


@pytest.mark.parametrize("coding", ["gzip", "deflate", "bare"])
def test_long_bodies_are_unpacked_in_slices(coding):
    """Of bytes that do not become fewer, and of blocks that hold nothing."""
    data = random.Random(0).randbytes(3 * SLICE_BYTES + 17)
    limits = msgspec.structs.replace(LIMITS, body_bytes=10**7, bodies_bytes=10**7)
    named = "deflate" if coding == "bare" else coding
    assert read(PACKED[coding](data), named, limits, part=65536) == data
    packer = zlib.compressobj(wbits=31 if coding == "gzip" else -15 if coding == "bare" else 15)
    empty = b"".join(packer.flush(zlib.Z_FULL_FLUSH) or b"\0\0\0\xff\xff" for _ in range(40_000))
    assert (
        read(empty + packer.compress(b"end") + packer.flush(), named, limits, part=65536) == b"end"
    )
