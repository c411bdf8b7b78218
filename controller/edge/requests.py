"""The edge's requests on their way: taken in or refused, computed, and their answers written.

What connections bring and what is written to them belongs to the communicating thread; what became
of jobs is reported by the computing thread, and passed on to the other.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from artefacts import CoinferError
from controller.edge.arrivals import Arrival, refusal
from controller.edge.computing import Answer, Computing, Job, Onward
from controller.edge.connections import Connections
from controller.edge.onward import NextNodes
from controller.edge.peer import Peer
from controller.edge.scheduler import Scheduler, SchedulerArgs
from controller.edge.served import Interval, ServedModels
from controller.wire import CHUNK_BYTES, Message, MessageType

PLACED = ("model", "exit", "start", "stop", "codec", "hops", "bytes", "remaining_s", "traceparent")
"""Of a request's metadata what says where it goes, and not what its tensor is."""
MOST_UNWANTED = 256
"""Cancelled requests that are remembered while they may still be computed."""
MOST_META_BYTES = 2048
"""Of the rest, where a request is passed on as it came: a message has room for twice as much."""


class Later(Protocol):
    """Calls a function on the communicating thread."""

    def __call__(self, call: Callable[..., None], *args: Any) -> None:
        """Soon, in the order of the calls."""


class Requests:
    """Between the connections and the thread that computes: `RequestTaker` and `Outcomes`."""

    def __init__(
        self,
        connections: Connections,
        schedule: SchedulerArgs,
        clock: Callable[[], float],
        later: Later,
    ) -> None:
        self._connections, self._clock, self._later = connections, clock, later
        self.models = ServedModels()
        self.computing = Computing(
            self.models, Scheduler(schedule), self, clock,
            lambda: len(connections.peers) > 1, connections.limits.intervals,
            connections.limits.intervals_bytes,
        )  # fmt: skip
        self.next = NextNodes(clock, self._came_back, self._next_failed)
        self._unwanted: deque[tuple[Peer, int]] = deque(maxlen=MOST_UNWANTED)
        """Requests that were cancelled while they were computed."""
        self.refusals = self.received_bytes = 0

    # -- on the communicating thread -------------------------------------------------------------

    def arrived(self, peer: Peer, arrival: Arrival) -> None:
        """A whole request is here: into the queue, or refused at once with the reason."""
        self.received_bytes += len(arrival.data)
        if arrival.meta.get("probe"):
            head = {"bytes": 0, "queue_s": 0.0, "compute_s": 0.0} | arrival.timing.meta()
            peer.write(Message(MessageType.REPLY, arrival.request_id, meta=head))
            return
        try:
            interval, codec = self.models.asked(arrival)
            hops = self.models.hops(arrival, interval, self.next.names)
        except CoinferError as error:
            self._refuse(peer, arrival, str(error))
            return
        if peer.waiting >= self._connections.limits.admitted:
            # nobody fills the queue alone
            self._refuse(peer, arrival, f"{peer.waiting} requests of this device are waiting")
            return
        job = Job(peer, arrival, codec, hops)
        if hops and interval[2] == interval[3]:  # nothing of it is this edge's: it is passed on
            own = {key: value for key, value in arrival.meta.items() if key not in PLACED}
            if len(json.dumps(own)) > MOST_META_BYTES:  # it would end the link to the next node
                found = f"more than {MOST_META_BYTES} bytes beside where it goes"
                self._refuse(peer, arrival, f"metadata: found {found}, expected fewer")
                return
            peer.admit(1)
            times = arrival.timing.meta() | {"queue_s": 0.0, "compute_s": 0.0}
            self._hand_on([Onward(job, own, arrival.data, times)])
            return
        reason = self.computing.offer(interval, job)
        if reason is not None:
            self._refuse(peer, arrival, reason)
        else:
            peer.admit(1)

    def cancelled(self, peer: Peer, request: int) -> Message | None:
        """Nobody waits for a request that was whole; the word for that, None where it is over."""
        gone = self.next.cancel(
            lambda job: job.peer is peer and job.arrival.request_id == request
        )  # fmt: skip
        peer.admit(-len(gone))
        for one in gone:
            peer.budget.give_back(one.job.arrival.timing.charged)
        if gone:
            return Message(MessageType.CANCELLED, request, meta=gone[0].job.arrival.timing.meta())
        # what waits has no hand laid on it; what is being computed is not handed on
        waited = self.computing.remove(
            lambda job: job.peer is peer and job.arrival.request_id == request and bool(job.hops)
        )  # fmt: skip
        peer.admit(-waited)
        if waited:
            return Message(MessageType.CANCELLED, request)
        self._unwanted.append((peer, request))
        return None

    def _refuse(
        self, peer: Peer, arrival: Arrival, reason: str, queue_s: float = 0.0,
        failed: bool = False, said: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """No answer for a request; what its bytes said of the link still goes back.

        `failed`: computing it did, which says nothing of others; `said` goes back beside.
        """
        self.refusals += 1
        more = {"queue_s": queue_s, "compute_s": 0.0} | ({"failed": True} if failed else {})
        more |= said or {}
        peer.write(refusal(arrival.request_id, reason, arrival.timing.meta() | more))

    def forget(self, peer: Peer) -> None:
        """A device is gone: nobody waits for what it asked."""
        handed_on = self.next.cancel(lambda job: job.peer is peer)
        waited = self.computing.remove(lambda job: job.peer is peer)
        peer.admit(-waited - len(handed_on))

    def unknown(self, digest: str, meaning: str = "") -> str | None:
        """Why a model is not served, or not as a device means it; None where it is."""
        return self.models.unknown(digest, meaning)

    def announce(self, digest: str, intervals: Any) -> None:
        """A device says what it will ask for: made ready when nothing else is to be done."""
        most = self._connections.limits.warm
        self.computing.announce(self.models.intervals(digest, intervals, most))

    # -- what became of jobs: reported by the thread that computes -------------------------------

    def computed(self, answers: Sequence[Answer]) -> None:
        """A batch is done."""
        self._later(self._deliver, answers)

    def partly(self, done: Sequence[Onward]) -> None:
        """Of these the rest is another node's."""
        self._later(self._hand_on, done)

    def refused(self, job: Job, reason: str, queue_s: float = 0.0, failed: bool = False) -> None:
        """A job gets no answer; it waited for `queue_s`. `failed`: it is the sample's fault."""
        self._later(self._give_up, job, reason, queue_s, failed)

    def failed(self, job: Job, error: Exception) -> None:
        """Computing a job failed, through no fault of whoever asked."""
        reason = f"{type(error).__name__}: {error}"
        self._connections.note(job.peer.name, f"request failed ({reason})")
        self._later(self._give_up, job, f"the edge failed ({reason})", 0.0, True)

    def unprepared(self, interval: Interval, error: Exception) -> None:
        """An announced interval could not be run."""
        _, branch, start, stop = interval
        self._connections.errors.append(f"layers [{start}, {stop}) of exit {branch + 1}: {error}")

    # -- what is handed on -----------------------------------------------------------------------

    def _hand_on(self, done: Sequence[Onward]) -> None:
        """To the next node; where that is of no use, the rest is computed here."""
        for one in done:
            who = (one.job.peer, one.job.arrival.request_id)
            if one.job.peer not in self._connections.peers:
                one.job.peer.admit(-1)  # who asked is gone
            elif who in self._unwanted:
                self._unwanted.remove(who)
                one.job.peer.admit(-1)
                one.job.peer.write(Message(MessageType.CANCELLED, who[1]))
            elif not self.next.send(one):
                self._do_the_rest(one, "away")

    def _do_the_rest(self, done: Onward, why: str) -> None:
        """Compute here what the next node, which is away or failed (`why`), would have."""
        job, arrival = done.job, done.job.arrival
        here, *_, last = (job.hops[0], *job.hops)
        meta = {**arrival.meta, "codec": here.codec, **done.meta}
        rest = replace(arrival, meta=meta, data=done.data)
        digest, exit_ = arrival.meta["model"], arrival.meta["exit"]
        again = Job(job.peer, rest, here.codec, said={"away": here.node})
        reason = self.computing.offer((digest, exit_, here.start, last.stop), again)
        if reason is not None:
            self._give_up(again, f"'{here.node}' is {why}, and here {reason}", 0.0)

    def _came_back(self, done: Onward, meta: Mapping[str, Any], data: bytes) -> None:
        self._deliver([Answer(done.job, {**meta, **done.times}, data)])

    def _next_failed(self, done: Onward, reason: str, failed: bool) -> None:
        """The next node gave no answer: where that is no fault of the sample's, and there is time
        left, the rest is computed here.
        """
        self._connections.note(done.job.peer.name, f"no answer from beyond ({reason})")
        if failed or done.job.arrival.timing.until_s <= self._clock():
            self._give_up(done.job, reason, 0.0, failed)
        else:
            self._do_the_rest(done, f"of no use ({reason})")

    def _deliver(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            peer, arrival, data = answer.job.peer, answer.job.arrival, answer.data
            peer.admit(-1)
            peer.budget.give_back(arrival.timing.charged)
            request = arrival.request_id
            messages = [Message(MessageType.REPLY, request, meta=answer.meta)]
            for at in range(0, len(data), CHUNK_BYTES):
                part = data[at : at + CHUNK_BYTES]
                messages.append(Message(MessageType.CHUNK, request, at, payload=part))
            peer.write(*messages)

    def _give_up(self, job: Job, reason: str, queue_s: float, failed: bool = False) -> None:
        """Refuse what was admitted."""
        job.peer.admit(-1)
        self._refuse(job.peer, job.arrival, reason, queue_s, failed, job.said)
