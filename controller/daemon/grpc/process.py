"""The gRPC process as the daemon holds it: started, asked, watched, and begun anew when it ends.

The library that speaks gRPC cannot be bounded in what calls cost it. So it has a process of its own
(`gateway`), whose memory is bounded from here. The daemon serves HTTP whatever becomes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from artefacts import UsageError, processes
from controller.daemon.configuration.settings import GrpcSettings, LimitSettings
from controller.daemon.grpc.channel import (
    Beat,
    Begin,
    Bounds,
    Call,
    End,
    Fault,
    Gone,
    NoteWriter,
    OfDaemon,
    OfGateway,
    Reloaded,
    Serving,
    Unable,
    connect_reader,
    connect_writer,
)
from controller.daemon.inference.served import ServedModel
from controller.daemon.monitoring.counters import Figures
from controller.link.addresses import check_address

try:
    from controller.daemon.grpc.calls import Calls

    if importlib.util.find_spec("grpc") is None:
        raise ImportError
except ImportError:
    raise UsageError(
        "grpc: found no gRPC, expected grpcio and protobuf (pip install grpcio protobuf)"
    ) from None

COMMAND = processes.module_command("controller.daemon.grpc.gateway")
BASE_BYTES = 100_663_296
"""What the process may take beside the messages that it holds."""
MESSAGES = 2
"""Copies of the bodies that may be held, at most: the library's and ours."""
LOOK_S = 0.1
"""How often its memory is looked at."""
HANG_S = 10.0
"""A process that has not said for so long that it lives hangs."""
START_S = 30.0
STOP_S = 3.0
"""From the daemon's end of frames to the process's own."""
PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
"""Before it is begun anew; twice as long each time, until it has lived for `WELL_S`."""
WELL_S = 60.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
log = logging.getLogger("coinfer.device")


def bounds_of(limits: LimitSettings) -> Bounds:
    """What the gRPC process must know of the daemon's limits."""
    return msgspec.convert(limits, Bounds, from_attributes=True)


def memory_bound(limits: LimitSettings) -> int:
    """How much the gRPC process may take, in bytes."""
    return BASE_BYTES + MESSAGES * limits.bodies_bytes


