"""What the device asks of its edge: requests under way, what came of them, and silence.

Reads replies and judges nothing by itself: `Admission` hears what each says of its edge. What an
answer means for the frame is the engine's. Nothing here knows a thread or a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from artefacts.arrays import Float32s
from controller.admission import SILENCE_MARGIN_S, Admission
from controller.device.frame import Frame
from controller.device.further_nodes import FurtherNodes
from controller.link.interface import Link, Reply
from controller.plans import suffix_start
from controller.wire import RemoteProtocolError
from controller.wire.messages import meta_int, meta_number, meta_within
from models.codecs import Encoded, codec_named
from models.facts.answers import ExitAnswer
from models.facts.cards import Model

STAGES = {"receive": "receive_s", "edge queue": "queue_s", "edge compute": "compute_s"}
FURTHER_STAGES = {"receive": "receive_s", "queue": "queue_s", "compute": "compute_s"}
"""Of each further node, behind its name."""


@dataclass(frozen=True, slots=True)
class _Awaited:
    """What is still to be heard of a frame that is over; `in_vain`: no answer came in its time."""

    until_s: float
    frame: Frame
    in_vain: bool


@dataclass
class EdgeAnswers:
    """Requests of one device. For the engine's thread; times are of the engine's clock.

    `deadline_s` is the stream's own. `closed`: as in `EngineArgs`; an edge's silence is then heard
    of from the connection alone.
    """

    link: Link
    model: Model
    admission: Admission
    deadline_s: float
    closed: bool = False

    def __post_init__(self) -> None:
        """Nothing is under way."""
        table = self.admission.table
        self._node = table.topology.links[0].far
        self.further = FurtherNodes(table, self.admission.interval_s)
        self.by_request: dict[int, Frame] = {}
        self._silent: dict[int, _Awaited] = {}

    # -- requests --------------------------------------------------------------------------------

    def send(self, frame: Frame, encoded: Encoded) -> bool:
        """Give what crosses to the link; whether it could be."""
        exit_, hop = frame.plan.exit, frame.plan.hops[0]
        raw = codec_named(hop.codec).raw
        shape = frame.sample.shape if raw else self.model.spec.shapes[exit_][hop.start]
        meta = {
            "model": self.model.digest,
            "exit": exit_,
            "start": hop.start,
            "stop": hop.stop,
            "codec": hop.codec,
            "shape": list(shape),
        } | encoded.meta
        further = frame.plan.hops[1:]
        if hop.node != self._node:  # the edge has no part of it, and passes it on
            meta["stop"], further = hop.start, frame.plan.hops
        if further:
            meta["hops"] = [[h.node, h.start, h.stop, h.codec] for h in further]
        if frame.traceparent is not None:
            meta["traceparent"] = frame.traceparent
        self.link.serve(frame.lane)
        frame.request = self.link.upload(meta, encoded.data, frame.limit_s)
        if frame.request is None:
            frame.remote_failed = True
            frame.error = self.link.last_error or "no connection to the edge"
            return False
        self.by_request[frame.request] = frame
        frame.bytes_sent = len(encoded.data)
        return True

    def take_back(self, frame: Frame, in_vain: bool, rtt_s: float) -> bool:
        """Cancel what was sent of a frame that needs no answer any more.

        `in_vain`: it was given the usual time, which is over. True where nothing went out of it in
        that time: the link stands still.
        """
        assert frame.request is not None
        handed = self.link.cancel(frame.request)
        frame.bytes_sent = frame.bytes_sent if handed is None else handed
        if handed == 0 and in_vain:
            return True
        if handed and not self.closed:
            # to whatever was sent the edge says a word, of how much had come if of nothing else:
            # that takes a round trip beyond the time that frames have here
            due_s = max(frame.limit_s, frame.arrival_s + self.deadline_s)
            until_s = due_s + rtt_s + SILENCE_MARGIN_S
            self._silent[frame.request] = _Awaited(until_s, frame, in_vain)
        return False

    def forget(self, frame: Frame) -> None:
        """The frame is over: nobody waits for an answer to it."""
        if frame.request is not None:
            self.by_request.pop(frame.request, None)

    # -- silence ---------------------------------------------------------------------------------

    def next_moment_s(self, latest_s: float) -> float:
        """When `unanswered` is to be asked again, `latest_s` at the latest."""
        return min((awaited.until_s for awaited in self._silent.values()), default=latest_s)

    def unanswered(self, now_s: float) -> list[Frame]:
        """Frames that are over and of which the edge has said nothing in its time; once each."""
        gone = [request for request, one in self._silent.items() if now_s >= one.until_s]
        return [self._silent.pop(request).frame for request in gone]

    # -- replies ---------------------------------------------------------------------------------

    def heard(self, reply: Reply, now_s: float) -> Frame | None:
        """Have the admission hear of a reply; gives the frame that it may still be of use to."""
        awaited = self._silent.pop(reply.request_id, None)
        frame = self.by_request.pop(reply.request_id, None)
        lane = self.link.lane(reply.request_id)
        self.further.heard(reply.meta, now_s)
        if reply.error is not None and reply.meta.get("failed") is True and frame is not None:
            # the network could not take this sample: the next one may be another program's
            self.in_vain(frame, reply.at_s, now_s)
        elif reply.error is not None:
            # the connection went, or the edge has no time: frames need not be sent for that
            self.admission.failed(lane, now_s)
        elif awaited is not None and awaited.in_vain:
            self.admission.in_vain(lane, now_s, awaited.frame.deadline_s, early=False)
        elif frame is None:
            self.admission.heard(lane)
        elif reply.cancelled or reply.at_s > frame.limit_s:
            self.in_vain(frame, reply.at_s, now_s)
        return None if frame is None or frame.over or reply.cancelled else frame

    def in_vain(self, frame: Frame, at_s: float, now_s: float) -> None:
        """A frame's edge has said something at `at_s`, but gave no answer that is of use."""
        early = at_s < frame.limit_s
        self.admission.in_vain(frame.lane, now_s, frame.deadline_s, early)

    def read(self, frame: Frame, reply: Reply) -> ExitAnswer | Float32s:
        """The edge's answer, or the tensor that the device goes on with.

        Raises `CoinferError` for anything else.
        """
        exit_, spec = frame.plan.exit, self.model.spec
        stop = suffix_start(spec, frame.plan)
        longest_s = max(reply.at_s - frame.arrival_s, 0.0)
        for stage, key in STAGES.items():
            seconds = meta_number(reply.meta, key, 0.0)
            if 0.0 <= seconds <= longest_s:  # others are no reason to refuse an answer
                frame.stages_s[stage] = seconds
        for hop, said in zip(frame.plan.hops[1:], _further(reply.meta), strict=False):
            for stage, key in FURTHER_STAGES.items():
                seconds = meta_number(said, key, 0.0)
                if 0.0 <= seconds <= longest_s:
                    frame.stages_s[f"{hop.node} {stage}"] = seconds
        shape, whole = spec.shapes[exit_][stop], stop == len(spec.branches[exit_])
        if whole and self.model.answers.one_class:
            label = meta_int(reply.meta, "class", 0, spec.classes - 1)
            return ExitAnswer(meta_within(reply.meta, "confidence", 0.0, 1.0), label)
        tensor = codec_named("float32").decode({}, reply.data, shape)[None]
        if not np.isfinite(tensor).all():
            raise RemoteProtocolError("tensor: found values that are not finite, expected numbers")
        if whole:
            sure = meta_within(reply.meta, "confidence", 0.0, 1.0)
            return ExitAnswer(sure, None, tensor[0])
        return tensor


def _further(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a reply says of the nodes beyond its own, as far as it can be read."""
    said = meta.get("hops", [])
    return [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []
