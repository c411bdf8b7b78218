"""What baselines rest on: `python -m experiments.analyses.baseline_constants --scenario NAME`.

Mean rewards on the training logs (policy half of the outcomes, accuracies in the place of single
answers) of the rate rule by how many transfers it averages, how long it waits before it asks and
its margin, and of the bandit by how fast it forgets and how wide it looks; on the validation logs
of the robust planner, by how finely its belief is counted on the training logs and whether the
rate that it goes by is the payload's or, with headers, the link's. A line of JSON each, as it is
found; the best are what the controllers take where nothing else is said.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np

from artefacts import CoinferError
from controller.interface import Controller, Measurement
from controller.physics import TraceBank
from controller.planners.bandit import BanditController
from controller.planners.rate_rule import MARGINS, RateRule
from controller.planners.robust import RobustPlanner
from controller.scenarios import Setting, load_priced
from controller.sensing.belief import BandwidthBelief, Counting
from controller.sensing.estimators import HarmonicMean
from experiments.arguments import LineParser, add_price_options, count, prices_given
from experiments.evaluation.evaluator import mean_rewards

TRANSFERS = (1, 2, 3, 5)
PATIENCES_S = (0.25, 0.5, 1.0, 2.0)
DISCOUNTS = (0.99, 0.999, 0.9997)
WIDTHS = (0.1, 0.3, 1.0)


COUNTINGS = (Counting(), Counting(24, (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0), 0.5))


class RobustWithHeaders(RobustPlanner):
    """The robust planner, given the link's own rate."""

    def __init__(self, setting: Setting, belief: BandwidthBelief) -> None:
        super().__init__(setting, belief)
        self._model = setting.link_model

    def observe(self, measurement: Measurement) -> None:
        """What crossed the link counts, not what was of use."""
        payload = np.array(float(measurement.payload_bytes))
        crossed = round(float(self._model.on_wire(payload)))
        super().observe(replace(measurement, payload_bytes=crossed))


class Row(msgspec.Struct, frozen=True):
    """A controller with these constants, and its mean reward, logs counted equally."""

    controller: str
    constants: dict[str, float]
    reward: float


def rows(setting: Setting, frames: int) -> Iterator[Row]:
    """Every combination, run over the first frames of every log."""
    traces = setting.traces("train").traces
    training, validation = TraceBank(traces), TraceBank(setting.traces("validation").traces)

    def row(
        name: str, constants: dict[str, float], make: Callable[[], Controller],
        bank: TraceBank = training,
    ) -> Row:  # fmt: skip
        controllers = [make() for _ in bank.names]
        return Row(name, constants, float(
            mean_rewards(setting, bank, controllers, "policy", frames).mean()
        ))  # fmt: skip

    for transfers, patience_s, margin in itertools.product(TRANSFERS, PATIENCES_S, MARGINS):

        def rule(n: int = transfers, p: float = patience_s, m: float = margin) -> RateRule:
            return RateRule(setting, m, estimator=HarmonicMean(n), patience_s=p)

        constants = {"transfers": transfers, "patience_s": patience_s, "margin": margin}
        yield row("rate-rule", constants, rule)
    for discount, width in itertools.product(DISCOUNTS, WIDTHS):

        def bandit(d: float = discount, w: float = width) -> BanditController:
            return BanditController(setting, discount=d, width=w)

        yield row("bandit", {"discount": discount, "width": width}, bandit)
    for how, planner in itertools.product(COUNTINGS, (RobustPlanner, RobustWithHeaders)):
        belief = BandwidthBelief.from_traces(traces, how)

        def robust(b: BandwidthBelief = belief, of: type[RobustPlanner] = planner) -> RobustPlanner:
            return of(setting, b)

        headers = float(planner is RobustWithHeaders)
        constants = {"levels": how.levels, "grid_s": how.grid_s, "headers": headers}
        yield row("robust", constants, robust, validation)


def main() -> None:
    """A line of JSON a combination, then the best of each controller."""
    parser = LineParser(description=__doc__)
    parser.add_argument("--scenario", required=True)
    add_price_options(parser)
    parser.add_argument("--frames", type=count, default=1500)
    args = parser.parse_args()
    try:
        best: dict[str, Row] = {}
        for found in rows(load_priced(args.scenario, prices_given(args)), args.frames):
            print(msgspec.json.encode(found).decode(), flush=True)
            if found.controller not in best or found.reward > best[found.controller].reward:
                best[found.controller] = found
    except CoinferError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    for found in best.values():
        print(f"best {found.controller}: {found.constants}, {found.reward:.4f}")


if __name__ == "__main__":
    main()
