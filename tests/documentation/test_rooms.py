"""The arrows of docs/architecture: who imports whom, read from the sources; and no circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "artefacts": set[str](),
    "traces": {"artefacts"},
    "models": {"artefacts"},
    "controller": {"artefacts", "traces", "models"},
    "envs": {"artefacts", "traces", "models", "controller"},
    "experiments": {"artefacts", "traces", "models", "controller", "envs"},
    "coinfer": {"artefacts", "traces", "models", "controller", "envs", "experiments"},
}

ORDER = {
    "models": ("codecs", "facts", "data", "graphs", "executors", "capture", "networks"),
    "controller": (
        "plans", "interface", "health", "wire", "sensing", "physics", "scenarios", "link", "edge",
        "planners", "policies", "registry", "admission", "device", "daemon",
    ),
    "experiments": (
        "arguments", "aliases", "evaluation", "learning", "studies", "sweeps", "replay",
        "reporting", "analyses", "benches", "robustness", "demo",
    ),
    "coinfer": ("rooms", "gym", "cli", "documentation", "__main__"),
}  # fmt: skip
"""Inside these rooms a part imports only parts that stand before it (docs/architecture)."""


def _sources() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found: dict[str, Path] = {}
    for room in MAY_IMPORT:
        for path in (ROOT / room).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = _sources()


def _imported(node: ast.AST, *, inside: bool) -> Iterator[str]:
    """What is imported below a node, but not for types alone; `inside`: in functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _imported(other, inside=inside)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield whole if whole in SOURCES else child.module
        elif inside or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imported(child, inside=inside)


def _imports(module: str, *, inside: bool) -> set[str]:
    tree = ast.parse(SOURCES[module].read_text())
    return {name for name in _imported(tree, inside=inside) if name.split(".")[0] in MAY_IMPORT}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_those_below_it(room: str) -> None:
    wrong = [
        f"{module} imports {name}"
        for module in sorted(SOURCES)
        if module.split(".")[0] == room
        for name in sorted(_imports(module, inside=True))
        if name.split(".")[0] not in MAY_IMPORT[room] | {room}
    ]
    assert wrong == []


def _in_circles(graph: dict[str, set[str]]) -> list[str]:
    """The nodes of circles, and those on a way from one circle to another."""
    left = dict(graph)
    while ends := [m for m, needs in left.items() if not needs & set(left)]:
        for module in ends:
            del left[module]
    # what is left imports only what is left: the modules of circles, and those above them
    while tops := [m for m in left if not any(m in needs for needs in left.values())]:
        for module in tops:
            del left[module]
    return sorted(left)


def _part(module: str) -> str:
    """The sub-room (or loose module) of a room that a module is in; '' is the room itself."""
    return ".".join(module.split(".")[1:2])


def _parts_imported(room: str) -> dict[str, set[str]]:
    """What each part of a room imports of the others, in functions too."""
    found: dict[str, set[str]] = {}
    for module in SOURCES:
        if module.split(".")[0] == room and (part := _part(module)):
            names = {_part(n) for n in _imports(module, inside=True) if n.split(".")[0] == room}
            found.setdefault(part, set()).update(names - {part, ""})
    return found


def test_no_module_imports_itself_by_others() -> None:
    graph = {module: _imports(module, inside=False) & set(SOURCES) for module in SOURCES}
    assert _in_circles(graph) == [], "these modules import one another in a circle"


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_part_of_a_room_imports_itself_by_others(room: str) -> None:
    assert _in_circles(_parts_imported(room)) == [], "these parts import one another in a circle"


@pytest.mark.parametrize("room", ORDER)
def test_a_part_imports_only_those_before_it(room: str) -> None:
    order, imported = ORDER[room], _parts_imported(room)
    assert sorted(order) == sorted(imported), "the order names each part once"
    wrong = [
        f"{room}.{part} imports {room}.{name}"
        for part, names in sorted(imported.items())
        for name in sorted(names)
        if order.index(name) >= order.index(part)
    ]
    assert wrong == []


def test_circles_are_found() -> None:
    assert _in_circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert _in_circles({"top": {"a"}, "a": {"b"}, "b": {"a", "end"}, "end": set()}) == ["a", "b"]
