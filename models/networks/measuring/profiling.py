"""The profile of a model on this machine: every layer of every branch, then the regression.

Owns how a profile is taken; the artefact is `models.facts.profiles`, clocks and executors are
`models.networks.measuring.timing`, predictors `models.networks.measuring.predictors`.
"""

from __future__ import annotations

import itertools
import platform
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from artefacts import usable_cpus
from artefacts.arrays import Floats
from models.codecs import Codec, Encoded, Shared, codec_named, crossing
from models.codecs.tensors import NamedTensor
from models.data.generated import timed_sample
from models.facts.branchy import BottleneckSpec, BranchySpec
from models.facts.cards import Model, load_model
from models.facts.layers import Shape
from models.facts.profiles import (
    FORMAT_VERSION,
    CodecProfile,
    FittedPredictor,
    HostFacts,
    LayerProfile,
    Profile,
)
from models.graphs.coding import latent_codec
from models.graphs.onnx_graph import chain_model
from models.networks.measuring.memory import measured_activations
from models.networks.measuring.timing import (
    SYSTEM_CLOCK,
    Clock,
    ProfilingArgs,
    Run,
    Runner,
    chain_times,
    onnx_run,
    pinned_threads,
    runner,
)

if TYPE_CHECKING:
    from models.networks.measuring.predictors import Progress, Timed

_LOADINGS = 3
LEAST_SHARE = 0.1
"""A stretch takes at least this share of its layers alone: less is noise between two timings."""


def profile_model(
    model: Model,
    name: str,
    args: ProfilingArgs,
    progress: Progress = lambda what, done, total: None,
    clock: Clock = SYSTEM_CLOCK,
    activations: Mapping[str, int] | None = None,
) -> Profile:
    """The profile of `model` on this machine, called `name`.

    Layers are timed along their branch, by `clock` and as `args` say. What is run at once is timed
    too: the trunk up to every exit, and every branch; their differences are what a stretch of the
    trunk and a head take, and the times of the layers in it are multiplied so that they add up to
    that (`layer_scale`): sessions of one layer neither fuse nor share their call's overhead. A
    layer has one time, whichever branch it is run in. `progress(what, done, total)` hears of it.

    `activations` are those of `measured_activations`, where they were measured already.
    """
    spec = model.spec
    rng = np.random.default_rng(args.seed)
    x = model.normalise(timed_sample(model.preprocessing, spec.input_shape, rng))
    with _torch_ready(args):
        ready = runner(model, args.executor, args.threads)
        alone = _alone(spec, ready, x, args, progress, clock)
        stretches, spread = _stretches(spec, ready, x, args, clock)
        scales, scaled = _scaled(alone, stretches)
        progress("memory", 0, 1)
        if activations is None:
            activations = measured_activations(model.folder, args.executor) or {}
        branches = [
            _layer_profiles(spec, i, scaled, activations) for i in range(len(spec.branches))
        ]
        loading_s = _loading_s(model, args, clock)
        coding = _codec_profiles(model, args, progress, clock)
        own = _own_layers(spec, alone)
        predictors = _fitted(own, args, rng, progress, clock) if args.grid else ()
    return Profile(
        format_version=FORMAT_VERSION,
        name=name,
        network=spec.name,
        network_digest=spec.digest,
        executor=args.executor,
        threads=args.threads,
        host=host_facts(),
        emulation=emulation_note(args),
        transcribed=None,
        model_loading_s=loading_s,
        spread=max(1.0, spread),
        branches=tuple(branches),
        predictors=predictors,
        layer_scale=scales,
        process_peak_bytes=_process_peak_bytes(),
        memory="measured" if activations else "from shapes",
        codecs=coding,
    )


@contextmanager
def _torch_ready(args: ProfilingArgs) -> Iterator[None]:
    """Torch computing as `args` say, where it computes at all: a device has none."""
    if args.executor != "torch" and not args.grid:
        yield
        return
    import torch

    with pinned_threads(args.threads), torch.inference_mode():
        yield


def _fitted(
    own: list[Timed],
    args: ProfilingArgs,
    rng: np.random.Generator,
    progress: Progress,
    clock: Clock,
) -> tuple[FittedPredictor, ...]:
    """The regression, whose generated layers are torch's."""
    from models.networks.measuring.predictors import fit_predictors

    return fit_predictors(own, args, rng, progress, clock)


