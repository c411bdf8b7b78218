"""The edge server: receives cut tensors, computes their interval, sends answers. Keeps no state
between requests, so that any number of edges may serve the same devices.

One thread reads, timestamps and writes for every connection; one computes, earliest deadline first
and alike requests in one batch (`scheduler`). It listens beyond loopback (and the test namespaces'
addresses) only with TLS, or where it was told that anybody may ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import CoinferError, UsageError
from artefacts.heartbeat import Heartbeat
from controller.edge.arrivals import Arrival, refusal
from controller.edge.limits import EdgeLimits
from controller.edge.peer import Handshake, Peer
from controller.edge.scheduler import Scheduler, SchedulerArgs, Work
from controller.link.accepting import Acceptor, Admission
from controller.link.addresses import check_address, join_address, resolve
from controller.link.budget import Accounts, Budget
from controller.link.dialling import listen
from controller.link.secure import Security
from controller.wire import CHUNK_BYTES, Message, MessageType
from controller.wire.messages import meta_int, meta_shape, meta_text, shown_text
from models.codecs import LEARNED, codec_named
from models.facts.cards import Model
from models.graphs.coding import latent_bytes
from models.graphs.executors import Executor, softmax_answer

log = logging.getLogger("coinfer.edge")
MAX_ERRORS = 1000
"""What is kept of past trouble: an edge runs for years."""
START_TIMEOUT_S = 10.0
ENCODED_EXTRA_BYTES = 4096
"""What an encoded tensor or picture may have beyond 4 bytes a value (headers)."""

Clock = Callable[[], float]
Floats = npt.NDArray[np.float32]
Interval = tuple[str, int, int, int]
"""What can be computed together: model digest, exit, start, stop."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model and who computes it."""

    model: Model
    executor: Executor


@dataclass(frozen=True, slots=True)
class _Job:
    peer: Peer
    arrival: Arrival
    codec: str


class _Strangers(Admission):
    """Everybody may come in (`Peer` and `Handshake` count them); who has not greeted may be
    spared.
    """

    def __init__(self, strangers: dict[Peer | Handshake, None]) -> None:
        self._strangers = strangers

    def let_one_go(self) -> bool:
        """The one that came first."""
        oldest = next(iter(self._strangers), None)
        if oldest is not None:
            del self._strangers[oldest]
            oldest.abort()
        return oldest is not None


