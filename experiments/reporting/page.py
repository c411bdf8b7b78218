"""The page: one HTML file that needs nothing beside it, no network and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from experiments.reporting import plots, tables
from experiments.reporting.drawing import inline_svg
from experiments.studies.results import Evaluation, Matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;margin:1rem 0}
th,td{border:1px solid #ccc;padding:.25rem .5rem;text-align:right}
th:first-child,td:first-child{text-align:left}
tr.learned td{font-weight:bold}
.scroll{overflow-x:auto}
.warning{background:#b00020;color:#fff;padding:.75rem 1rem;font-weight:bold}
.missing{background:#fff3cd;border:1px solid #e0c060;padding:.5rem 1rem}
code{word-break:break-all}
figure{margin:1.5rem 0}
figcaption{font-size:.9rem;color:#444}
svg{max-width:100%;height:auto}
svg *{stroke-linejoin:round;stroke-linecap:butt}
""".strip()


def page(
    title: str,
    command: str,
    evaluations: Sequence[Evaluation],
    matrices: Sequence[Matrix],
    missing: Sequence[str],
    versions: Mapping[str, str],
    date: str = "",
) -> str:
    """The whole page.

    `title` heads it, `command` is what was run. A section for each of `evaluations` and `matrices`;
    `missing` names parts that are not there, `versions` are of packages by name, `date` is shown
    where it is given.
    """
    parts = [f"<h1>{escape(title)}</h1>"]
    parts += [_warning(line) for found in evaluations for line in _warnings(found)]
    parts.append(_section("command", "Command", _command(command, date)))
    parts.append(_section("missing", "Missing", _missing(missing)))
    parts.append(_section("reading", "How to read it", f"<p>{escape(tables.EXPLAINED)}</p>"))
    parts += [_evaluation(found) for found in evaluations]
    parts.append(_section("matrices", "Matrices", "".join(_matrix(m) for m in matrices) or _none()))
    parts.append(_section("provenance", "Provenance", _provenance(evaluations, versions)))
    return document(title, "\n".join(parts))


