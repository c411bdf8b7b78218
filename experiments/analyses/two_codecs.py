"""How good an answer is behind two codecs: what is composed of records, against what is run.

    python -m experiments.analyses.two_codecs --scenario lte-mobilenet

A plan over two nodes has a codec at either cut. Outcomes record one codec at a time, and
`controller.physics.accuracy` composes the two: what one spoils is spoilt. Here pairs of codecs and
cuts, drawn by a seed, are run whole on pictures that the network was judged on, and held against
what is composed of the records of the same pictures. Prints a table, or JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from artefacts import CoinferError, UsageError
from artefacts.arrays import Bools, Float32s
from controller.physics.accuracy import plan_quality
from controller.plans import Hop, Plan
from controller.scenarios import Setting, load_setting, read_scenario
from experiments.arguments import LineParser, count, count_or_none
from experiments.replay.pictures import picture_order, run_pictures
from models.codecs import codec_named
from models.executors import Executor, make_executor
from models.facts.judges import judge_of

SAMPLES, PAIRS = 200, 24


class PairRow(msgspec.Struct, frozen=True):
    """One exit behind two codecs: shares of the samples that are right."""

    plan: str
    whole: float
    """Without codecs."""
    first: float
    """Behind the first codec alone."""
    second: float
    """Behind the second alone."""
    composed: float
    """What is composed of these."""
    measured: float
    """What both together give."""
    agreeing: float
    """Samples of which what is composed and what was run are the same."""


class PairFigures(msgspec.Struct, frozen=True):
    """All pairs, and how far what is composed is from what is run."""

    scenario: str
    samples: int
    mean_error: float
    """Composed less measured, over pairs."""
    mean_absolute_error: float
    greatest_error: float
    least_of_both: float
    """The mean absolute error of another rule: the worse of the two alone."""
    rows: tuple[PairRow, ...]


def drawn_plans(setting: Setting, count: int, rng: np.random.Generator) -> list[Plan]:
    """So many plans of two hops of a setting, each with two codecs that change what crosses."""
    spec = setting.spec
    lossy = [c for c in map(codec_named, setting.scenario.plans.codecs) if not c.exact]
    inside = [c for c in lossy if not c.raw and c.carries == "tensor"]
    # a codec that packs another's values changes nothing more
    inside = [c for c in inside if c.answers_as == c.name]
    if not inside:
        raise UsageError(
            f"scenario '{setting.scenario.name}', plans.codecs: found none that changes a tensor "
            "inside the network, expected one or more"
        )
    found: dict[Plan, None] = {}
    for _ in range(100 * count):
        if len(found) == count:
            break
        exit_ = int(rng.integers(len(spec.branches)))
        length = len(spec.branches[exit_])
        if length < 3:
            continue
        first = lossy[int(rng.integers(len(lossy)))]
        start = 0 if first.raw else int(rng.integers(1, length - 1))
        if not first.raw and first not in inside:
            continue
        stop = int(rng.integers(start + 1, length))
        second = inside[int(rng.integers(len(inside)))]
        hops = (Hop("edge", start, stop, first.name), Hop("cloud", stop, length, second.name))
        found[Plan(exit_, hops)] = None
    return list(found)


def run_plan(executor: Executor, setting: Setting, plan: Plan, x: Any) -> Float32s:
    """Rows (N, V) of the exit of `plan` for raw samples `x` (N, ...), by all that crosses there.

    `executor` computes the network of a `setting`.
    """
    rows = []
    for sample in x:
        at, tensor = 0, setting.model.normalise(sample[None])
        for hop in plan.hops:
            if hop.start > at:
                tensor = executor.run(plan.exit, at, hop.start, tensor)
            raw = codec_named(hop.codec).raw
            crossed = executor.encode(hop.codec, plan.exit, hop.start, sample if raw else tensor)
            tensor = executor.decode(hop.codec, plan.exit, hop.start, crossed.meta, crossed.data)
            tensor, at = executor.run(plan.exit, hop.start, hop.stop, tensor), hop.stop
        rows.append(tensor[0])
    return np.stack(rows)


def measure(setting: Setting, executor: Executor, samples: int, pairs: int, seed: int) -> Any:
    """`PairFigures` of a `setting` whose network `executor` runs.

    The first `samples` of the half that is reported on, in an order drawn by `seed`, and as many
    `pairs` drawn by it. Refused where the pictures that the network was judged on are not here.
    """
    pictures = run_pictures(setting, executor, seed, None)
    if not pictures.judged:
        raise UsageError(
            f"scenario '{setting.scenario.name}': found none of the samples that its network was "
            "judged on, expected them in the folder that COINFER_DATA names"
        )
    index = picture_order(setting, seed)[:samples]
    x, labels = pictures.x[:samples], pictures.labels[:samples]
    judge_by = judge_of(setting.model.card.judge, setting.model.answers)
    rows = []
    plans = drawn_plans(setting, pairs, np.random.default_rng(seed))
    for number, plan in enumerate(plans):
        one, two = (Plan(plan.exit, (hop,)) for hop in plan.hops)
        quality = np.asarray(judge_by(run_plan(executor, setting, plan, x), labels))
        composed = plan_quality(setting.outcomes, plan)[index]
        same: Bools = np.abs(composed - quality) < 0.5
        alone = [plan_quality(setting.outcomes, p)[index].mean() for p in (one, two)]
        whole = setting.outcomes.quality_of(plan.exit)[index].mean()
        rows.append(
            PairRow(
                str(plan), float(whole), float(alone[0]), float(alone[1]), float(composed.mean()),
                float(quality.mean()), float(same.mean()),
            )
        )  # fmt: skip
        print(f"\r{number + 1} of {len(plans)} pairs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return figures_of(setting.scenario.name, len(x), rows)


def figures_of(scenario: str, samples: int, rows: Sequence[PairRow]) -> PairFigures:
    """`rows` of a `scenario`, each of so many `samples`, and how far they are off."""
    off = np.array([row.composed - row.measured for row in rows])
    least = np.array([min(row.first, row.second) - row.measured for row in rows])
    return PairFigures(
        scenario, samples, float(off.mean()), float(np.abs(off).mean()), float(np.abs(off).max()),
        float(np.abs(least).mean()), tuple(rows),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = LineParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", default="lte-mobilenet", help="a shipped name or a file")
    parser.add_argument("--samples", type=count, default=SAMPLES, help=f"to run ({SAMPLES})")
    parser.add_argument("--pairs", type=count, default=PAIRS, help=f"to draw ({PAIRS})")
    parser.add_argument("--seed", type=count_or_none, default=0, help="of both (0)")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    args = parser.parse_args(argv)
    try:
        setting = load_setting(read_scenario(args.scenario))
        executor = make_executor("onnx", setting.model, 1)
        found = measure(setting, executor, args.samples, args.pairs, args.seed)
    except CoinferError as error:
        parser.error(str(error))
    if args.json:
        print(json.dumps(msgspec.to_builtins(found), indent=1))
        return
    for row in found.rows:
        shares = (row.whole, row.first, row.second, row.composed, row.measured, row.agreeing)
        print(f"| {row.plan} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")
    print(
        f"composed less measured over {len(found.rows)} pairs, {found.samples} samples each: mean "
        f"{100 * found.mean_error:+.2f} points, absolute {100 * found.mean_absolute_error:.2f}, at "
        f"most {100 * found.greatest_error:.2f}; the worse of the two alone instead: "
        f"{100 * found.least_of_both:.2f}"
    )


if __name__ == "__main__":
    main()
