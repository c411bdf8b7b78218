"""Rows, sentences and Markdown of evaluations: what is printed is made here once, for all forms."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.studies.results import Against, Cell, Evaluation, Interval, Matrix

GENERATED = "GENERATED TRACES, not recorded ones"
EXPLAINED = (
    "Figures pooled over all frames, means over seeds; late is what had no answer by the deadline, "
    "p95 of the answers in time, energy the device's beyond idling; goodput accuracy is of the "
    "pictures that were drawn, rewards and the bound take every answer's accuracy in the place of "
    "single answers. Differences: mean reward per frame (in the frame stream 1 point is 0.01 of a "
    "correct answer), seeds averaged within a test file first, then paired over files, each file "
    "equally; 95 % percentile bootstrap interval over files; p of the two-sided sign-flip test "
    "over files, in brackets adjusted for all rows of the table "
    "(Westfall and Young, step-down max-T). The best baseline is the deployable controller of the "
    "greatest mean on these very files: chosen in hindsight, in its own favour, and kept in every "
    "resample. Nothing is claimed of a mode of transport with a single test file."
)


def controller_rows(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table of controllers, greatest mean reward over traces first."""
    unit = "reward" if found.closed_loop else "points"
    columns = ["controller", "goodput accuracy", "late", "p95 ms", "bytes/frame"]
    columns += ["mean reward", "frames/s"] if found.closed_loop else ["device ms/frame", "mJ/frame"]
    columns += ["share of bound", "95 % interval", f"over {_best(found)}, {unit}", "p (adjusted)"]
    rows = []
    ordered = sorted(found.controllers.items(), key=lambda item: (-item[1].trace_reward, item[0]))
    for name, own in ordered:
        row = [
            _named(name, own.deployable, trainings(found) if name == "learned" else 1),
            f"{100 * own.goodput_accuracy:.2f} %",
            f"{100 * own.late_share:.2f} %",
            f"{1000 * own.p95_latency_s:.1f}",
            f"{own.bytes_per_frame:.0f}",
        ]
        if found.closed_loop:
            row += [f"{own.reward:.2f}", _number(own.throughput_fps, "{:.1f}")]
        else:
            row += [f"{1000 * own.device_compute_s_per_frame:.1f}", energy(own.energy_j_per_frame)]
        interval = own.interval95 if len(found.traces) > 1 else None
        row += [f"{own.share_of_bound:.4f}", span(interval, "{:.4f}")]
        row += _against(own.against_best, found.closed_loop)
        rows.append(row)
    return columns, rows


def trainings(found: Evaluation) -> int:
    """Seeds of training that the learned policy's figures are a mean over."""
    return len(found.headline.per_seed) if found.headline else 0


def _best(found: Evaluation) -> str:
    rivals = [c.against_best.over for c in found.controllers.values() if c.against_best is not None]
    return rivals[0] if rivals else "best baseline"


def _named(name: str, deployable: bool, seeds: int) -> str:
    notes = [] if deployable else ["not deployable"]
    notes += [f"{seeds} seeds"] if seeds > 1 else []
    return f"{name} ({', '.join(notes)})" if notes else name


def _against(found: Against | None, closed: bool) -> list[str]:
    if found is None:
        return ["(this one)", ""]
    adjusted = ""
    if found.p_adjusted is not None and found.traces > 1:
        adjusted = f" ({p_text(found.p_adjusted)})"
    return [difference(found, closed), p_of(found) + adjusted]


def difference(found: Against, closed: bool) -> str:
    """Mean and interval, in points or (closed loop) in the paper's reward; of one file its own."""
    scale = 1.0 if closed else 100.0
    if found.traces < 2:
        return f"{scale * found.mean:+.2f}"
    low, high = found.interval95
    return f"{scale * found.mean:+.2f} ({scale * low:+.2f} to {scale * high:+.2f})"


