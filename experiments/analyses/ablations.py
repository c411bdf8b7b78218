"""What each part of the policy is worth: `python -m experiments.analyses.ablations --out
runs/ablations`.

Every variant is trained anew, with its own plans and planning, and judged on the test logs by mean
rewards (the answers' accuracies, report half, every log counted equally), in the scenario's whole
`[world]`, whatever of it was left out in training. Differences are to the policy with everything,
seeds averaged within a log, then paired over logs. A variant's results are kept, one file each; the
same command goes on where it was ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from artefacts import CoinferError, digest_bytes, read_json, write_json
from controller.physics import TraceBank
from controller.policies.probing import BLIND_S
from controller.scenarios import (
    NO_PRICES,
    PlanSection,
    Prices,
    Setting,
    load_setting,
    read_scenario,
)
from controller.scenarios.world import NodeWorldSection, WorldSection
from envs.observed import ObservedLanes, mean_reward
from experiments.arguments import LineParser, add_price_options, count, count_or_none, prices_given
from experiments.evaluation.digests import code_digest
from experiments.evaluation.statistics import paired
from experiments.learning.training import train_policy
from experiments.learning.training_args import TrainArgs
from experiments.studies.results import FORMAT_VERSION as RESULTS_VERSION
from experiments.studies.results import MATRIX, Cell, Matrix
from traces.trace import traces_digest

FORMAT_VERSION = 1
HISTORY = (
    "log_rate_1", "log_rate_2", "log_rate_3", "log_age_1", "log_age_2", "log_age_3", "complete_1",
    "complete_2", "complete_3", "fast_log_rate", "slow_log_rate", "log_rate_spread",
    "advantage_fast", "advantage_slow", "advantage_least",
)  # fmt: skip
CHANGE = ("shift_log_rate", "log_shift_age")


@dataclass(frozen=True)
class Variant:
    """What is otherwise: of the plans, of the training, and of the world that is trained in.

    `world` names fields of `[world]`, those of a node behind a dot.
    """

    plans: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    world: dict[str, Any] = field(default_factory=dict)


def unseen(*names: str) -> Variant:
    """A policy that is not shown these numbers of an observation."""
    return Variant(training={"without": names})


LEARNING = {"frames", "without"}
"""What tells of PPO alone."""
WHOLE = "everything"
VARIANTS: dict[str, Variant] = {
    WHOLE: Variant(),
    "planning alone": Variant(training={"frames": 0}),
    "each frame for itself": Variant(training={"planning_sweeps": 0}),
    "no answers on the way": Variant(plans={"anytime": False, "no_rescue": False}),
    "no stopping on confidence": Variant(plans={"confidence": ()}),
    "one codec a kind": Variant(plans={"codecs": ("int8c", "jpeg75")}),
    "with hedging": Variant(plans={"hedge": True}),
    "without hedging": Variant(plans={"hedge": False}),
    "never asking": Variant(training={"blind_s": 1e6}),
    "asking after 0.25 s": Variant(training={"blind_s": 0.25}),
    "asking after 2 s": Variant(training={"blind_s": 2.0}),
    "newest measurement only": Variant(training={"without": HISTORY}),
    "no change points": Variant(training={"without": CHANGE}),
    "not shown the device's pace": unseen("device_pace"),
    "not shown pictures' sizes": unseen("own_size", "size_changes"),
    "not shown the edge's queue": unseen("edge_queue"),
    "not shown the last latency": unseen("last_latency"),
    "not shown the exits' confidence": unseen("confidence"),
    "trained in even seconds": Variant(world={"sub_second": False}),
    "trained with pictures of mean size": Variant(world={"picture_sizes": False}),
    "trained without scenes": Variant(world={"scene_s": 0.0}),
    "trained without overheads": Variant(
        world={f"{n}.{p}": 0.0 for n in ("device", "edge") for p in ("overhead_s", "jitter_s")}
    ),
    "trained with the profiles' spread": Variant(world={"device.spread": (), "edge.spread": ()}),
    "trained without throttling": Variant(world={"device.throttled": None}),
    "trained without a shared processor": Variant(world={"device.shared": None}),
    "trained with an edge of its own": Variant(world={"edge.load": None}),
    "trained without a world": Variant(
        world=dict.fromkeys(("sub_second", "picture_sizes"), False)
        | {"scene_s": 0.0, "device": NodeWorldSection(), "edge": NodeWorldSection()}
    ),
}


class Result(msgspec.Struct, frozen=True):
    """One variant: mean reward of every seed on every log, (seeds, logs)."""

    format_version: int
    key: str
    rewards: tuple[tuple[float, ...], ...]


def ablated(name: str, variant: Variant, prices: Prices = NO_PRICES) -> tuple[Setting, Setting]:
    """The scenario with the variant's plans; and the one that is trained in, with its world."""
    own = read_scenario(name)
    scenario = prices.scenario(own)
    plans: PlanSection = msgspec.structs.replace(scenario.plans, **variant.plans)
    setting = load_setting(msgspec.structs.replace(scenario, plans=plans))
    setting = setting.at_prices(*prices.over(own.reward))
    if not variant.world:
        return setting, setting
    return setting, setting.in_world(_with(scenario.world, variant.world))


def _with(world: WorldSection, changes: dict[str, Any]) -> WorldSection:
    """A world of which some fields are otherwise."""
    for name, value in changes.items():
        node, _, part = name.rpartition(".")
        if node:
            name, value = node, msgspec.structs.replace(getattr(world, node), **{part: value})
        world = msgspec.structs.replace(world, **{name: value})
    return world


