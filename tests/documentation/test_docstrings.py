"""Docstrings that teach: a public function of four or more parameters names each of them.

Held where shapes and units matter. A method of an interface is described there once: who
implements it says ``See `Owner.method`.``
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    "controller/physics", "controller/planners", "controller/sensing", "controller/policies",
    "envs", "traces", "models", "experiments",
)  # fmt: skip
MANY = 4


def public_functions(
    body: list[ast.stmt], owner: str = ""
) -> Iterator[tuple[str, ast.FunctionDef]]:
    """(name, function) of public functions and of methods of public classes."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield f"{owner}{node.name}", node


def parameters(function: ast.FunctionDef) -> list[str]:
    """Names of what a function takes, but for the object that it is called on."""
    args = function.args
    names = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


@cache
def described() -> dict[str, list[str]]:
    """Parameters of methods, by `Owner.method`, whose docstrings name them all."""
    return {
        name: parameters(function)
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for name, function in public_functions(ast.parse(path.read_text()).body)
        if "." in name and not unnamed(function)
    }


def unnamed_anywhere(function: ast.FunctionDef) -> list[str]:
    """`unnamed`, unless the docstring refers to an interface that names the same parameters."""
    found = unnamed(function)
    for other in re.findall(r"See `(\w+\.\w+)`", ast.get_docstring(function) or ""):
        if described().get(other) == parameters(function):
            return []
    return found


def unnamed(function: ast.FunctionDef) -> list[str]:
    """Parameters, of a function with many, that are named neither in backticks nor under Args."""
    names = parameters(function)
    said = ast.get_docstring(function) or ""
    if len(names) < MANY:
        return []
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", said))))
    named |= set(re.findall(r"^ +(\w+): ", said, re.MULTILINE)) if "Args:\n" in said else set()
    return [name for name in names if name not in named]


@pytest.mark.parametrize("room", ROOMS)
def test_each_of_many_parameters_is_named(room):
    paths = sorted((ROOT / room).rglob("*.py"))
    assert paths
    found = {
        f"{path.relative_to(ROOT)}: {name}": unnamed_anywhere(function)
        for path in paths
        for name, function in public_functions(ast.parse(path.read_text()).body)
    }
    assert {where: names for where, names in found.items() if names} == {}


def test_who_implements_an_interface_may_refer_to_it():
    def of(signature: str, said: str) -> list[str]:
        (node,) = ast.parse(f'def run({signature}):\n    """{said}"""\n').body
        assert isinstance(node, ast.FunctionDef)
        return unnamed_anywhere(node)

    same = "self, branch, start, stop, x"
    assert of(same, "Zeros. See `Executor.run`.") == []
    assert of(same, "Zeros. See `Nobody.run`.") == ["branch", "start", "stop", "x"]
    assert of(same + ", more", "See `Executor.run`.") == ["branch", "start", "stop", "x", "more"]


def test_what_is_not_named_is_found():
    def of(docstring: str, parameters: str = "self, one, two, *, three, four_s=0.0") -> list[str]:
        (node,) = ast.parse(f'def f({parameters}):\n    """{docstring}"""\n').body
        assert isinstance(node, ast.FunctionDef)
        return unnamed(node)

    assert of("Nothing.") == ["one", "two", "three", "four_s"]
    assert of("Of `one` and `two[k]`: `three` = `2 * four_s`.") == []
    assert of("What one, two, `three` and `four` are.") == ["one", "two", "four_s"]
    assert of("All.\n\n    Args:\n        one: first.\n        two: second.\n") == [
        "three",
        "four_s",
    ]
    assert of("Nothing.", "one, two, three") == []
    tree = ast.parse(
        "class _A:\n    def f(self): ...\nclass B:\n    def _g(self): ...\n    def h(self): ..."
    )
    assert [name for name, _ in public_functions(tree.body)] == ["B.h"]
