"""The limits on size: lines of a file and of a function, and how many of our modules one imports.

They hold for what is shipped and shown (the rooms, examples, deploy), without exception. Files of
tests have the same limit of lines.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[2]
ROOMS = ("artefacts", "traces", "models", "controller", "envs", "experiments", "coinfer")
MOST_LINES, MOST_FUNCTION_LINES, MOST_IMPORTS = 400, 60, 15

SOURCES = sorted(
    path for room in (*ROOMS, "examples", "deploy") for path in (ROOT / room).rglob("*.py")
)


def function_lines(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function, nested ones too; decorators are not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def modules_imported(tree: ast.AST) -> set[str]:
    """Our modules that are imported anywhere in a file, for types alone as well."""
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = ROOT.joinpath(*node.module.split("."), alias.name)
                is_module = inside.is_dir() or inside.with_suffix(".py").is_file()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
    return {name for name in found if name.split(".")[0] in ROOMS}


def over_the_limits(source: str) -> list[str]:
    """What is too long in a file, or imports too much."""
    tree = ast.parse(source)
    lines = len(source.splitlines())
    found = [f"{lines} lines, at most {MOST_LINES}"] if lines > MOST_LINES else []
    found += [
        f"{name}: {count} lines, at most {MOST_FUNCTION_LINES}"
        for name, count in function_lines(tree)
        if count > MOST_FUNCTION_LINES
    ]
    imported = modules_imported(tree)
    if len(imported) > MOST_IMPORTS:
        found.append(f"imports {len(imported)} of our modules, at most {MOST_IMPORTS}")
    return found


@pytest.mark.parametrize("room", [*ROOMS, "examples", "deploy"])
def test_files_functions_and_imports_are_within_the_limits(room):
    inside = [path for path in SOURCES if path.relative_to(ROOT).parts[0] == room]
    assert inside
    found = {str(path.relative_to(ROOT)): over_the_limits(path.read_text()) for path in inside}
    assert {name: said for name, said in found.items() if said} == {}


def test_files_of_tests_have_the_same_limit_of_lines():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / "tests").rglob("*.py")
    }
    assert len(lengths) > 100
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_what_is_over_a_limit_is_found():
    assert over_the_limits("x = 1\n" * 400) == []
    assert over_the_limits("x = 1\n" * 401) == ["401 lines, at most 400"]
    inner = "def f():\n" + "    x = 1\n" * 59
    assert over_the_limits(inner) == []
    nested = "class C:\n    async def f(self):\n" + "        x = 1\n" * 60
    assert over_the_limits(nested) == ["f: 61 lines, at most 60"]
    modules = [f"traces.one_{k}" for k in range(16)]
    imports = [f"import {name}\n" for name in modules[:15]]
    assert over_the_limits("".join(imports) + "import numpy\n") == []
    more = f"def f():\n    from {modules[15]} import one, other\n"
    assert over_the_limits("".join(imports) + more) == ["imports 16 of our modules, at most 15"]
    assert modules_imported(ast.parse("from controller import physics, plans\nimport msgspec")) == {
        "controller.physics", "controller.plans",
    }  # fmt: skip