def _alone(
    spec: BranchySpec,
    ready: Runner,
    x: npt.NDArray[np.float32],
    args: ProfilingArgs,
    progress: Progress,
    clock: Clock,
) -> dict[str, Floats]:
    """Seconds of every layer run alone, each after its forerunner: (repeats,) by name."""
    found: dict[str, Floats] = {}
    for i in reversed(range(len(spec.branches))):
        progress("branches", len(spec.branches) - 1 - i, len(spec.branches))
        times = chain_times(ready.layers(i), ready.input(x), args, clock)
        for k, layer in enumerate(spec.branches[i]):
            # the trunk's from the deepest branch
            found.setdefault(layer.name, times[:, k])
    progress("branches", len(spec.branches), len(spec.branches))
    return found


def _stretches(
    spec: BranchySpec,
    ready: Runner,
    x: npt.NDArray[np.float32],
    args: ProfilingArgs,
    clock: Clock,
) -> tuple[list[tuple[list[str], float]], float]:
    """Layers that are run together and their seconds, and the branches' p95 / median.

    The trunk between one exit's point and the next, then every head.
    """
    start, last = ready.input(x), len(spec.branches) - 1
    points = sorted({e.after for e in spec.exits})
    heads = [i for i, e in enumerate(spec.exits) if e.head]
    runs = [ready.interval(last, 0, point) for point in points]
    runs += [ready.interval(i, 0, len(spec.branches[i])) for i in heads]

    def on_input(run: Run) -> Run:
        return lambda _: run(start)

    # in turn, so that whatever else the machine does falls on all of them alike
    times = chain_times([on_input(run) for run in runs], start, args, clock)
    median = np.median(times, axis=0)
    upto = dict(zip(points, median[: len(points)], strict=True))
    found = []
    for before, point in itertools.pairwise([0, *points]):
        names = [layer.name for layer in spec.trunk[before:point]]
        found.append((names, float(upto[point] - upto.get(before, 0.0))))
    for i, whole in zip(heads, median[len(points) :], strict=True):
        names = [layer.name for layer in spec.exits[i].head]
        found.append((names, float(whole - upto[spec.exits[i].after])))
    spread = float(np.median(np.quantile(times, 0.95, axis=0) / median))
    return found, spread


def _scaled(
    alone: dict[str, Floats], stretches: list[tuple[list[str], float]]
) -> tuple[tuple[float, ...], dict[str, Floats]]:
    """Every stretch's scale, and the layers' times by it: they add up to what was run at once."""
    scales = tuple(_scale(seconds, _sum(alone, names)) for names, seconds in stretches)
    scaled = {
        name: alone[name] * scale
        for (names, _), scale in zip(stretches, scales, strict=True)
        for name in names
    }
    return scales, scaled


def _scale(together_s: float, alone_s: float) -> float:
    """Of a stretch, by what its layers take together, and alone; 1 where there are none.

    There are none before an exit that hangs at the input.
    """
    return max(together_s, LEAST_SHARE * alone_s) / alone_s if alone_s > 0 else 1.0


def _sum(alone: dict[str, Floats], names: list[str]) -> float:
    return float(sum(np.median(alone[name]) for name in names))


def emulation_note(args: ProfilingArgs) -> str | None:
    """What a throttled profile says of itself; None for the machine as it is."""
    if args.slowdown == 1.0:
        return None
    codecs = args.codec_slowdown
    return (
        f"this machine made {args.slowdown:g} times slower: every computation counts "
        f"{args.slowdown:g} times its thread CPU time"
        + ("" if codecs is None else f", every codec {codecs:g} times")
    )


