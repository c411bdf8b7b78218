"""The models that an edge serves: what requests may ask of each, and what its answers look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Float32s
from controller.edge.arrivals import Arrival
from controller.plans import Hop, Plan, check_plan
from controller.wire.messages import meta_int, meta_shape, meta_text, shown, shown_text
from models.codecs import LEARNED, Codec, codec_named
from models.executors import Executor
from models.facts.cards import Model
from models.facts.made_up import made_up_input
from models.facts.meaning import meaning_digest
from models.graphs.coding import latent_bytes

ENCODED_EXTRA_BYTES = 4096
"""What an encoded tensor or raw sample may have beyond 4 bytes a value (headers)."""

MOST_HOPS = 8
"""That a request may still have before it: nothing is handed on for ever."""
MOST_NAME = 64
"""Characters of a node's name."""

Interval = tuple[str, int, int, int]
"""What can be computed together: model digest, exit, start, stop."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model and who computes it."""

    model: Model
    executor: Executor

    @property
    def meaning(self) -> str:
        """Digest of what its card says of inputs and answers."""
        return meaning_digest(self.model.card)

    def answer(self, interval: Interval, y: Float32s) -> tuple[dict[str, Any], bytes]:
        """One sample's reply: the answer where the branch ends on the edge, else the tensor.

        A class needs no bytes; any other answer is the exit's row.
        """
        _, branch, _, stop = interval
        sure: dict[str, Any] = {}
        if stop == len(self.model.spec.branches[branch]):
            answer = self.model.answer(branch, y)
            if answer.label is not None:
                return {"bytes": 0, "class": answer.label, "confidence": answer.confidence}, b""
            sure = {"confidence": answer.confidence}
        out = np.ascontiguousarray(y[0], dtype="<f4").tobytes()
        return {"bytes": len(out), "shape": list(y.shape[1:])} | sure, out

    def onward(self, interval: Interval, y: Float32s, hop: Hop) -> tuple[dict[str, Any], bytes]:
        """What a further node is given of one sample: what its codec needs, and the bytes."""
        _, branch, _, stop = interval
        encoded = self.executor.encode(hop.codec, branch, stop, y)
        shape = self.model.spec.shapes[branch][stop]
        return {"shape": list(shape)} | encoded.meta, encoded.data

    def prepare(self, interval: Interval) -> None:
        """Run an interval on a made-up sample, or on zeros, so that no frame pays for what is
        compiled.
        """
        _, branch, start, stop = interval
        spec = self.model.spec
        given = np.zeros((1, *spec.shapes[branch][start]), dtype=np.float32)
        if start == 0:
            given = made_up_input(self.model.preprocessing, spec.input_shape)
        self.executor.run(branch, start, stop, given)
        learned = spec.bottleneck(start)
        if learned is not None and start <= spec.exits[branch].after:
            self.executor.decode(LEARNED, branch, start, {}, bytes(latent_bytes(learned)))


