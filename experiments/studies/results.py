"""The files an evaluation leaves behind, typed: what `coinfer report` reads and others may write.

`NAME.evaluation.json` (`Evaluation`), `NAME.matrix.json` (`Matrix`) and `study.json`
(`StudyRecord`: what was meant to be there). Rewards are per frame; a difference of 0.01 is one
point (of an answer in a frame stream).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from artefacts import ArtefactError, read_json

FORMAT_VERSION = 1
EVALUATION_VERSION = 2
READ_VERSIONS = (1, EVALUATION_VERSION)
"""Of evaluations: format 1 has right or wrong in the place of drawn frames' quality."""
EVALUATION, MATRIX, STUDY = ".evaluation.json", ".matrix.json", "study.json"
Interval = tuple[float, float]
QUANTILES = 101
"""Of latencies: levels 0, 0.01, ... 1."""


class PolicyFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One seed of the learned policy: where it lay, what it is, what its card tells of training."""

    folder: str
    """Where it lay."""
    digest: str
    """Of its weights."""
    seed: int | None = None
    """Of its training."""
    trained_on: str = ""
    """Source of its traces."""
    frames_seen: int | None = None
    """Of experience."""


class Against(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Difference to another controller, seeds averaged within traces, paired over traces."""

    over: str
    """The other controller."""
    mean: float
    """Mean difference."""
    interval95: Interval
    """Bootstrap over traces."""
    p_value: float
    """Of the two-sided sign-flip test over traces."""
    exact: bool
    """Whether every sign was tried."""
    traces: int
    """How many."""
    worst: float
    """The least difference of a trace."""
    worst_trace: str
    """That trace."""
    sign_flip95: Interval | None = None
    """What the sign-flip test does not refuse."""
    leave_one_out: Interval | None = None
    """Range of the mean with any one trace left out."""
    p_adjusted: float | None = None
    """p for all rows of the table (Westfall and Young)."""


class ControllerResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One controller, means over its seeds of figures pooled over all frames.

    `seeds`: runs of every trace (trained policies x evaluation seeds).
    `trace_reward`: mean over traces, each equally, of the seeds' mean (what differences are made
    of); `per_trace` its parts, `per_seed` the same of every seed alone.
    """

    deployable: bool
    """Whether it knows only what a device knows."""
    seeds: int
    """Runs of every trace."""
    goodput_accuracy: float
    """Mean quality over all frames, 0 of one without an answer in time."""
    late_share: float
    """Frames without an answer in time."""
    mean_latency_s: float
    """Of answers in time."""
    p95_latency_s: float
    """Of answers in time."""
    bytes_per_frame: float
    """Sent."""
    device_compute_s_per_frame: float
    """Of the device's processor."""
    reward: float
    """Mean a frame."""
    share_of_bound: float
    """Of the clairvoyant bound."""
    interval95: Interval
    """Of that share, bootstrap over traces."""
    trace_reward: float
    """Mean over traces, each equally."""
    per_trace: dict[str, float]
    """Reward of each trace."""
    per_trace_goodput: dict[str, float]
    """Goodput accuracy of each trace."""
    per_seed: tuple[float, ...]
    """`trace_reward` of every seed alone."""
    latency_quantiles_s: tuple[float, ...]
    """At levels 0, 0.01, ... 1."""
    plans: dict[str, float]
    """Share of the frames of each plan."""
    energy_j_per_frame: float | None = None
    """Of the device, beyond idling."""
    throughput_fps: float | None = None
    """Of a closed loop."""
    against_best: Against | None = None
    """None of the best baseline itself."""


class ModeClaim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Learned over the best baseline on one mode's test files; nothing is claimed of one file."""

    files: int
    """Test files of the mode."""
    against: Against | None = None
    """Null of a single file."""