def resident_bytes(pid: int) -> int:
    """What a process takes (proc(5)); 0 where it is gone, or nothing can be seen."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


class Gateway:
    """One gRPC process, from its start to its end."""

    def __init__(self, served: ServedModel) -> None:
        self._served, self._calls = served, Calls(served)
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._sent_bounds = bounds_of(served.limits)
        self._process: subprocess.Popen[Any] | None = None
        self._writer: NoteWriter | None = None
        self._reading: asyncio.ReadTransport | None = None
        self._silent_s = 0.0
        self.begun_s = time.monotonic()

    async def begin(self, host: str, port: int) -> int:
        """Start it; the port that it listens on. Raises `UsageError`."""
        try:
            self._process = await processes.start_beside(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._notes, self._reading = await connect_reader(
                self._process.stdout, OfGateway, self._sent_bounds.body_bytes
            )
            self._writer = await connect_writer(self._process.stdin)
            self.say(Begin(host, port, self._sent_bounds))
            async with asyncio.timeout(START_S):
                return await self._port()
        except TimeoutError:
            await self.close()
            raise UsageError(f"grpc: its process does not serve after {START_S:g} s") from None
        except BaseException:
            await self.close()
            raise

    async def _port(self) -> int:
        found = await self._notes.next()
        if found is None:
            raise UsageError(f"grpc: its process has ended before it served{await self._code()}")
        note, _ = found
        if isinstance(note, Serving):
            return note.port
        raise UsageError(note.why if isinstance(note, Unable) else f"grpc: found {note!r} at first")

    def say(self, note: OfDaemon, data: bytes = b"") -> None:
        """Hand over a note."""
        assert self._writer is not None
        self._writer.say(note, data)

    async def run(self) -> str:
        """Answer its calls until it ends, or must; why."""
        watching = asyncio.create_task(self._watch())
        try:
            answering = asyncio.create_task(self._answer_calls())
            await asyncio.wait([watching, answering], return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                return watching.result()
            return answering.result()
        finally:
            watching.cancel()
            answering.cancel()
            for task in list(self._under_way.values()):
                task.cancel()
            await self.close()

    async def close(self) -> None:
        """End it, however it is. The loop goes on meanwhile: a large process takes its time."""
        for end in (self._writer, self._reading):
            if end is not None:
                end.close()
        if self._process is not None:
            await asyncio.to_thread(processes.end, [self._process], 0.0)

    async def _code(self) -> str:
        """How it has ended, as far as that is known."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f" (code {await asyncio.to_thread(self._process.wait, 1.0)})"
        return ""

    async def _answer_calls(self) -> str:
        try:
            while (found := await self._notes.next()) is not None:
                self._take(*found)
                del found  # its message is not held until the next one comes
        except ValueError as error:
            return f"it said what it cannot mean: {error}"
        return f"it has ended{await self._code()}"

    def _take(self, note: object, data: bytes) -> None:
        if isinstance(note, Call):
            task = asyncio.create_task(self._answer(note, data))
            self._under_way[note.number] = task
            task.add_done_callback(lambda _: self._under_way.pop(note.number))
        elif isinstance(note, Gone):
            if (gone := self._under_way.get(note.number)) is not None:
                gone.cancel()
        elif isinstance(note, Beat):
            self._silent_s = 0.0
        elif isinstance(note, Fault):
            log.error("gRPC call: %s", note.what)

    async def _answer(self, call: Call, sent: bytes) -> None:
        self.say(*await self._calls.answer(call, sent))

    async def _watch(self) -> str:
        """Look at it until it takes too much or hangs; tell it of changed limits."""
        assert self._process is not None
        while True:
            await asyncio.sleep(LOOK_S)
            taken, most = resident_bytes(self._process.pid), memory_bound(self._served.limits)
            if taken > most:
                return f"it took {taken >> 20} MiB, expected at most {most >> 20}"
            self._silent_s += LOOK_S  # not by the clock: this process may have stood still itself
            if self._silent_s > HANG_S:
                return f"it has not been heard of for {HANG_S:g} s"
            if (bounds := bounds_of(self._served.limits)) != self._sent_bounds:
                self.say(Reloaded(bounds))
                self._sent_bounds = bounds


class GrpcService:
    """gRPC for one model, by a process that is begun anew whenever it ends."""

    def __init__(self, served: ServedModel, settings: GrpcSettings) -> None:
        self._served, self._settings = served, settings
        self._gateway: Gateway | None = None
        self._stopping = False
        self.restarts = 0
        """Times the process ended, or could not be begun."""

    @property
    def up(self) -> bool:
        """Whether it listens."""
        return self._gateway is not None

    def figures(self) -> tuple[Figures, Figures]:
        """Counters and gauges to be shown."""
        return (
            {
                "coinfer_grpc_restarts": (
                    "Times gRPC's process ended, or could not begin",
                    lambda: self.restarts,
                )
            },
            {"coinfer_grpc_up": ("1: gRPC is served", lambda: float(self.up))},
        )

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Where it listens, as `grpc://HOST:PORT`. Raises `UsageError`."""
        host = self._settings.host
        check_address(host)  # it knows no users
        host = f"[{host}]" if ":" in host else host
        self._gateway = Gateway(self._served)
        port = await self._gateway.begin(host, self._settings.port)
        keeping = asyncio.create_task(self._keep(self._gateway, host, port))
        try:
            yield f"grpc://{host}:{port}"
        finally:
            self._stopping = True
            if self._gateway is not None:
                self._gateway.say(End())
                await asyncio.wait([keeping], timeout=STOP_S)
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping

    async def _keep(self, gateway: Gateway, host: str, port: int) -> None:
        """Begin the process anew whenever it has ended, until the daemon ends."""
        pause_s = PAUSE_S
        while True:
            why = await gateway.run()
            self._gateway = None
            if self._stopping:
                return
            if time.monotonic() - gateway.begun_s > WELL_S:
                pause_s = PAUSE_S
            while self._gateway is None:
                self.restarts += 1
                log.warning("gRPC: %s; its process is begun anew in %g s", why, pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)
                gateway = Gateway(self._served)
                try:
                    await gateway.begin(host, port)
                    self._gateway = gateway
                except (UsageError, OSError, ValueError) as error:
                    why = str(error)
            log.info("gRPC: listening again on grpc://%s:%d", host, port)
