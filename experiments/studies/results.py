"""The files an evaluation leaves behind, typed: what `coinfer report` reads and others may write.

`NAME.evaluation.json` (`Evaluation`), `NAME.matrix.json` (`Matrix`) and `study.json`
(`StudyRecord`: what was meant to be there). Rewards are per frame; a difference of 0.01 is one
point (of an answer in a frame stream).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from artefacts import ArtefactError, read_json

FORMAT_VERSION = 1
EVALUATION, MATRIX, STUDY = ".evaluation.json", ".matrix.json", "study.json"
Interval = tuple[float, float]
QUANTILES = 101
"""Of latencies: levels 0, 0.01, ... 1."""


class PolicyFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One seed of the learned policy: where it lay, what it is, what its card tells of training."""

    folder: str
    digest: str
    seed: int | None = None
    trained_on: str = ""
    frames_seen: int | None = None


class Against(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Difference to another controller, seeds averaged within traces, paired over traces.

    `interval95` bootstrap, `p_value` sign-flip, `p_adjusted` the same adjusted for all controllers
    of the table, `sign_flip95` what that test does not refuse, `leave_one_out` the mean's range
    when any one file is left out, `worst` the least difference of a trace.
    """

    over: str
    mean: float
    interval95: Interval
    p_value: float
    exact: bool
    traces: int
    worst: float
    worst_trace: str
    sign_flip95: Interval | None = None
    leave_one_out: Interval | None = None
    p_adjusted: float | None = None


class ControllerResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One controller, means over its seeds of figures pooled over all frames.

    `seeds`: runs of every trace (trained policies x evaluation seeds).
    `trace_reward`: mean over traces, each equally, of the seeds' mean (what differences are made
    of); `per_trace` its parts, `per_seed` the same of every seed alone.
    """

    deployable: bool
    seeds: int
    goodput_accuracy: float
    late_share: float
    mean_latency_s: float
    p95_latency_s: float
    bytes_per_frame: float
    device_compute_s_per_frame: float
    reward: float
    share_of_bound: float
    interval95: Interval
    trace_reward: float
    per_trace: dict[str, float]
    per_trace_goodput: dict[str, float]
    per_seed: tuple[float, ...]
    latency_quantiles_s: tuple[float, ...]
    plans: dict[str, float]
    energy_j_per_frame: float | None = None
    throughput_fps: float | None = None
    against_best: Against | None = None
    """None of the best baseline itself."""


class ModeClaim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Learned over the best baseline on one mode's test files; nothing is claimed of one file."""

    files: int
    against: Against | None = None


class Headline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The learned policy over the deployable baseline that is best on these very traces.

    The rival is chosen in hindsight, in its own favour. `gap_closed`: (learned - best baseline) /
    (clairvoyant bound - best baseline); None in the closed loop, whose starts and bound depend on
    the controller. Its interval is None where a resample leaves no gap. `per_seed`: the reward's
    mean difference of every trained policy alone.
    """

    best_baseline: str
    reward: Against
    goodput: Against
    per_seed: tuple[float, ...]
    modes: dict[str, ModeClaim]
    seeds_and_traces95: Interval | None = None
    """Interval of the reward's difference with trainings drawn too; None of a single one."""
    gap_closed: float | None = None
    gap_closed95: Interval | None = None
    over_planning: Against | None = None
    """The reward over its own planning alone: what PPO added. None where that was not run."""
    over_device_only: Against | None = None
    """Goodput accuracy over the device alone."""


class SeriesOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One controller's frames in the drawn part: when, which plan (index into `plans`), whether.

    A frame that nothing answered has no latency.
    """

    at_s: tuple[float, ...]
    plan: tuple[int, ...]
    plans: tuple[str, ...]
    latency_s: tuple[float | None, ...]
    in_time: tuple[bool, ...]
    correct: tuple[bool, ...]


class Series(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of one trace, its true rate (from `rate_at_s[k]` on), and what controllers did."""

    trace: str
    start_s: float
    seconds: float
    rate_at_s: tuple[float, ...]
    rate_bps: tuple[float, ...]
    controllers: dict[str, SeriesOf]


class DeadlinePoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One controller at one deadline: mean goodput accuracy over traces, and its interval."""

    deadline_s: float
    controller: str
    goodput_accuracy: float
    interval95: Interval


class MapFigure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration map: for every bandwidth state (by mean) the best expected reward of every
    exit and partition (`rows`), `values` [row][state], and the row that is chosen.
    """

    source: str
    bandwidths_bps: tuple[float, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    chosen: tuple[int, ...]


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`NAME.evaluation.json`."""

    format_version: int
    name: str
    scenario: str
    scenario_digest: str
    model_digest: str
    description: str
    closed_loop: bool
    priced: bool
    deadline_s: float
    traces: tuple[str, ...]
    modes: tuple[str | None, ...]
    traces_digest: str
    source: str
    own_traces: bool
    """The scenario's own test split."""
    generated: bool
    scale: float
    training_source: str
    training_generated: bool
    seen_in_training: tuple[str, ...]
    """Test traces that are among the scenario's own training or validation traces."""
    cross_validated: bool
    """Every trace judged by policies and baselines made without it."""
    seeds: tuple[int, ...]
    frames: int | None
    """At most, a trace; None: all."""
    policies: tuple[PolicyFacts, ...]
    bound: float
    """Clairvoyant, per frame; in the closed loop at the first controller's own starts."""
    bound_per_trace: dict[str, float]
    controllers: dict[str, ControllerResult]
    versions: dict[str, str]
    headline: Headline | None = None
    series: Series | None = None
    deadlines: tuple[DeadlinePoint, ...] = ()
    deadline_frames: int | None = None
    map: MapFigure | None = None


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cell of a matrix: mean and 95 % interval over `traces` test files, `seeds` averaged."""

    mean: float
    interval95: Interval | None = None
    traces: int | None = None
    seeds: int | None = None
    generated: bool = False
    p_value: float | None = None
    note: str = ""


class Matrix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`NAME.matrix.json`: rows x columns of figures, `cells[row][column]`; null: not evaluated.

    `figure` says what the numbers are ("share_of_bound", "reward", ... or words of one's own);
    `row_title` and `column_title` what rows and columns stand for.
    """

    format_version: int
    name: str
    figure: str
    row_title: str
    column_title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]


class StudyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`study.json`: the command that was given, and what it was meant to leave."""

    format_version: int
    title: str
    command: str
    evaluations: tuple[str, ...]
    matrices: tuple[str, ...]


def read_evaluation(path: Path) -> Evaluation:
    """Read one, refusing figures that do not belong together."""
    found = read_json(path, Evaluation, version=FORMAT_VERSION)
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
