"""The rule of docstrings: which parameters of a function its docstring leaves unnamed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

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