class EdgeServer:
    """Serves models by their digests. `start` listens, `close` ends every connection and thread."""

    def __init__(
        self,
        model: Model,
        executor: Executor,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = time.monotonic,
        limits: EdgeLimits | None = None,
        schedule: SchedulerArgs | None = None,
        security: Security | None = None,
        *,
        insecure: bool = False,
        wall: Clock = time.time,
    ) -> None:
        """`insecure`: listen where anybody may ask, with neither TLS nor credentials. `wall`: the
        clock that certificates go by.
        """
        check_address(host, secure=security is not None or insecure)
        self.security = security
        self.served_models = {model.digest: Served(model, executor)}
        self.clock, self.wall, self.limits = clock, wall, limits or EdgeLimits()
        most, per_s = self.limits.idle_messages, self.limits.idle_messages_per_s
        self.accounts = Accounts(lambda: Budget(most, per_s))
        self._listeners = listen(resolve(host, port, listens=True))
        self.host, self.port = self._listeners[0].getsockname()[:2]
        self._scheduler = Scheduler(schedule or SchedulerArgs())
        self._changed = threading.Condition()
        self._to_warm: deque[Interval] = deque()
        self._warm: set[Interval] = set()
        self.peers: set[Peer] = set()
        self.strangers: dict[Peer | Handshake, None] = {}
        """Connections that have not greeted yet, TLS handshakes among them; the oldest first."""
        self._closed = threading.Event()
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._beats: deque[Callable[[], None]] = deque()
        self.heartbeat = Heartbeat()
        """`round` is the owner's to call."""
        self.heartbeat.add("communicating", self._later)
        self.heartbeat.add("computing", self._beat)
        self._threads: list[threading.Thread] = []
        self.served = self.batches = self.refused = self.received_bytes = 0
        self.computed_s = 0.0
        self.on_batch: Callable[[int, float], None] = lambda size, seconds: None
        """Told of every batch, on the computing thread."""
        self.on_answer: Callable[[Arrival, float, float, int], None] | None = None
        """Told of every request that was computed: when that began, ended, and with how many."""
        self.errors: deque[str] = deque(maxlen=MAX_ERRORS)

    def add(self, model: Model, executor: Executor) -> None:
        """Serve one more model."""
        self.served_models[model.digest] = Served(model, executor)

    @property
    def address(self) -> str:
        """HOST:PORT where it listens."""
        return join_address(self.host, self.port)

    @property
    def waiting(self) -> int:
        """Requests that wait to be computed."""
        return len(self._scheduler)

    @property
    def alive(self) -> bool:
        """Whether both threads run, and do what they are given (as the heartbeat's rounds tell)."""
        run = bool(self._threads) and all(t.is_alive() for t in self._threads)
        return run and not self.heartbeat.hung

    def start(self) -> None:
        """Accept and compute in the background."""
        for target in (self._communicate, self._work):
            thread = threading.Thread(target=target, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._listening.wait(START_TIMEOUT_S)

    def close(self) -> None:
        """Stop listening, drop every connection, end the threads."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        if self._threads:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
            for thread in self._threads:  # an interpreter must not end under a computation
                thread.join(START_TIMEOUT_S)
        for listener in self._listeners:
            listener.close()

    # -- the thread that reads and writes --------------------------------------------------------

    def _communicate(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        acceptor = Acceptor(self._entrance, _Strangers(self.strangers), log)
        acceptor.listen(self._listeners)
        self._listening.set()
        await self._stop.wait()
        acceptor.close()
        for one in {*self.strangers, *self.peers}:
            one.abort()
        # the transports' last callbacks
        await asyncio.sleep(0)

    def _entrance(self) -> asyncio.Protocol:
        return Peer(self) if self.security is None else Handshake(self, self.security.context)

    def arrived(self, peer: Peer, arrival: Arrival) -> None:
        """A whole request is here: into the queue, or refused at once with the reason."""
        self.received_bytes += len(arrival.data)
        if arrival.meta.get("probe"):
            head = {"bytes": 0, "queue_s": 0.0, "compute_s": 0.0} | arrival.timing.meta()
            peer.write(Message(MessageType.REPLY, arrival.request_id, meta=head))
            return
        try:
            key, codec = self._checked(arrival)
        except CoinferError as error:
            self.refuse(peer, arrival, str(error))
            return
        if peer.waiting >= self.limits.admitted:
            # nobody fills the queue alone
            self.refuse(peer, arrival, f"{peer.waiting} requests of this device are waiting")
            return
        now = self.clock()
        work = Work(key, now, arrival.timing.until_s, _Job(peer, arrival, codec))
        with self._changed:
            reason = self._scheduler.offer(work, now)
            if reason is None:
                self._changed.notify()
        if reason is not None:
            self.refuse(peer, arrival, reason)
        else:
            peer.admit(1)

    def refuse(self, peer: Peer, arrival: Arrival, reason: str, queue_s: float = 0.0) -> None:
        """No answer for a request; what its bytes said of the link still goes back."""
        self.refused += 1
        spent = {"queue_s": queue_s, "compute_s": 0.0}
        peer.write(refusal(arrival.request_id, reason, arrival.timing.meta() | spent))

    def forget(self, peer: Peer) -> None:
        """A device is gone: nobody waits for what it asked."""
        with self._changed:
            peer.admit(-self._scheduler.remove(lambda work: work.job.peer is peer))

    def announce(self, digest: str, intervals: Any) -> None:
        """A device says what it will ask for: made ready when nothing else is to be done."""
        known = _known_intervals(self.served_models[digest].model, intervals, self.limits.warm)
        with self._changed:
            for interval in known:
                key = (digest, *interval)
                if key not in self._warm and len(self._warm) < self.limits.intervals:
                    self._warm.add(key)
                    self._to_warm.append(key)
            self._changed.notify()

    def _checked(self, arrival: Arrival) -> tuple[Interval, str]:
        """What a request asks for; refuses what cannot be meant."""
        meta = arrival.meta
        digest = meta_text(meta, "model")
        served = self.served_models.get(digest)
        if served is None:
            known = ", ".join(f"{d[:12]}…" for d in self.served_models)
            raise UsageError(f"model digest: found {shown_text(digest[:12])}…, expected {known}")
        spec = served.model.spec
        branch = meta_int(meta, "exit", 0, len(spec.branches) - 1)
        length = len(spec.branches[branch])
        start = meta_int(meta, "start", 0, length)
        stop = meta_int(meta, "stop", start, length)
        codec, shape = codec_named(meta_text(meta, "codec")), meta_shape(meta, "shape")
        expected = spec.shapes[branch][start]
        if codec.carries == "picture":
            expected = (expected[1], expected[2], expected[0]) if start == 0 else ()
        if shape != expected:
            raise UsageError(f"tensor shape: found {shape}, expected {expected} as {codec.name}")
        most = 4 * math.prod(shape) + ENCODED_EXTRA_BYTES
        if len(arrival.data) > most:
            raise UsageError(
                f"payload: found {len(arrival.data)} bytes, expected at most {most} for {shape}"
            )
        return (digest, branch, start, stop), codec.name

    # -- the thread that computes ----------------------------------------------------------------

    def _work(self) -> None:
        while (found := self._next()) is not None:
            batch, late = found
            now = self.clock()
            for work in late:
                reason = f"its time was over {now - work.until_s:.3f} s before the edge was free"
                self._later(self._refuse_late, work, reason, now)
            if batch:
                self._compute(batch)
            elif not late:
                self._prepare()

    def _beat(self, call: Callable[[], None]) -> None:
        with self._changed:
            self._beats.append(call)
            self._changed.notify()

    def _next(self) -> tuple[list[Work], list[Work]] | None:
        """What to do next (nothing: something is to be made ready); None at the end."""
        with self._changed:
            while not self._closed.is_set():
                while self._beats:
                    self._beats.popleft()()
                now = self.clock()
                company = len(self.peers) > 1
                batch, late, again = self._scheduler.take(now, company=company)
                if batch or late or (self._to_warm and not len(self._scheduler)):
                    return batch, late
                self._changed.wait(None if again == float("inf") else max(again - now, 0.0))
        return None

    def _compute(self, batch: list[Work]) -> None:
        began = self.clock()
        key: Interval = batch[0].key  # type: ignore[assignment]
        served, (_, branch, start, stop) = self.served_models[key[0]], key
        taken, tensors = [], []
        for work in batch:
            job: _Job = work.job
            try:
                tensors.append(
                    served.executor.decode(
                        job.codec, branch, start, job.arrival.meta, job.arrival.data
                    )
                )
                taken.append(job)
            except CoinferError as error:
                self._later(self._give_up, job, str(error))
            except Exception as error:  # the one worker must outlive any single request
                self._failed(job, error)
        if not taken:
            return
        try:
            whole = np.concatenate(tensors) if len(tensors) > 1 else tensors[0]
            y = served.executor.run(branch, start, stop, whole)
        except Exception as error:
            for job in taken:
                self._failed(job, error)
            return
        done = self.clock()
        with self._changed:
            self._scheduler.done(key, len(taken), done - began, done)
        self.batches += 1
        self.computed_s += done - began
        self.on_batch(len(taken), done - began)
        answers = []
        for k, job in enumerate(taken):
            head, payload = _answer(served.model, key, y[k : k + 1])
            timing = job.arrival.timing
            head |= timing.meta() | {"queue_s": began - timing.last_s, "compute_s": done - began}
            answers.append((job, head, payload))
        self.served += len(answers)
        self._later(self._deliver, answers)
        if self.on_answer is not None:
            for job in taken:
                self.on_answer(job.arrival, began, done, len(taken))

    def _deliver(self, answers: list[tuple[_Job, dict[str, Any], bytes]]) -> None:
        for job, head, payload in answers:
            job.peer.admit(-1)
            job.peer.budget.give_back(job.arrival.timing.charged)
            request = job.arrival.request_id
            messages = [Message(MessageType.REPLY, request, meta=head)]
            for at in range(0, len(payload), CHUNK_BYTES):
                part = payload[at : at + CHUNK_BYTES]
                messages.append(Message(MessageType.CHUNK, request, at, payload=part))
            job.peer.write(*messages)

    def _failed(self, job: _Job, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        self.errors.append(f"{job.peer.name}: request failed ({reason})")
        self._later(self._give_up, job, f"the edge failed ({reason})")

    def _refuse_late(self, work: Work, reason: str, now_s: float) -> None:
        job: _Job = work.job
        self._give_up(job, reason, now_s - job.arrival.timing.last_s)

    def _give_up(self, job: _Job, reason: str, queue_s: float = 0.0) -> None:
        """Refuse what was admitted."""
        job.peer.admit(-1)
        self.refuse(job.peer, job.arrival, reason, queue_s)

    def _later(self, call: Callable[..., None], *args: Any) -> None:
        """Call on the thread that writes."""
        with contextlib.suppress(RuntimeError):  # closed meanwhile: nobody is there to tell
            self._loop.call_soon_threadsafe(call, *args)

    def _prepare(self) -> None:
        """Run one announced interval on zeros, so that no frame pays for what is compiled."""
        with self._changed:
            if not self._to_warm:
                return
            digest, branch, start, stop = self._to_warm.popleft()
        served = self.served_models[digest]
        spec = served.model.spec
        try:
            zeros = np.zeros((1, *spec.shapes[branch][start]), dtype=np.float32)
            served.executor.run(branch, start, stop, zeros)
            learned = spec.bottleneck(start)
            if learned is not None and start <= spec.exits[branch].after:
                zeros_sent = bytes(latent_bytes(learned))
                served.executor.decode(LEARNED, branch, start, {}, zeros_sent)
        except Exception as error:  # whoever asks for it will hear the same
            self.errors.append(f"layers [{start}, {stop}) of exit {branch + 1}: {error}")


def _answer(model: Model, key: Interval, y: Floats) -> tuple[dict[str, Any], bytes]:
    """One sample's reply: the class where the branch ends on the edge, else the tensor."""
    _, branch, _, stop = key
    if stop == len(model.spec.branches[branch]):
        label, confidence = softmax_answer(y, model.temperatures[branch])
        return {"bytes": 0, "class": label, "confidence": confidence}, b""
    out = np.ascontiguousarray(y[0], dtype="<f4").tobytes()
    return {"bytes": len(out), "shape": list(y.shape[1:])}, out


def _known_intervals(model: Model, value: Any, most: int) -> list[tuple[int, int, int]]:
    """The intervals (exit, start, stop) in a greeting; those a network lacks are passed over."""
    found, branches = [], model.spec.branches
    for item in value[:most] if isinstance(value, list) else []:
        fits = isinstance(item, list) and len(item) == 3 and all(type(k) is int for k in item)
        if fits and 0 <= item[0] < len(branches):
            exit_, start, stop = item
            if 0 <= start < stop <= len(branches[exit_]):
                found.append((exit_, start, stop))
    return found
