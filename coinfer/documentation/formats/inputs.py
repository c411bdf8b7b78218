"""Files that are given to coinfer: what people write, models, and what is known of links."""

from __future__ import annotations

from coinfer.documentation.formats.entry import Format

OUTCOME_ARRAYS = (
    ("format_version", "whole number", "2; 1 is read as well."),
    ("model_digest", "text", "Of the network whose answers these are."),
    ("dataset", "text", "Whose samples they are."),
    ("exits", "int16 (V)", "Exit of every row, counted from 0."),
    ("codecs", "text (V)", "Codec of every row."),
    ("cuts", "int16 (V)", "Layers before the cut at which the codec was applied."),
    ("samples", "whole number", "S, the number of samples."),
    (
        "right",
        "uint8 (V, S/8)",
        "Whether each answer is right, eight a byte. Where quality lies between 0 and 1, "
        "`quality` float16 (V, S) stands in its place.",
    ),
    ("sure", "uint8 (V, S)", "How sure the answer is, x 255; of a class its greatest probability."),
    ("chosen", "uint8 or uint16 (V, S)", "Optional: the class that was answered."),
    ("wire_exits", "int16 (W)", "Optional: exit of each row of `wire_bytes`."),
    ("wire_codecs", "text (W)", "Its codec."),
    ("wire_cuts", "int16 (W)", "Its cut."),
    ("wire_bytes", "float64 (W)", "Mean bytes of a codec whose size depends on what it carries."),
    ("logits", "float16 (E, S, C)", "Optional: what every exit gave, without any codec."),
    ("labels", "uint8 or uint16 (S)", "Optional: the right class."),
)
SIZE_ARRAYS = (
    ("format_version", "whole number", "1"),
    ("model_digest", "text", "Of the network whose tensors these are."),
    ("exits", "int16 (K)", "Exit of every key, counted from 0."),
    ("codecs", "text (K)", "Its codec."),
    ("cuts", "int16 (K)", "Layers before its cut."),
    ("row", "int32 (K)", "Which row of `sizes` it has; keys share rows."),
    ("sizes", "uint32 (R, S)", "Bytes of each sample."),
)


def of_people() -> tuple[Format, ...]:
    """What people write: scenarios, studies, sweeps."""
    from controller.scenarios.format1 import ScenarioFormat1
    from controller.scenarios.sections import Scenario
    from experiments.studies.study import Study
    from experiments.sweeps.definition import SweepFile

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
    )


def of_models() -> tuple[Format, ...]:
    """What a network is, costs and answers."""
    from coinfer.cli.learning.begun import Begun
    from models.facts.cards import Card
    from models.facts.packaged import Source
    from models.facts.profiles import Profile
    from models.graphs.quantisation import Activations

    return (
        Format(
            "Card of a model (`card.json`)",
            "Written by `coinfer train-model` and `coinfer profile --model`. Beside it lie "
            "`weights.safetensors` (`LAYER.weight`, `LAYER.bias`, float32) and, where ranges were "
            "calibrated, `calibration.safetensors`. A large matrix may be stored as int8, beside "
            "`NAME.scale` (float32, one value a row or a column): their product is the weight, and "
            "the digest is of that.",
            Card,
        ),
        Format(
            "Source of a model's weights (`source.json`)",
            "Of a shipped network whose weights stay in the package that published them. "
            "`heads.safetensors` beside it has the other parameters; `coinfer weights` puts both "
            "together.",
            Source,
        ),
        Format(
            "Profile (`.json`)", "Written by `coinfer profile`, `init` and `machines`.", Profile
        ),
        Format(
            "Outcomes (`outcomes.npz`)",
            "Written by `coinfer train-model` and `coinfer profile --model`. V rows, S samples, "
            "E exits, C classes. float32 and uint8 are the same answer at every cut and stand at "
            "cut 0. `held_back.npz` is the same of held-back pictures.",
            arrays=OUTCOME_ARRAYS,
        ),
        Format(
            "Sizes (`sizes.npz`)",
            "Beside the outcomes: the same S samples, by K exits, codecs and cuts whose bytes "
            "depend on the sample. Written with them, or by "
            "`python -m models.networks.sizes MODEL`.",
            arrays=SIZE_ARRAYS,
        ),
        Format("Activations (`activations.json`)", "Beside a card, for int8.", Activations),
        Format("Beginning (`init.json`)", "Kept by `coinfer init`, which goes on from it.", Begun),
    )


def of_traces() -> tuple[Format, ...]:
    """What is known of links."""
    from traces.generator import FamilyFit
    from traces.library import Split
    from traces.states import StateFile
    from traces.subsecond import SubsecondFit

    return (
        Format("Split of a family (`splits/*.json`)", "Shipped with the traces.", Split),
        Format("Fit of the generator", "Written by `coinfer traces fit`.", FamilyFit),
        Format("Fit of variation", "Written by `coinfer traces fit-subsecond`.", SubsecondFit),
        Format("Bandwidth states", "Read by `coinfer map`.", StateFile),
    )