def measured(
    setting: Setting, trained_in: Setting, args: TrainArgs, frames: int
) -> tuple[float, ...]:
    """Train, and the mean reward on every test log.

    `setting` is the scenario that is judged in, `trained_in` the one that `args` are for; `frames`
    is the most of a log.
    """
    policy = train_policy(trained_in, args)
    bank = TraceBank(setting.traces("test").traces)
    rng = np.random.default_rng(setting.scenario.seeds.evaluate)
    encoder, blind_s = policy.encoder(setting), policy.card.blind_s
    lanes = ObservedLanes(setting, bank, len(bank.names), encoder, "report", rng, blind_s)
    return tuple(mean_reward(lanes, policy, frames).tolist())


def run(
    name: str,
    args: TrainArgs,
    seeds: list[int],
    frames: int,
    out: Path,
    say: Callable[[str], None],
    titles: Sequence[str] = (),
    prices: Prices = NO_PRICES,
) -> dict[str, Result]:
    """Results of the variants of these titles (all) after the whole, kept or run now.

    A variant that changes nothing is left out: of this scenario's plans or world, or of a learning
    that does not take place.

    `name` is the scenario's, `args` are the whole policy's. Every variant is trained with each of
    `seeds` and judged on `frames` of each log; `out` keeps results, `say` hears of the progress.
    `titles` choose (none: all). `prices` are those that were given.
    """
    found: dict[str, Result] = {}
    scenario = prices.scenario(read_scenario(name))
    own, world = scenario.plans, scenario.world
    for title, variant in VARIANTS.items():
        if titles and title not in (WHOLE, *titles):
            continue
        setting, trained_in = ablated(name, variant, prices)
        if variant.plans and setting.scenario.plans == own:
            continue
        if variant.world and trained_in.scenario.world == world:
            continue
        if not args.frames and LEARNING & set(variant.training):
            continue
        parts = (
            code_digest("experiments/learning", "experiments/analyses/ablations.py"),
            setting.digest, traces_digest(setting.traces("test").traces),
            traces_digest(trained_in.traces("train").traces), repr(variant), repr(args), str(seeds),
            str(frames),
        )  # fmt: skip
        key = digest_bytes("\n".join(parts).encode())
        path = out / f"{scenario.name}-{title.replace(' ', '-')}.json"
        kept = read_json(path, Result, version=FORMAT_VERSION) if path.exists() else None
        if kept is None or kept.key != key:
            trained = replace(args, **variant.training)
            rewards = tuple(
                measured(setting, trained_in, replace(trained, seed=seed), frames) for seed in seeds
            )
            kept = Result(FORMAT_VERSION, key, rewards)
            write_json(path, kept)
        found[title] = kept
        say(row(title, kept, found[WHOLE]))
    return found


def row(title: str, one: Result, whole: Result) -> str:
    """A line of the table: mean reward, difference to the whole in points, interval, p."""
    mine, all_of_it = (np.mean(r.rewards, axis=0) for r in (one, whole))
    if one is whole:
        return f"| {title} | {mine.mean():.4f} | | | |"
    difference = paired(mine, all_of_it, 0)
    between = "" if difference.interval95 is None else "{:+.2f} to {:+.2f}".format(
        *(100 * edge for edge in difference.interval95)
    )  # fmt: skip
    gained, p = 100 * difference.mean, difference.p_value
    return f"| {title} | {mine.mean():.4f} | {gained:+.2f} | {between} | {p:.3f} |"


def matrix_of(name: str, found: dict[str, dict[str, Result]], seeds: int) -> Matrix:
    """What `coinfer report` renders: variants by scenarios, differences to the whole."""
    titles = [
        title for title in VARIANTS if title != WHOLE and any(title in f for f in found.values())
    ]

    def cell(results: dict[str, Result], title: str) -> Cell | None:
        if title not in results:
            return None
        mine, whole = (np.mean(results[t].rewards, axis=0) for t in (title, WHOLE))
        difference = paired(mine, whole, 0)
        return Cell(
            difference.mean,
            difference.interval95,
            difference.traces,
            seeds,
            p_value=difference.p_value,
        )

    return Matrix(
        RESULTS_VERSION, name, "against_everything", "variant", "scenario", tuple(titles),
        tuple(found), tuple(tuple(cell(found[s], title) for s in found) for title in titles),
    )  # fmt: skip


def main() -> None:
    """Print a Markdown table a scenario."""
    parser = LineParser(description=__doc__)
    parser.add_argument("--scenario", nargs="+", default=["3g-mobilenet", "lte-mobilenet"])
    add_price_options(parser, "every scenario at this price, too: ")
    parser.add_argument("--variants", nargs="+", default=[], choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--matrix", type=Path, help="the differences as NAME.matrix.json")
    parser.add_argument("--train-frames", type=count_or_none, default=200_000)
    parser.add_argument("--frames", type=count, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        found, given = {}, prices_given(args)
        turns = [(named, NO_PRICES) for named in args.scenario]
        if given.given:  # one matrix has both
            turns += [(named, given) for named in args.scenario]
        for named, prices in turns:
            name = prices.scenario(read_scenario(named)).name
            print(f"\n| {name} | reward | points | 95 % | p |\n|---|---|---|---|---|", flush=True)
            training = TrainArgs(frames=args.train_frames, validation_frames=1500, blind_s=BLIND_S)
            found[name] = run(
                named, training, args.seeds, args.frames, args.out,
                lambda line: print(line, flush=True), args.variants, prices,
            )  # fmt: skip
        if args.matrix:
            title = args.matrix.name.removesuffix(MATRIX)
            write_json(args.matrix, matrix_of(title, found, len(args.seeds)))
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f"interrupted: the same command goes on from {args.out}\n")


if __name__ == "__main__":
    main()