def document(title: str, body: str) -> str:
    """A whole HTML file around `body`, which is HTML; it needs nothing beside it."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n{body}\n"
        "</body>\n</html>\n"
    )


def _warnings(found: Evaluation) -> list[str]:
    return [line for line in (tables.generated_line(found), tables.seen_line(found)) if line]


def _warning(line: str) -> str:
    return f'<p class="warning" role="alert">{escape(line)}</p>'


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{body}\n</section>'


def _command(command: str, date: str) -> str:
    lines = "".join(f"<p><code>{escape(line)}</code></p>" for line in command.splitlines())
    return lines + (f"<p>{escape(date)}</p>" if date else "")


def _missing(missing: Sequence[str]) -> str:
    if not missing:
        return "<p>Nothing: every part has its results.</p>"
    items = "".join(f"<li>{escape(line)}</li>" for line in missing)
    return f'<ul class="missing">{items}</ul>'


def _none() -> str:
    return '<p class="missing">Missing: no results.</p>'


def _evaluation(found: Evaluation) -> str:
    claims = "".join(f"<li>{escape(line)}</li>" for line in tables.headline_lines(found))
    about = (
        f"<p>{escape(found.description)}. Scenario {escape(found.scenario)}, "
        f"{tables.files(len(found.traces))}: {escape(found.source)}; rates x {found.scale:g}; "
        f"{tables.bound_text(found)}.</p>"
    )
    parts = [about, table(*tables.controller_rows(found)), f"<ul>{claims}</ul>"]
    parts.append("<h3>By mode of transport</h3>")
    columns, rows = tables.mode_rows(found)
    parts.append(table(columns, rows) if rows else _none())
    parts += _plots(found)
    return _section(f"evaluation-{found.name}", found.name, "\n".join(parts))


def _plots(found: Evaluation) -> list[str]:
    series, here = found.series, found.map
    drawn = (
        (
            "Time series of one trace",
            "series",
            "The true rate, the plan of every frame and what came of it (first seed)",
            plots.series_figure(series, found.deadline_s) if series else None,
        ),
        (
            "Distribution of latency",
            "latency",
            "Share of all frames answered by then; late ones never are",
            plots.latency_figure(found),
        ),
        (
            "Distribution of differences over test files",
            "differences",
            "Share of test files by difference to the best baseline",
            plots.differences_figure(found) if found.headline else None,
        ),
        (
            "Accuracy against deadline",
            "deadlines",
            f"Mean over test files, at most {found.deadline_frames} frames of each; bars: 95 % "
            "intervals over files; the learned policy at its own deadline only",
            plots.deadline_figure(found) if found.deadlines else None,
        ),
        (
            "Configuration map",
            "map",
            "Expected reward of every exit and partition in every bandwidth state"
            + (f" ({here.source})" if here else ""),
            plots.map_plot(here) if here else None,
        ),
        (
            "Accuracy against energy and bytes",
            "front",
            "Goodput accuracy against device energy and bytes; grey: front of the deployable",
            None if found.closed_loop else plots.front_figure([found]),
        ),
    )
    return [_plot(found.name, *parts) for parts in drawn]


def _plot(
    name: str, title: str, kind: str, caption: str, figure: Figure | None
) -> str:  # fmt: skip
    head = f"<h3>{escape(title)}</h3>"
    if figure is None:
        return head + _none()
    # ids must differ between the page's plots, and a name may hold what an id may not
    unique = "".join(c if c.isalnum() else "-" for c in name) + f"-{kind}"
    return (
        f'{head}<figure id="plot-{unique}">{inline_svg(figure, unique, caption)}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _matrix(found: Matrix) -> str:
    head = f"<h3>{escape(found.name)} ({escape(found.figure)})</h3>"
    return f'<div id="matrix-{escape(found.name)}">{head}{table(*tables.matrix_rows(found))}</div>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in HTML; everything is escaped, the learned policy's row is marked."""
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in columns)
    lines = []
    for row in rows:
        marked = ' class="learned"' if row[0].split(" ")[0] == "learned" else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        lines.append(f"<tr{marked}>{cells}</tr>")
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>'
        "</table></div>"
    )


def _provenance(evaluations: Sequence[Evaluation], versions: Mapping[str, str]) -> str:
    rows = [
        [
            found.name, found.scenario, found.scenario_digest, found.model_digest,
            f"{found.source} ({'GENERATED' if found.generated else 'recorded'}), x {found.scale:g}",
            found.traces_digest,
            f"{found.training_source} ({'GENERATED' if found.training_generated else 'recorded'})",
            ", ".join(str(s) for s in found.seeds),
            "all" if found.frames is None else f"{found.frames} at most",
            str(len(found.traces)) + (", each left out once" if found.cross_validated else ""),
        ]
        for found in evaluations
    ]  # fmt: skip
    columns = ["evaluation", "scenario", "scenario digest", "model digest", "test traces",
               "traces digest", "training traces", "evaluation seeds", "frames a trace",
               "test files"]  # fmt: skip
    policies = [
        [found.name, own.folder, own.digest, _or(own.seed), _or(own.frames_seen), own.trained_on]
        for found in evaluations
        for own in found.policies
    ]
    used = {(key, value) for found in evaluations for key, value in found.versions.items()}
    used |= {(f"report: {key}", value) for key, value in versions.items()}
    files = [
        [found.name, trace, mode or "unknown"]
        for found in evaluations
        for trace, mode in zip(found.traces, found.modes, strict=True)
    ]
    return "\n".join(
        (
            table(columns, rows),
            "<h3>Policies</h3>",
            table(["evaluation", "folder", "digest", "training seed", "frames seen",
                    "trained on (its card)"], policies),
            "<h3>Test files</h3>",
            table(["evaluation", "test file", "mode"], files),
            "<h3>Versions</h3>",
            table(["what", "version"], [list(pair) for pair in sorted(used)]),
        )
    )  # fmt: skip


def _or(value: int | None) -> str:
    return "unknown" if value is None else str(value)
