"""Files that coinfer makes: policies and what they rest on, runs and evaluations."""

from __future__ import annotations

from coinfer.documentation.formats.entry import Format

POLICY_ARRAYS = (
    ("weights_context", "float32 (C, H)", "Of the scorer: what is seen, to H hidden units."),
    ("weights_context_bias", "float32 (H)", "Its bias."),
    ("weights_described", "float32 (D, H)", "A plan's description to the hidden units."),
    ("weights_middle", "float32 (H, H)", "The second layer."),
    ("weights_middle_bias", "float32 (H)", "Its bias."),
    ("weights_out", "float32 (H)", "To the score."),
    ("weights_sharpness", "float32 (1)", "Factor of planning's own advantage in the score."),
    ("belief_edges_bps", "float64 (L - 1)", "Between one bandwidth level and the next."),
    ("belief_rates_bps", "float64 (L)", "The rate that stands for a level."),
    ("belief_lags_s", "float64 (K)", "For which kernels were counted."),
    ("belief_kernels", "float32 (K, L, L)", "Chance of each level, so long after each other one."),
    ("lowest", "float32 (C)", "The least of everything seen in training."),
    ("highest", "float32 (C)", "The greatest. Beyond either the robust planner decides."),
    ("advantages_device_second", "float64 (P)", "Grid of prices of a device second."),
    ("advantages_megabyte", "float64 (Q)", "Grid of prices of a megabyte."),
    ("advantages_device_s", "float64 (X)", "Grid of the device's backlog."),
    ("advantages_uplink_s", "float64 (Y)", "Grid of the uplink's backlog."),
    (
        "advantages_table",
        "float16 (P, Q, X, Y, F, L, plans)",
        "What each plan is worth there over the best, by planning. F is 2 where it differs by "
        "whether the fallback of the frame before is due, else 1 or left out.",
    ),
)


def of_policies() -> tuple[Format, ...]:
    """What decides, and what that rests on."""
    from controller.planners.configuration_map import ConfigurationMap
    from controller.policies.generalist import GeneralistCard
    from controller.policies.network import PolicyCard
    from controller.registry.tuned import Tuned

    return (
        Format("Policy (`policy.json`)", "Written by `coinfer train` and `adapt`.", PolicyCard),
        Format(
            "Policy's arrays (`policy.npz`)",
            "C numbers of context, D of a plan's description, H hidden units, L levels, K lags. "
            "A policy of a plain network (format version 5, by `coinfer.export_policy`) has "
            "`layer_K_matrix` (inputs, outputs) and `layer_K_bias` (outputs) for its layers K from "
            "0, float32, in the place of `weights_*`.",
            arrays=POLICY_ARRAYS,
        ),
        Format(
            "Generalist (`generalist.json`)",
            "Written by `coinfer train-generalist`. `generalist.npz` holds the arrays of a policy "
            "without `advantages_*`.",
            GeneralistCard,
        ),
        Format("Configuration map (`map.json`)", "Written by `coinfer map`.", ConfigurationMap),
        Format("Tuned values (`tuned-KEY.json`)", "Written by `coinfer tune`.", Tuned),
    )


def of_runs() -> tuple[Format, ...]:
    """What runs and evaluations leave."""
    from controller.daemon.lifetime import LifetimeCounts
    from controller.daemon.records.entries import KeptFrame, KeptMeasurement, RecordsHeader
    from experiments.replay.device_run import RunRecord
    from experiments.studies.results import Evaluation, Matrix, StudyRecord

    return (
        Format("Record of a run (`--records`)", "Written by `coinfer device`.", RunRecord),
        Format("Evaluation (`NAME.evaluation.json`)", "Written by `coinfer evaluate`.", Evaluation),
        Format("Matrix (`NAME.matrix.json`)", "Written by `coinfer evaluate`.", Matrix),
        Format("Study's record (`study.json`)", "Written by `coinfer evaluate`.", StudyRecord),
        Format("State of a daemon (`state`)", "Written by `coinfer device`.", LifetimeCounts),
        Format(
            "Kept records (`records-TIME-STREAM-NUMBER.jsonl`)",
            "Written by `coinfer device` where `[records]` names a folder, read by "
            "`coinfer train --from`. One JSON object a line: a header, then frames and "
            "measurements as they came. What has its default is left out. A segment that is being "
            "written ends in `.part`.",
            RecordsHeader,
            read=True,
        ),
        Format("A frame in kept records", "A line.", KeptFrame, read=True),
        Format("A measurement in kept records", "A line.", KeptMeasurement, read=True),
    )
