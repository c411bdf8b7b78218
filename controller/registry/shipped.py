"""Every controller that comes with coinfer, a line each. A new one is its file and a line here.

Tables and plots show them in this order.
"""

from __future__ import annotations

from controller.registry.entry import ControllerEntry, Need

HERE = "controller.registry.factories:"
POLICY: frozenset[Need] = frozenset({"policy"})
TRAINING: frozenset[Need] = frozenset({"training"})
FUTURE: frozenset[Need] = frozenset({"future"})

SHIPPED = (
    ControllerEntry(
        "device-only", HERE + "device_only", "The device's best plan, for ever.", "#7f7f7f",
        any_deadline=True,
    ),
    ControllerEntry("edge-only", HERE + "edge_only", "Everything on the edge.", "#8c564b"),
    ControllerEntry(
        "best-single", "experiments.evaluation.hindsight:best_single_controller",
        "The one plan that is best on the very traces it is judged on.", "#bcbd22", FUTURE,
        drawn=False, knows_prices=True,
    ),
    ControllerEntry(
        "fixed", HERE + "fixed", "The one plan that was best on the training traces.", "#9467bd",
        TRAINING, knows_prices=True,
    ),
    ControllerEntry(
        "fixed-hedged", HERE + "fixed_hedged", "The same among the plans that hedge.", "#c5b0d5",
        TRAINING, HERE + "check_hedges", knows_prices=True,
    ),
    ControllerEntry(
        "algorithm1", HERE + "algorithm1",
        "Edgent's Algorithm 1, decided once from one charged transfer.", "#ff7f0e",
    ),
    ControllerEntry(
        "algorithm1-online", HERE + "algorithm1_online",
        "Algorithm 1 at every frame, on the bandwidth measured last.", "#ffbb78",
    ),
    ControllerEntry(
        "map", HERE + "configuration_map",
        "Edgent's configuration map with change-point detection (Algorithms 2 and 3).", "#17becf",
        TRAINING,
    ),
    ControllerEntry(
        "rate-rule", HERE + "rate_rule",
        "The best plan at a share of the rate measured last; the share is tuned.", "#98df8a",
        TRAINING, knows_prices=True,
    ),
    ControllerEntry(
        "robust", HERE + "robust",
        "The plan of greatest expected reward under a belief about the bandwidth.", "#2ca02c",
        TRAINING, knows_prices=True,
    ),
    ControllerEntry(
        "bandit", HERE + "bandit", "A linear UCB bandit, without a model of link or device.",
        "#e377c2", knows_prices=True,
    ),
    ControllerEntry(
        "planning", HERE + "planning",
        "The learned policy's own planning, without what training has added.", "#aa3377", POLICY,
        on_demand=True, drawn=False, knows_prices=True,
    ),
    ControllerEntry(
        "learned", HERE + "learned", "The scenario's learned policy.", "#d62728", POLICY,
        knows_prices=True,
    ),
    ControllerEntry(
        "generalist", HERE + "generalist",
        "The learned policy for scenarios that have none of their own; seconds to plan.",
        "#ff9896", POLICY, on_demand=True, knows_prices=True,
    ),
    ControllerEntry(
        "oracle", "experiments.evaluation.hindsight:oracle",
        "Knows the trace and no sample: the best plan at each start.", "#1f77b4", FUTURE,
        knows_prices=True,
    ),
    ControllerEntry(
        "optimum", "experiments.evaluation.hindsight:optimum",
        "The clairvoyant optimum over the stream's queue; minutes a log.", "#000000", FUTURE,
        "experiments.evaluation.optimum_queue:check_coupled", on_demand=True, knows_prices=True,
    ),
)  # fmt: skip
