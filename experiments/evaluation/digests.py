"""What a figure depends on, as digests: traces, a scenario with what it names, policies, sources.

A result that was kept is read again only where all of them are what they were. Of sources that is
what they do: comments, docstrings, layout and the place of a file change nothing.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from artefacts import digest_bytes, digest_file

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("artefacts", "traces", "models", "controller", "envs", "experiments", "coinfer")
DECIDING = (
    "controller",
    "envs",
    "models",
    "traces",
    "experiments/evaluation/closed_gap.py",
    "experiments/evaluation/comparison.py",
    "experiments/evaluation/controllers.py",
    "experiments/evaluation/evaluator.py",
    "experiments/evaluation/hindsight.py",
    "experiments/evaluation/known_world.py",
    "experiments/evaluation/learned_lanes.py",
    "experiments/evaluation/learned_policies.py",
    "experiments/evaluation/maps.py",
    "experiments/evaluation/met_world.py",
    "experiments/evaluation/optimum_grid.py",
    "experiments/evaluation/optimum_play.py",
    "experiments/evaluation/optimum_queue.py",
    "experiments/evaluation/optimum_spread.py",
    "experiments/evaluation/single_plans.py",
    "experiments/evaluation/tuning.py",
    "experiments/evaluation/detectors.py",
)
"""Sources that a figure depends on: a result kept from before they changed is no result."""
NOT_DECIDING = (
    "controller/daemon", "controller/device", "controller/edge", "controller/link",
    "controller/wire", "models/capture", "models/networks",
    "models/executors", "envs/episodes.py", "envs/export.py",
    "envs/preparation.py", "envs/registration.py", "envs/rendering.py", "envs/single.py",
    "envs/stable_baselines.py", "envs/vector.py",
)  # fmt: skip


def policy_digest(folder: Path, stem: str = "policy") -> str:
    """SHA-256 of a policy's files (of the generalist's: `stem` 'generalist')."""
    files = sorted(p for p in folder.glob(f"{stem}.*") if p.suffix in (".json", ".npz"))
    return digest_bytes(" ".join(f"{p.name} {digest_file(p)}" for p in files).encode())


def package_digest(factory: str) -> str:
    """SHA-256 of the sources of a user's package, whose `package.module:factory` is a controller's.

    Of a package that cannot be found it is that of the name: importing it will say why.
    """
    top = factory.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None:
        return digest_bytes(top.encode())
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    if not folders and spec.origin is not None:
        files = [Path(spec.origin)]
    return digest_bytes(" ".join(digest_file(file) for file in files).encode())


def _sources(folder: Path) -> Iterator[Path]:
    """Code, and the fits and splits beside it (models, profiles and policies have digests)."""
    for file in folder.rglob("*"):
        data = file.suffix in (".json", ".toml") and file.is_relative_to(ROOT / "traces")
        if file.suffix == ".py" or data:
            yield file


_STATEMENTS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where a node keeps statements: expressions hold none."""
_PLACE = "<place {}>"
"""What stands for the name of one of our modules in the text of a syntax tree."""


def _strip(node: ast.AST, places: list[str]) -> None:
    """Leave a module what it does: no docstrings, and of our modules no names.

    Those are added to `places`, and a mark stands for each.
    """
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        node.body = [line for line in node.body if not _is_text(line)]
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOMS:
        places.append(node.module or "")
        node.module = _PLACE.format(len(places) - 1)
    for field in _STATEMENTS:
        for line in getattr(node, field, ()):
            _strip(line, places)


def _is_text(line: ast.stmt) -> bool:
    """Whether a statement is text alone: a docstring, or a remark on an attribute."""
    value = line.value if isinstance(line, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@cache
def _tree(source: bytes) -> tuple[str, tuple[str, ...]]:
    """The text of a module's stripped syntax tree, and our modules that it imports from."""
    tree, places = ast.parse(source), list[str]()
    _strip(tree, places)
    return ast.dump(tree, annotate_fields=False), tuple(places)


def syntax_digest(source: bytes) -> str:
    """SHA-256 of what a module's source does: its syntax tree without docstrings and places.

    A name that is imported from one of our modules counts with what that module does, wherever it
    lies; so another module's function of the same name is another one.
    """
    return _tree_digest(source, _module_digest)


def _tree_digest(source: bytes, named: Callable[[str], str]) -> str:
    text, places = _tree(source)
    for k, place in enumerate(places):
        text = text.replace(repr(_PLACE.format(k)), repr(named(place)), 1)
    return digest_bytes(text.encode())


def _module_digest(name: str) -> str:
    """What one of our modules does by itself; its name where there is no such module."""
    place = ROOT.joinpath(*name.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return _own_digest(file)
    return name


@cache
def _own_digest(file: Path) -> str:
    # what it imports counts where it lies: modules may import each other
    return _tree_digest(file.read_bytes(), lambda name: "")


@cache
def code_digest(*more: str) -> str:
    """SHA-256 of the sources that figures depend on, and of `more` files and folders."""
    found = []
    for name in (*DECIDING, *more):
        place = ROOT / name
        for file in _sources(place) if place.is_dir() else [place]:
            if not file.relative_to(ROOT).as_posix().startswith(NOT_DECIDING):
                raw = file.read_bytes()
                found.append(syntax_digest(raw) if file.suffix == ".py" else digest_bytes(raw))
    return hashlib.sha256(" ".join(sorted(found)).encode()).hexdigest()