class ServedModels:
    """Models by their digests; never none, once one is added."""

    def __init__(self) -> None:
        self._models: dict[str, Served] = {}

    def add(self, model: Model, executor: Executor) -> None:
        """Serve one more model; refused where another of the same weights means them otherwise."""
        known = self._models.get(model.digest)
        if known is not None and known.meaning != meaning_digest(model.card):
            raise UsageError(
                f"models: found '{known.model.folder}' and '{model.folder}', whose weights are the "
                "same and whose preprocessing or answers are not, expected one of them"
            )
        self._models[model.digest] = Served(model, executor)

    def __getitem__(self, digest: str) -> Served:
        return self._models[digest]

    def unknown(self, digest: str, meaning: str = "") -> str | None:
        """Why a model is not served, or not as a device means it; None where it is.

        `meaning` is of the device's card ("": it does not say, as older ones do not).
        """
        served = self._models.get(digest)
        if served is not None:
            if meaning in ("", served.meaning):
                return None
            return (
                f"card of '{served.model.spec.name}': found other preprocessing or answers on the "
                "device than the edge's card.json has, expected the same"
            )
        known = ", ".join(f"{d[:12]}…" for d in self._models)
        return f"model digest: found {shown_text(digest[:12])}…, expected {known}"

    def asked(self, arrival: Arrival) -> tuple[Interval, str]:
        """What a request asks for, and the codec of its tensor; a `CoinferError` refuses what
        cannot be meant.
        """
        meta = arrival.meta
        digest = meta_text(meta, "model")
        unknown = self.unknown(digest)
        if unknown is not None:
            raise UsageError(unknown)
        spec = self._models[digest].model.spec
        branch = meta_int(meta, "exit", 0, len(spec.branches) - 1)
        length = len(spec.branches[branch])
        start = meta_int(meta, "start", 0, length)
        stop = meta_int(meta, "stop", start, length)
        codec, shape = codec_named(meta_text(meta, "codec")), meta_shape(meta, "shape")
        expected = spec.shapes[branch][start]
        if codec.raw:
            expected = self._raw_shape(digest, codec) if start == 0 else ()
        if shape != expected:
            raise UsageError(f"tensor shape: found {shape}, expected {expected} as {codec.name}")
        most = 4 * math.prod(shape) + ENCODED_EXTRA_BYTES  # each value is one of float32 inside
        if len(arrival.data) > most:
            raise UsageError(
                f"payload: found {len(arrival.data)} bytes, expected at most {most} for {shape}"
            )
        return (digest, branch, start, stop), codec.name

    def hops(self, arrival: Arrival, interval: Interval, known: Sequence[str]) -> tuple[Hop, ...]:
        """The hops that a request has still before it, on nodes of which the first is `known`.

        Its own `interval` may be empty: then it is passed on as it came. A `CoinferError` refuses
        what cannot be meant.
        """
        said, (digest, branch, start, stop) = arrival.meta.get("hops"), interval
        if said is None:
            return ()
        if not isinstance(said, list) or not 0 < len(said) <= MOST_HOPS:
            found = f"{len(said)}" if isinstance(said, list) else shown(said)
            raise UsageError(f"hops: found {found}, expected 1 to {MOST_HOPS} of them")
        hops = tuple(_hop(one) for one in said)
        if hops[0].node not in known:
            named = ", ".join(known) or "none: this edge hands nothing on"
            raise UsageError(f"hops: found node '{hops[0].node}', expected one of {named}")
        codec = meta_text(arrival.meta, "codec")
        own = () if start == stop else (Hop("this", start, stop, codec),)
        if not own and (hops[0].start, hops[0].codec) != (start, codec):
            raise UsageError(
                f"hops: found '{hops[0].codec}' before layer {hops[0].start} first, expected what "
                f"came: '{codec}' before layer {start}"
            )
        check_plan(Plan(branch, (*own, *hops)), self._models[digest].model.spec)
        return hops

    def _raw_shape(self, digest: str, codec: Codec) -> tuple[int, ...]:
        """Of a raw sample that a codec carries; refuses one that the model does not take."""
        model = self._models[digest].model
        if codec.carries != model.preprocessing.carried:
            raise UsageError(
                f"codec: found '{codec.name}' of a {codec.carries}, expected one that model "
                f"'{model.spec.name}' takes"
            )
        return model.preprocessing.raw_shape(model.spec.input_shape)

    def interval_bytes(self, interval: Interval) -> int:
        """Bytes of weights that an interval holds once it is ready."""
        return self._models[interval[0]].model.spec.interval_bytes(*interval[1:])

    def intervals(self, digest: str, value: Any, most: int) -> list[Interval]:
        """The intervals in a greeting; those a network lacks, and more than `most`, are passed
        over.
        """
        found, branches = [], self._models[digest].model.spec.branches
        for item in value[:most] if isinstance(value, list) else []:
            fits = isinstance(item, list) and len(item) == 3 and all(type(k) is int for k in item)
            if fits and 0 <= item[0] < len(branches):
                exit_, start, stop = item
                if 0 <= start < stop <= len(branches[exit_]):
                    found.append((digest, exit_, start, stop))
        return found


def _hop(said: Any) -> Hop:
    """A hop as a request names it: node, start, stop, codec."""
    kinds = (str, int, int, str)
    if not isinstance(said, list) or [type(one) for one in said] != list(kinds):
        raise UsageError(f"hops: found {shown(said)}, expected [node, start, stop, codec]")
    return Hop(shown_text(said[0])[:MOST_NAME], *said[1:])