def p_text(p: float) -> str:
    """A p-value; at four digits, never as 0."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def p_of(found: Against) -> str:
    """The p-value of a difference; of one file there is none."""
    return p_text(found.p_value) if found.traces > 1 else "none (one file)"


def span(found: Interval | None, form: str) -> str:
    """`low to high`, or what stands for no interval."""
    return "none" if found is None else f"{form.format(found[0])} to {form.format(found[1])}"


def energy(joule: float | None) -> str:
    """Millijoules of the device beyond idling; 'unknown' without a power model."""
    return "unknown" if joule is None else f"{1000 * joule:.0f}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def headline_lines(found: Evaluation) -> list[str]:
    """What may be claimed of the learned policy, and on how many test files it rests."""
    lines = [warning for warning in (generated_line(found), seen_line(found)) if warning]
    headline = found.headline
    if headline is None:
        return [*lines, "No learned policy was evaluated: nothing is claimed."]
    own, closed = headline.reward, found.closed_loop
    unit = "of mean reward" if closed else "points"
    scale = 1.0 if closed else 100.0
    lines.append(
        f"Learned over {headline.best_baseline} (best deployable baseline here): "
        f"{difference(own, closed)} {unit}, sign-flip p {p_of(own)}, "
        f"{files(own.traces)}, {len(headline.per_seed)} seed{'s' * (len(headline.per_seed) > 1)}."
    )
    if own.sign_flip95 is not None:
        low, high = own.sign_flip95
        lines.append(
            f"Interval by the sign-flip test: {scale * low:+.2f} to {scale * high:+.2f} {unit}."
        )
    if own.leave_one_out is not None:
        low, high = own.leave_one_out
        lines.append(
            f"Any one file left out, the mean is {scale * low:+.2f} to {scale * high:+.2f} {unit}; "
            f"worst file {own.worst_trace}: {scale * own.worst:+.2f}."
        )
    lines.append(
        f"Goodput accuracy: {difference(headline.goodput, False)} points, sign-flip p "
        f"{p_of(headline.goodput)}; worst file {headline.goodput.worst_trace}: "
        f"{100 * headline.goodput.worst:+.2f}."
    )
    lines.append(_gap_line(found))
    if headline.over_planning is not None:
        lines.append(
            f"Over its planning alone: {difference(headline.over_planning, closed)} {unit}, "
            f"sign-flip p {p_of(headline.over_planning)}."
        )
    if headline.over_device_only is not None:
        alone = headline.over_device_only
        lines.append(
            f"Goodput accuracy over the device alone: {difference(alone, False)} points; worst "
            f"file {alone.worst_trace}: {100 * alone.worst:+.2f}."
        )
    seeds = ", ".join(f"{scale * value:+.2f}" for value in headline.per_seed)
    drawn = headline.seeds_and_traces95
    also = "one seed says nothing of another training"
    if drawn is not None:
        also = f"interval with seeds drawn too: {scale * drawn[0]:+.2f} to {scale * drawn[1]:+.2f}"
    lines.append(f"Each trained policy alone: {seeds} {unit}; {also}.")
    return lines


def _gap_line(found: Evaluation) -> str:
    headline = found.headline
    if headline is None or headline.gap_closed is None:
        why = "the closed loop's bound depends on the controller" if found.closed_loop else "no gap"
        return f"Gap to the clairvoyant bound: not given ({why})."
    interval = "no interval: some draws of files leave no gap"
    if len(found.traces) < 2:
        interval = "one file"
    elif headline.gap_closed95 is not None:
        interval = f"95 % interval {span(headline.gap_closed95, '{:.3f}')}"
    return (
        f"Of the gap between {headline.best_baseline} and the clairvoyant bound "
        f"{headline.gap_closed:.3f} is closed ({interval})."
    )


def mode_rows(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Learned over the best baseline by mode of transport; no claim from a single file."""
    columns = ["mode", "test files", "difference", "p", "worst file"]
    rows = []
    for mode, claim in (found.headline.modes if found.headline else {}).items():
        paired = claim.against
        if paired is None:
            rows.append([mode, str(claim.files), "no claim from one file", "", ""])
            continue
        rows.append(
            [mode, str(claim.files), difference(paired, found.closed_loop), p_text(paired.p_value),
             paired.worst_trace]
        )  # fmt: skip
    return columns, rows