class Headline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The learned policy over the deployable baseline that is best on these very traces.

    The rival is chosen in hindsight, in its own favour. `gap_closed`: (learned - best baseline) /
    (clairvoyant bound - best baseline); None in the closed loop, whose starts and bound depend on
    the controller. Its interval is None where a resample leaves no gap. `per_seed`: the reward's
    mean difference of every trained policy alone.
    """

    best_baseline: str
    """Its name."""
    reward: Against
    """Difference of rewards."""
    goodput: Against
    """Difference of goodput accuracies."""
    per_seed: tuple[float, ...]
    """Mean difference of every trained policy alone."""
    modes: dict[str, ModeClaim]
    """By mode of transport."""
    seeds_and_traces95: Interval | None = None
    """Interval of the reward's difference with trainings drawn too; None of a single one."""
    gap_closed: float | None = None
    """(learned - best baseline) / (bound - best baseline)."""
    gap_closed95: Interval | None = None
    """Its interval."""
    over_planning: Against | None = None
    """The reward over its own planning alone: what PPO added. None where that was not run."""
    over_device_only: Against | None = None
    """Goodput accuracy over the device alone."""


class SeriesOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One controller's frames in the drawn part: when, which plan (index into `plans`), whether.

    A frame that nothing answered has no latency.
    """

    at_s: tuple[float, ...]
    """When frames came."""
    plan: tuple[int, ...]
    """Index into `plans`."""
    plans: tuple[str, ...]
    """Those that were chosen."""
    latency_s: tuple[float | None, ...]
    """Null where nothing answered."""
    in_time: tuple[bool, ...]
    """Whether the answer was."""
    quality: tuple[float, ...]
    """Of the answer, 0 to 1: of a class right or wrong. 0 where none was in time."""


class Series(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of one trace, its true rate (from `rate_at_s[k]` on), and what controllers did."""

    trace: str
    """Its name."""
    start_s: float
    """Where the part begins."""
    seconds: float
    """How long it is."""
    rate_at_s: tuple[float, ...]
    """When a rate begins."""
    rate_bps: tuple[float, ...]
    """The true rate from then on."""
    controllers: dict[str, SeriesOf]
    """What each did."""


class DeadlinePoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One controller at one deadline: mean goodput accuracy over traces, and its interval."""

    deadline_s: float
    """The deadline."""
    controller: str
    """Its name."""
    goodput_accuracy: float
    """Mean over traces."""
    interval95: Interval
    """Bootstrap over traces."""


class MapFigure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration map: for every bandwidth state (by mean) the best expected reward of every
    exit and partition (`rows`), `values` [row][state], and the row that is chosen.
    """

    source: str
    """Where the states are from."""
    bandwidths_bps: tuple[float, ...]
    """Mean of every state."""
    rows: tuple[str, ...]
    """Exits and partitions."""
    values: tuple[tuple[float, ...], ...]
    """Best expected reward, a row of states."""
    chosen: tuple[int, ...]
    """Row that the map takes in every state."""


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`NAME.evaluation.json`."""

    format_version: int
    name: str
    """Of the evaluation."""
    scenario: str
    """Its name."""
    scenario_digest: str
    """Of its file."""
    model_digest: str
    """Of the network's weights."""
    description: str
    """The scenario's."""
    closed_loop: bool
    """Whether the next inference starts when the last ends."""
    priced: bool
    """Whether device seconds or bytes cost something."""
    deadline_s: float
    """Of a frame."""
    traces: tuple[str, ...]
    """Names of the test traces."""
    modes: tuple[str | None, ...]
    """Mode of transport of each."""
    traces_digest: str
    """Of all of them."""
    source: str
    """What the traces are."""
    own_traces: bool
    """The scenario's own test split."""
    generated: bool
    """Whether they are generated stand-ins."""
    scale: float
    """Factor on their rates."""
    training_source: str
    """What the baselines learnt from."""
    training_generated: bool
    """Whether that was generated."""
    seen_in_training: tuple[str, ...]
    """Test traces that are among the scenario's own training or validation traces."""
    cross_validated: bool
    """Every trace judged by policies and baselines made without it."""
    seeds: tuple[int, ...]
    """Of the evaluation."""
    frames: int | None
    """At most, a trace; None: all."""
    policies: tuple[PolicyFacts, ...]
    """The learned policies, one a seed."""
    bound: float
    """Clairvoyant, per frame; in the closed loop at the first controller's own starts."""
    bound_per_trace: dict[str, float]
    """Of every trace."""
    controllers: dict[str, ControllerResult]
    """Figures by controller."""
    versions: dict[str, str]
    """Of what computed them."""
    headline: Headline | None = None
    """Learned over the best baseline."""
    series: Series | None = None
    """What is drawn over time."""
    deadlines: tuple[DeadlinePoint, ...] = ()
    """Accuracy against deadline."""
    deadline_frames: int | None = None
    """At most so many frames a trace there."""
    map: MapFigure | None = None
    """The configuration map, drawn."""


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cell of a matrix: mean and 95 % interval over `traces` test files, `seeds` averaged."""

    mean: float
    """The figure."""
    interval95: Interval | None = None
    """Of it."""
    traces: int | None = None
    """Test files."""
    seeds: int | None = None
    """Averaged."""
    generated: bool = False
    """Whether traces were."""
    p_value: float | None = None
    """Of a difference."""
    note: str = ""
    """For people."""


class Matrix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`NAME.matrix.json`: rows x columns of figures, `cells[row][column]`; null: not evaluated.

    `figure` says what the numbers are ("share_of_bound", "reward", ... or words of one's own);
    `row_title` and `column_title` what rows and columns stand for.
    """

    format_version: int
    name: str
    """Of the matrix."""
    figure: str
    """What the numbers are."""
    row_title: str
    """What rows stand for."""
    column_title: str
    """What columns stand for."""
    rows: tuple[str, ...]
    """Titles."""
    columns: tuple[str, ...]
    """Titles."""
    cells: tuple[tuple[Cell | None, ...], ...]
    """[row][column]; null: not evaluated."""


class StudyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`study.json`: the command that was given, and what it was meant to leave."""

    format_version: int
    title: str
    """Of the report."""
    command: str
    """That made the folder."""
    evaluations: tuple[str, ...]
    """Names that belong here."""
    matrices: tuple[str, ...]
    """Names that belong here."""


def read_evaluation(path: Path) -> Evaluation:
    """Read one, refusing figures that do not belong together."""
    found = read_json(path, Evaluation, version=READ_VERSIONS, older=_with_quality)
    for name, figures in found.controllers.items():
        field = f"controllers.{name}"
        if set(figures.per_trace) != set(found.traces):
            raise ArtefactError(
                path, field=f"{field}.per_trace", found=f"{len(figures.per_trace)} traces",
                expected=f"the {len(found.traces)} that were evaluated",
            )  # fmt: skip
        if len(figures.latency_quantiles_s) not in (0, QUANTILES):
            raise ArtefactError(
                path, field=f"{field}.latency_quantiles_s",
                found=f"{len(figures.latency_quantiles_s)} levels", expected=f"{QUANTILES} or none",
            )  # fmt: skip
    if found.headline is not None and found.headline.best_baseline not in found.controllers:
        raise ArtefactError(
            path, field="headline.best_baseline", found=f"'{found.headline.best_baseline}'",
            expected=f"one of {', '.join(found.controllers)}",
        )  # fmt: skip
    return found


def _with_quality(plain: dict[str, Any]) -> dict[str, Any]:
    """An evaluation of format 1, or a damaged one as it is, with the names of today's."""
    series = plain.get("series")
    drawn = series.get("controllers") if isinstance(series, dict) else None
    if plain.get("format_version") != 1 or not isinstance(drawn, dict):
        return plain
    for own in drawn.values():
        if isinstance(own, dict) and isinstance(own.get("correct"), list):
            own["quality"] = [float(right is True) for right in own.pop("correct")]
    return plain


def read_matrix(path: Path) -> Matrix:
    """Read one, refusing cells that are not rows x columns."""
    found = read_json(path, Matrix, version=FORMAT_VERSION)
    shape = [len(row) for row in found.cells]
    if shape != [len(found.columns)] * len(found.rows) or not shape:
        raise ArtefactError(
            path, field="cells", found=f"rows of {shape} cells",
            expected=f"{len(found.rows)} rows of {len(found.columns)}",
        )  # fmt: skip
    return found
