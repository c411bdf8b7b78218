"""docs/reference/formats.md: every file that coinfer reads or writes, field by field."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from coinfer.documentation.formats.entry import Format
from coinfer.documentation.formats.inputs import of_models, of_people, of_traces
from coinfer.documentation.formats.outputs import of_policies, of_runs
from coinfer.documentation.markdown import code, page, table
from coinfer.documentation.structures import nested, section

INTRODUCTION = """\
Files that coinfer writes are written whole or not at all. A file with an unknown key, or of
a `format_version` that is not read, is refused by one line that names file, field, found and
expected. Nothing is unpickled: arrays lie in npz without objects, weights in safetensors.
[Configuration](configuration.md) has `device.toml` and `edge.toml`, [Traces](traces.md) every
format of traces, [Studies and sweeps](studies.md) examples of those two files."""


def formats() -> tuple[Format, ...]:
    """Every format, in the order of the page."""
    return (*of_people(), *of_models(), *of_policies(), *of_runs(), *of_traces())


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