def generated_line(found: Evaluation) -> str:
    """Says loudly that traces were generated; empty where all were recorded."""
    parts = [
        word
        for word, made in (
            ("the test traces", found.generated), ("the training traces", found.training_generated)
        )
        if made
    ]  # fmt: skip
    return f"{GENERATED}: {' and '.join(parts)} of '{found.name}'." if parts else ""


def seen_line(found: Evaluation) -> str:
    """Says that test traces were seen in training; empty where none was."""
    seen = found.seen_in_training
    if not seen:
        return ""
    return (
        f"SEEN IN TRAINING: {len(seen)} of {files(len(found.traces))} ({', '.join(seen)}) are "
        "training or validation traces of the scenario."
    )


def files(count: int) -> str:
    """'1 test file', '8 test files'."""
    return f"{count} test file{'s' * (count != 1)}"


def bound_text(found: Evaluation) -> str:
    """The clairvoyant bound per frame; the closed loop has one for every controller."""
    if found.closed_loop:
        return "share of the clairvoyant bound at a controller's own starts"
    return f"clairvoyant bound {found.bound:.4f} per frame"


def matrix_rows(found: Matrix) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a matrix."""
    columns = [f"{found.row_title} \\ {found.column_title}", *found.columns]
    rows = [
        [name, *(cell_text(cell, found.figure) for cell in row)]
        for name, row in zip(found.rows, found.cells, strict=True)
    ]
    return columns, rows


def cell_text(cell: Cell | None, figure: str) -> str:
    """Mean, interval and what it rests on."""
    if cell is None:
        return "not evaluated"
    scale, form = (100.0, "{:+.2f}") if figure.startswith("against_") else (1.0, "{:.4f}")
    text = form.format(scale * cell.mean)
    if cell.interval95 is not None:
        low, high = (scale * end for end in cell.interval95)
        text += f" ({form.format(low)} to {form.format(high)})"
    rests = [] if cell.traces is None else [files(cell.traces)]
    rests += [f"{cell.seeds} seeds"] if cell.seeds is not None and cell.seeds > 1 else []
    rests += [f"p {p_text(cell.p_value)}"] if cell.p_value is not None else []
    rests += [cell.note] if cell.note else []
    rests += ["GENERATED traces"] if cell.generated else []
    return text + (f", {', '.join(rests)}" if rests else "")


def markdown_of(
    title: str, evaluations: Sequence[Evaluation], matrices: Sequence[Matrix], command: str,
    missing: Sequence[str],
) -> str:  # fmt: skip
    """A page of Markdown: the command, what the columns mean, a section an evaluation.

    `title` heads it, `command` is what was run; `evaluations` and `matrices` are shown, `missing`
    names parts that are not there.
    """
    parts = [f"# {title}", f"`{command}`" if command else "", EXPLAINED]
    for found in evaluations:
        parts.append(
            f"## {found.name}\n{files(len(found.traces))}, {found.source}; {bound_text(found)}; "
            f"scenario {found.scenario_digest[:12]}"
        )
        parts.append(_markdown_table(*controller_rows(found)))
        parts.append("\n".join(f"- {line}" for line in headline_lines(found)))
    for matrix in matrices:
        parts.append(f"## {matrix.name} ({matrix.figure})")
        parts.append(_markdown_table(*matrix_rows(matrix)))
    if missing:
        parts.append("Missing:\n" + "\n".join(f"- {line}" for line in missing))
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(columns), "|" + "---|" * len(columns), *(line(row) for row in rows)])
