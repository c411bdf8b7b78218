"""docs/reference/formats.md: every file that coinfer reads or writes, field by field."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from coinfer.documentation.markdown import code, page, table
from coinfer.documentation.structures import nested, section

INTRODUCTION = """\
Files that coinfer writes are written whole or not at all. A file with an unknown key, or of
another `format_version`, is refused by one line that names file, field, found and expected.
Nothing is unpickled: arrays lie in npz without objects, weights in safetensors.
[Configuration](configuration.md) has `device.toml` and `edge.toml`, [Traces](traces.md) every
format of traces, [Studies and sweeps](studies.md) examples of those two files."""


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file: its structure, or the rows (array, type and shape, meaning) of an npz."""

    title: str
    what: str
    kind: type[msgspec.Struct] | None = None
    arrays: tuple[tuple[str, str, str], ...] = ()
    read: bool = False
    """People write it: defaults are shown."""


OUTCOME_ARRAYS = (
    ("format_version", "whole number", "1"),
    ("model_digest", "text", "Of the network whose answers these are."),
    ("dataset", "text", "Whose samples they are."),
    ("exits", "int16 (V)", "Exit of every row, counted from 0."),
    ("codecs", "text (V)", "Codec of every row."),
    ("cuts", "int16 (V)", "Layers before the cut at which the codec was applied."),
    ("samples", "whole number", "S, the number of samples."),
    ("right", "uint8 (V, S/8)", "Whether each sample was answered right, eight a byte."),
    ("sure", "uint8 (V, S)", "The answer's greatest probability x 255."),
    ("chosen", "uint8 or uint16 (V, S)", "Optional: the class that was answered."),
    ("wire_exits", "int16 (W)", "Optional: exit of each row of `wire_bytes`."),
    ("wire_codecs", "text (W)", "Its codec."),
    ("wire_cuts", "int16 (W)", "Its cut."),
    ("wire_bytes", "float64 (W)", "Mean bytes of a codec whose size depends on what it carries."),
    ("logits", "float16 (E, S, C)", "Optional: what every exit gave, without any codec."),
    ("labels", "uint8 or uint16 (S)", "Optional: the right class."),
)
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
        "float16 (P, Q, X, Y, L, plans)",
        "What each plan is worth there over the best, by planning.",
    ),
)


def formats() -> tuple[Format, ...]:
    """Every format, in the order of the page."""
    from controller.daemon.main import LifetimeCounts
    from controller.planners.configuration_map import ConfigurationMap
    from controller.policies.generalist import GeneralistCard
    from controller.policies.network import PolicyCard
    from controller.registry.tuned import Tuned
    from controller.scenarios.format1 import ScenarioFormat1
    from controller.scenarios.sections import Scenario
    from experiments.replay.device_run import RunRecord
    from experiments.studies.results import Evaluation, Matrix, StudyRecord
    from experiments.studies.study import Study
    from experiments.sweeps.definition import SweepFile
    from models.facts.cards import Card
    from models.facts.profiles import Profile
    from models.graphs.quantisation import Activations
    from traces.generator import FamilyFit
    from traces.library import Split
    from traces.states import StateFile
    from traces.subsecond import SubsecondFit

    return (
        Format(
            "Scenario (`.toml`)", "Read by every command with `--scenario`.", Scenario, read=True
        ),
        Format(
            "Scenario of format 1 (`.toml`)",
            "The same for a device and an edge: shorter, and read as well.",
            ScenarioFormat1,
            read=True,
        ),
        Format("Study (`.toml`)", "Read by `coinfer evaluate`.", Study, read=True),
        Format("Sweep (`.toml`)", "Read by `coinfer sweep`.", SweepFile, read=True),
        Format(
            "Card of a model (`card.json`)",
            "Written by `coinfer train-model` and `coinfer profile --model`. Beside it lie "
            "`weights.safetensors` (`LAYER.weight`, `LAYER.bias`, float32) and, where ranges were "
            "calibrated, `calibration.safetensors`.",
            Card,
        ),
        Format("Profile (`.json`)", "Written by `coinfer profile`.", Profile),
        Format(
            "Outcomes (`outcomes.npz`)",
            "Written by `coinfer train-model` and `coinfer profile --model`. V rows, S samples, "
            "E exits, C classes. float32 and uint8 are the same answer at every cut and stand at "
            "cut 0. `held_back.npz` is the same of held-back pictures.",
            arrays=OUTCOME_ARRAYS,
        ),
        Format("Activations (`activations.json`)", "Beside a card, for int8.", Activations),
        Format("Policy (`policy.json`)", "Written by `coinfer train` and `adapt`.", PolicyCard),
        Format(
            "Policy's arrays (`policy.npz`)",
            "C numbers of context, D of a plan's description, H hidden units, L levels, K lags.",
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
        Format("Record of a run (`--records`)", "Written by `coinfer device`.", RunRecord),
        Format("Evaluation (`NAME.evaluation.json`)", "Written by `coinfer evaluate`.", Evaluation),
        Format("Matrix (`NAME.matrix.json`)", "Written by `coinfer evaluate`.", Matrix),
        Format("Study's record (`study.json`)", "Written by `coinfer evaluate`.", StudyRecord),
        Format("State of a daemon (`state`)", "Written by `coinfer device`.", LifetimeCounts),
        Format("Split of a family (`splits/*.json`)", "Shipped with the traces.", Split),
        Format("Fit of the generator", "Written by `coinfer traces fit`.", FamilyFit),
        Format("Fit of variation", "Written by `coinfer traces fit-subsecond`.", SubsecondFit),
        Format("Bandwidth states", "Read by `coinfer map`.", StateFile),
    )


def formats_page() -> str:
    """The page."""
    shown: list[type[msgspec.Struct]] = []
    parts: list[str] = []
    for one in formats():
        parts += _parts(one, shown)
    return page("File formats", INTRODUCTION, *parts)


def _parts(one: Format, shown: list[type[msgspec.Struct]]) -> Iterable[str]:
    if one.kind is None:
        rows = ((code(name), kind, what) for name, kind, what in one.arrays)
        yield f"## {one.title}\n\n{one.what}"
        yield table(("array", "type", "meaning"), rows)
        return
    yield section(one.kind, one.title, 2, defaults=one.read)
    yield one.what
    for kind in nested(one.kind):
        if kind not in shown:  # what two files share is explained with the first
            shown.append(kind)
            yield section(kind, kind.__name__, 3, defaults=one.read)


def documented() -> list[type[Any]]:
    """Every structure on the page."""
    found: list[type[Any]] = []
    for one in formats():
        if one.kind is not None:
            found += [kind for kind in (one.kind, *nested(one.kind)) if kind not in found]
    return found