def host_facts() -> HostFacts:
    """The kind of machine this is (no name of it)."""
    return HostFacts(
        machine=platform.machine(),
        processor=_processor(),
        cores=usable_cpus(),
        system=f"{platform.system()}, Python {platform.python_version()}",
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            for line in stream:
                key, _, value = line.partition(":")
                if key.strip() in ("model name", "Model"):
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _process_peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kilobytes, macOS in bytes
    return peak if sys.platform == "darwin" else peak * 1024


def _layer_profiles(
    spec: BranchySpec, branch: int, times: dict[str, Floats], activations: Mapping[str, int]
) -> tuple[LayerProfile, ...]:
    profiles = []
    shapes = spec.shapes[branch]
    for k, layer in enumerate(spec.branches[branch]):
        after = _bytes(shapes[k + 1])
        parameters = layer.parameter_bytes(shapes[k])
        profiles.append(
            LayerProfile(
                name=layer.name,
                kind=layer.kind,
                median_s=float(np.median(times[layer.name])),
                p95_s=float(np.quantile(times[layer.name], 0.95)),
                samples=len(times[layer.name]),
                output_shape=shapes[k + 1],
                output_bytes=after,
                parameter_bytes=parameters,
                peak_memory_bytes=parameters
                + activations.get(layer.name, layer.peak_bytes(shapes[k])),
            )
        )
    return tuple(profiles)


def _codec_profiles(
    model: Model, args: ProfilingArgs, progress: Progress, clock: Clock
) -> tuple[CodecProfile, ...]:
    """Encoding and decoding at every trunk cut, of what a made-up sample gives there."""
    spec = model.spec
    rng = np.random.default_rng(args.seed)
    sample = timed_sample(model.preprocessing, spec.input_shape, rng)
    ready = runner(model, args.executor, args.threads)
    # a learned codec first: `sorted` keeps the others in their order
    named = sorted(map(codec_named, args.codecs), key=lambda c: c.carries != "latent")
    crosses: Any = ready.input(model.normalise(sample))
    found: list[CodecProfile] = []
    for cut, run in enumerate([*ready.layers(len(spec.branches) - 1)]):
        progress("codecs", cut, len(spec.trunk))
        tensor = np.asarray(crosses, dtype=np.float32)[0]
        ranges = model.ranges_at(-1, cut)
        after, learned = spec.crossing(-1, cut), spec.bottleneck(cut)
        for codec in named:
            if codec.carries == "latent":
                if learned is not None:
                    found.append(_learned_profile(codec, model, learned, tensor, args, clock))
            elif codec.raw == (cut == 0) and (ranges or not codec.needs_ranges):
                source, parts = (sample[0], ()) if cut == 0 else (tensor, spec.parts(-1, cut))
                shared = Shared(ranges)
                found.append(_codec_profile(codec, after, source, parts, shared, args, clock))
        crosses = run(crosses)
    return tuple(found)


def _learned_profile(
    codec: Codec,
    model: Model,
    learned: BottleneckSpec,
    tensor: npt.NDArray[np.float32],
    args: ProfilingArgs,
    clock: Clock,
) -> CodecProfile:
    """A learned codec costs its networks and the rounding of its latent."""
    latent = learned.encoder.output_shape(())
    parts = ((learned.encoder, tensor.shape), (learned.decoder, latent))
    runs = [
        onnx_run(
            chain_model(layer.name, [layer], (given, layer.output_shape(given)), model.state),
            args.threads,
        )
        for layer, given in parts
    ]
    computed = np.median(chain_times(runs, tensor[None], args, clock), axis=0)
    shared = Shared(model.ranges[learned.encoder.name])
    zeros = np.zeros(latent, dtype=np.float32)
    rounding = _codec_profile(latent_codec(learned), "", zeros, (), shared, args, clock)
    after = model.spec.crossing(-1, learned.cut)
    return CodecProfile(
        codec.name,
        after,
        float(computed[0]) + rounding.encode_s,
        float(computed[1]) + rounding.decode_s,
    )


def _codec_profile(
    codec: Codec,
    after: str,
    source: npt.NDArray[Any],
    parts: tuple[NamedTensor, ...],
    shared: Shared,
    args: ProfilingArgs,
    clock: Clock,
) -> CodecProfile:
    def back(encoded: Encoded) -> Any:
        return crossing.decode(codec, parts, encoded.meta, encoded.data, source.shape, shared)

    if args.codec_slowdown is not None:
        args = replace(args, slowdown=args.codec_slowdown)
    runs = [lambda x: crossing.encode(codec, parts, x, shared), back]
    encode_s, decode_s = np.median(chain_times(runs, source, args, clock), axis=0)
    return CodecProfile(codec.name, after, float(encode_s), float(decode_s))


def _bytes(shape: Shape) -> int:
    return 4 * int(np.prod(shape))


def _loading_s(model: Model, args: ProfilingArgs, clock: Clock) -> float:
    """Median seconds from files to the deepest branch's first answer."""

    def load(x: Any) -> Any:
        ready = runner(load_model(model.folder), args.executor, args.threads)
        last = len(model.spec.branches) - 1
        whole = ready.interval(last, 0, len(model.spec.branches[last]))
        return whole(ready.input(x))

    shape = (1, *model.spec.input_shape)
    few = ProfilingArgs(args.executor, args.threads, _LOADINGS, 1, args.slowdown)
    times = chain_times([load], np.zeros(shape, dtype=np.float32), few, clock)
    return float(np.median(times))


def _own_layers(spec: BranchySpec, alone: dict[str, Floats]) -> list[Timed]:
    layers: dict[str, Timed] = {}
    for i, branch in enumerate(spec.branches):
        for k, layer in enumerate(branch):
            if layer.segment is not None:
                continue  # a stretch of several operations is of no kind that is fitted
            # as timed alone, like the generated layers that it is held against
            seconds = float(np.median(alone[layer.name]))
            layers.setdefault(layer.name, (layer, spec.shapes[i][k], seconds))
    return list(layers.values())
