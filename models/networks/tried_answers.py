"""A model's answers to samples: of every exit, under every codec at every device-first cut."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from artefacts import usable_cpus
from artefacts.arrays import Float32s
from models.codecs import Codec, Shared, codec_named, crossing
from models.facts.branchy import BottleneckSpec
from models.facts.cards import Model
from models.facts.layers import LayerSpec
from models.facts.outcomes import QUANTISED, Key
from models.facts.preprocessing import Raw
from models.graphs.coding import latent_bytes, latent_networks
from models.graphs.onnx_graph import chain_model
from models.graphs.onnx_runtime import onnxruntime
from models.graphs.quantisation import Activations, quantised_interval
from models.networks.judged_rows import key_arrays, keys_of
from models.networks.kept_parts import Arrays, Part

PACKED_SAMPLES = 256
"""Samples (the first) whose packed bytes are averaged: packing one by one takes its time."""


class TriedAnswers:
    """A model's answers to batches of samples under every codec, and the bytes those took."""

    def __init__(
        self, model: Model, codecs: Sequence[str], threads: int, activations: Activations | None
    ) -> None:
        """`model` is tried with `codecs`, by names, on so many `threads` a cut.

        With `activations` its whole branches are tried in int8, too.
        """
        self._model, self._activations = model, activations
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        # every layer is a session: what each would keep for its next run is more than all need
        self._options.enable_cpu_mem_arena = False
        # every layer is a session with threads of its own: waiting in a loop they starve each other
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._making = threading.Lock()
        self._side_by_side = max(1, usable_cpus() // threads)
        named = [codec_named(name) for name in codecs]
        tensors = [c for c in named if c.carries == "tensor"]
        # of an exact one only the bytes are to be learnt, where they depend on the sample
        self._raw = [c for c in named if c.raw and not (c.exact and c.size((1,)) is not None)]
        self._learned = [c for c in named if c.carries == "latent"]
        self._varying = [c for c in tensors if c.size((1,)) is None]
        answering = dict.fromkeys(c.answers_as for c in tensors if not c.exact)
        self._lossy = [codec_named(name) for name in answering]
        self._sent: dict[Key, list[int]] = {}
        self._in_parts: dict[Key, int] = {}

    def mean_bytes(self) -> dict[Key, float]:
        """Mean bytes of every codec whose bytes depend on what it carries."""
        return {key: float(np.mean(sent)) for key, sent in sorted(self._sent.items())}

    def part(self) -> Part:
        """The bytes that were noted since the last part."""
        since = self._in_parts
        more = {key: sent[since.get(key, 0) :] for key, sent in sorted(self._sent.items())}
        self._in_parts = {key: len(sent) for key, sent in self._sent.items()}
        counts = [len(sent) for sent in more.values()]
        every = np.array([n for sent in more.values() for n in sent], dtype=np.int64)
        keys = key_arrays("sent_", tuple(more))
        return {"sent": every, "sent_counts": np.array(counts, dtype=np.int64)} | keys

    def take(self, part: Arrays) -> None:
        """Add the bytes of a part."""
        ends = np.cumsum(part["sent_counts"])[:-1]
        lists = np.split(part["sent"], ends) if len(part["sent_counts"]) else []
        for key, sent in zip(keys_of("sent_", part), lists, strict=True):
            self._sent.setdefault(key, []).extend(sent.tolist())
            self._in_parts[key] = len(self._sent[key])

    def forget(self) -> None:
        """Forget the bytes that were noted."""
        self._sent.clear()
        self._in_parts.clear()

    def answers(self, samples: Raw) -> dict[Key, Float32s]:
        """Rows (N, V) by exit, codec and cut."""
        spec = self._model.spec
        found: dict[Key, Float32s] = {}
        trunk = [self._model.normalise(samples)]
        for k in range(len(spec.trunk)):
            trunk.append(self._layer(-1, k, trunk[-1]))
        for i, exit_spec in enumerate(spec.exits):
            heads = [trunk[exit_spec.after]]
            for k in range(len(exit_spec.head)):
                heads.append(self._layer(i, exit_spec.after + k, heads[-1]))
            found[(i, "float32", 0)] = heads[-1]
            for k in range(1, len(exit_spec.head)):
                self._cross_head(i, exit_spec.after + k, heads[k], found)
        # a cut's answers and bytes are its own: nothing is shared but sessions, which are made once
        with ThreadPoolExecutor(self._side_by_side) as pool:
            cuts = [
                pool.submit(self._cross_trunk, cut, trunk[cut], found)
                for cut in range(len(spec.trunk))
            ]
            for cut_done in cuts:
                cut_done.result()
        for i in range(len(spec.exits)) if self._activations is not None else ():
            found[(i, QUANTISED, 0)] = self._quantised(i, trunk[0])
        for codec, own in itertools.product(self._learned, spec.bottlenecks):
            self._continue(self._squeezed(codec, own, trunk[own.cut]), codec.name, own.cut, found)
        for codec in self._raw:
            seen = self._sent_raw(codec, samples)
            if not codec.exact:
                self._continue(self._model.normalise(seen), codec.name, 0, found)
        return found

    def _quantised(self, branch: int, x: Float32s) -> Float32s:
        """A whole branch in int8."""
        name, model = f"{QUANTISED} {branch}", self._model
        if name not in self._sessions:
            assert self._activations is not None
            stop = len(model.spec.branches[branch])
            graph = quantised_interval(model, self._activations, branch, 0, stop)
            self._sessions[name] = onnxruntime.InferenceSession(graph, self._options)
        result: Float32s = self._sessions[name].run(None, {"x": np.ascontiguousarray(x)})[0]
        return result

    def _squeezed(self, codec: Codec, own: BottleneckSpec, x: Float32s) -> Float32s:
        """What the edge sees of a trunk tensor behind a learned codec."""
        for i, exit_spec in enumerate(self._model.spec.exits):
            if exit_spec.after >= own.cut:
                self._sent[(i, codec.name, own.cut)] = [latent_bytes(own)]
        networks = latent_networks(self._model, self._alone, own.cut)
        seen: Float32s = codec.round_trip(x, Shared(networks=networks))
        return seen

    def _alone(self, layer: LayerSpec, x: Float32s) -> Float32s:
        with self._making:
            if layer.name not in self._sessions:
                shapes = (x.shape[1:], layer.output_shape(x.shape[1:]))
                graph = chain_model(layer.name, [layer], shapes, self._model.state)
                self._sessions[layer.name] = onnxruntime.InferenceSession(graph, self._options)
        result: Float32s = self._sessions[layer.name].run(None, {"x": np.ascontiguousarray(x)})[0]
        return result

    def _layer(self, branch: int, at: int, x: Float32s) -> Float32s:
        """Layer `at` of a branch (-1: the trunk), computed alone."""
        return self._alone(self._model.spec.branches[branch][at], x)

    def _cross_trunk(self, cut: int, x: Float32s, found: dict[Key, Float32s]) -> None:
        spec = self._model.spec
        for codec in self._lossy:
            if cut > 0 or not codec.needs_ranges:
                self._continue(self._through(codec, x, -1, cut), codec.name, cut, found)
        behind = [i for i, e in enumerate(spec.exits) if e.after >= cut]
        self._pack(x, cut, [i for i in behind if cut < len(spec.branches[i])])

    def _cross_head(self, exit_: int, cut: int, x: Float32s, found: dict[Key, Float32s]) -> None:
        for codec in self._lossy:
            there = self._through(codec, x, exit_, cut)
            for at in range(cut, len(self._model.spec.branches[exit_])):
                there = self._layer(exit_, at, there)
            found[(exit_, codec.name, cut)] = there
        self._pack(x, cut, [exit_])

    def _continue(self, x: Float32s, codec: str, cut: int, found: dict[Key, Float32s]) -> None:
        """Carry a decoded trunk tensor to every exit at or behind the cut."""
        spec, reached = self._model.spec, cut
        for i, exit_spec in enumerate(spec.exits):
            if exit_spec.after < cut:
                continue
            for at in range(reached, exit_spec.after):
                x = self._layer(-1, at, x)
            reached = exit_spec.after
            head = x
            for at in range(exit_spec.after, len(spec.branches[i])):
                head = self._layer(i, at, head)
            if cut < len(spec.branches[i]):
                found[(i, codec, cut)] = head

    def _through(self, codec: Codec, x: Float32s, branch: int, cut: int) -> Float32s:
        shared = Shared(self._model.ranges_at(branch, cut))
        return crossing.round_trip(codec, self._model.spec.parts(branch, cut), x, shared)

    def _pack(self, x: Float32s, cut: int, exits: Sequence[int]) -> None:
        """Note the bytes of codecs whose bytes depend on the tensor, where it may cross by them."""
        varying = [c for c in self._varying if cut > 0 or c.serves_at_input(False)]
        for codec in varying if exits else ():
            known = self._sent.setdefault((exits[0], codec.name, cut), [])
            shared = Shared(self._model.ranges_at(exits[0], cut))
            parts = self._model.spec.parts(exits[0], cut)
            for one in x[: max(PACKED_SAMPLES - len(known), 0)]:
                known.append(len(crossing.encode(codec, parts, one, shared).data))
            for i in exits[1:]:
                self._sent[(i, codec.name, cut)] = known

    def _sent_raw(self, codec: Codec, samples: Raw) -> Raw:
        """What the edge sees of raw samples; notes their bytes, where those vary."""
        seen = []
        for sample in samples:
            encoded = codec.encode(sample)
            for i in range(len(self._model.spec.exits)) if codec.size((1,)) is None else ():
                self._sent.setdefault((i, codec.name, 0), []).append(len(encoded.data))
            seen.append(codec.decode(encoded.meta, encoded.data, sample.shape))
        return np.stack(seen)
