"""How long it takes to find the plans over three tiers that no other beats, against all of them.

    python -m experiments.benches.chains

`mobilenetv2` is the shipped network with its recorded outcomes. `blocks-55` is drawn: as many fully
connected layers as ResNet-110 has blocks, five exits, random answers and times. There are a device,
an edge six times slower than the cloud, and a cloud. Every pair of cuts with every two codecs is
searched in two ways: priced as arrays first (`controller.physics.chains`), and each plan made and
priced before all are compared. Both must leave the same plans. Prints a line for each network, or
JSON; ends with 1 where they do not.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from controller.physics import NodeLink, Topology
from controller.physics.building import build_table
from controller.physics.chains import chain_plans
from controller.plans import Hop, Plan
from controller.scenarios.profiles import load_profile
from experiments.arguments import LineParser, count
from models.codecs import codec_named
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.cards import load_model
from models.facts.layers import LayerSpec
from models.facts.outcomes import Outcomes, read_outcomes
from models.facts.profiles import LayerProfile, Profile

NODES = ("device", "edge", "cloud")
TIERS = Topology(NODES, (NodeLink("device", "edge"), NodeLink("edge", "cloud", 5e6)))
CODECS = ("int8c", "int4c", "int4c+zstd", "jpeg35", "jpeg75")
DRAWN_CODECS = ("float32", "int8", "float16", "int8c", "int4c")
BLOCKS, SAMPLES, WIDTH = 55, 1000, 64
RTT_S = 0.04
EDGE_SLOWDOWN = 6.0


@dataclass(frozen=True)
class Network:
    """What is planned over three tiers."""

    name: str
    spec: BranchySpec
    profiles: Mapping[str, Profile]
    outcomes: Outcomes
    codecs: tuple[str, ...]


class Figures(msgspec.Struct, frozen=True):
    """One network: plans and seconds, by arrays and one by one."""

    network: str
    layers: int
    every: int
    """Plans over two further nodes that there are."""
    priced: int
    """Those that were made: no other of the same exit and first cut beats them as arrays."""
    kept: int
    """Those that none beats at all."""
    search_s: float
    """Of finding them."""
    every_s: float
    """Of finding them by making all plans."""
    same: bool
    """Whether both ways leave the same."""


def shipped() -> Network:
    """MobileNetV2 as the scenarios have it."""
    model = load_model("mobilenetv2")
    device, edge = (load_profile(name, model) for name in ("pi4-one-core", "edge-x86"))
    profiles = dict(zip(NODES, (device, edge.slowed(EDGE_SLOWDOWN), edge), strict=True))
    outcomes = read_outcomes(model.folder / "outcomes.npz")
    return Network("mobilenetv2", model.spec, profiles, outcomes, CODECS)


def drawn(blocks: int, seed: int = 0) -> Network:
    """A network of so many `blocks`, five exits, and random answers and times, by `seed`."""
    rng = np.random.default_rng(seed)
    trunk = tuple(LayerSpec(f"block{k}", "fc", channels=WIDTH) for k in range(blocks))
    step = max(blocks // 5, 1)
    heads = tuple(
        ExitSpec(after, (LayerSpec(f"exit{after}", "fc", channels=WIDTH),))
        for after in range(step, blocks, step)
    )
    spec = BranchySpec(f"blocks-{blocks}", (WIDTH,), WIDTH, trunk, (*heads, ExitSpec(blocks)))
    keys = [(exit_, "float32", 0) for exit_ in range(len(spec.exits))]
    for exit_, branch in enumerate(spec.branches):
        lossy = (c for c in DRAWN_CODECS if not codec_named(c).exact)
        keys += [(exit_, c, cut) for c in lossy for cut in range(len(branch))]
    right = rng.random((len(keys), SAMPLES)) < 0.8
    sure = np.full(right.shape, 255, dtype=np.uint8)
    outcomes = Outcomes(spec.digest, "drawn", tuple(keys), right, sure)
    profiles = {
        node: _profile(spec, rng, scale)
        for node, scale in zip(NODES, (1e-2, EDGE_SLOWDOWN * 1e-3, 1e-3), strict=True)
    }
    return Network(spec.name, spec, profiles, outcomes, DRAWN_CODECS)


def _profile(spec: BranchySpec, rng: np.random.Generator, scale: float) -> Profile:
    seconds = {
        layer.name: float(scale * rng.uniform(0.5, 1.5))
        for branch in spec.branches
        for layer in branch
    }
    branches = tuple(
        tuple(
            LayerProfile(x.name, x.kind, seconds[x.name], seconds[x.name], 1, shape, 0, 0, 0)
            for x, shape in zip(branch, shapes[1:], strict=True)
        )
        for branch, shapes in zip(spec.branches, spec.shapes, strict=True)
    )
    return Profile(
        1, "drawn", spec.name, spec.digest, "onnx", 1, None, None, "drawn", 0.0, 1.0, branches
    )


def every_plan(network: Network) -> Iterator[Plan]:
    """All plans of two hops that the search looks among."""
    codecs = [codec_named(codec) for codec in network.codecs]
    raw = any(codec.raw for codec in codecs)
    for exit_, branch in enumerate(network.spec.branches):
        length = len(branch)
        for start, stop in itertools.combinations(range(length), 2):
            firsts = [
                c for c in codecs
                if (c.serves_at_input(raw) if start == 0 else not c.raw)
            ]  # fmt: skip
            for one, two in itertools.product(firsts, (c for c in codecs if not c.raw)):
                hops = (
                    Hop("edge", start, stop, one.name), Hop("cloud", stop, length, two.name),
                )  # fmt: skip
                yield Plan(exit_, hops)


def measured(network: Network) -> Figures:
    """Both ways timed on a `network`, one after the other."""
    given = (network.spec, network.profiles, network.outcomes)
    begun = time.perf_counter()
    priced = chain_plans(*given, TIERS, network.codecs)
    kept = build_table(*given, priced, topology=TIERS).undominated(RTT_S)
    between = time.perf_counter()
    every = tuple(every_plan(network))
    left = build_table(*given, every, topology=TIERS).undominated(RTT_S)
    ended = time.perf_counter()
    return Figures(
        network.name, len(network.spec.trunk), len(every), len(priced), len(kept),
        between - begun, ended - between, set(kept.plans) == set(left.plans),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = LineParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blocks", type=count, default=BLOCKS, help=f"of the drawn one ({BLOCKS})")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    args = parser.parse_args(argv)
    found = [measured(network) for network in (shipped(), drawn(args.blocks))]
    if args.json:
        print(json.dumps(msgspec.to_builtins(found), indent=1))
    for one in () if args.json else found:
        same = "the same" if one.same else "OTHERS"
        print(
            f"{one.network}, {one.layers} layers: {one.kept:,} of {one.every:,} plans found in "
            f"{one.search_s:.2f} s; {same} by making all of them in {one.every_s:.1f} s, "
            f"{one.every_s / one.search_s:.1f} times as long"
        )
    return int(not all(one.same for one in found))


if __name__ == "__main__":
    sys.exit(main())
