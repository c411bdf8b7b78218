"""Options that several commands share are written once: no help text stands in two places."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from controller.daemon.configuration.settings import DEFAULT_CONTROLLER
from controller.registry import SHIPPED

pytestmark = pytest.mark.quick
COMMANDS = Path(__file__).parents[2] / "coinfer/cli"


def help_texts(source: str) -> list[tuple[str, int]]:
    """(help, line) of every option and argument that a module declares."""
    return [
        (keyword.value.value, node.lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("typer.Option", "typer.Argument")
        for keyword in node.keywords
        if keyword.arg == "help" and isinstance(keyword.value, ast.Constant)
    ]


def test_no_help_text_stands_in_two_places():
    places = defaultdict(list)
    for path in sorted(COMMANDS.rglob("*.py")):
        for text, line in help_texts(path.read_text()):
            places[text].append(f"{path.relative_to(COMMANDS)}:{line}")
    assert len(places) > 100
    assert {text: where for text, where in places.items() if len(where) > 1} == {}


def test_no_help_text_names_what_the_registry_knows():
    """Which controllers run only where they are named stands in the registry alone."""
    named = {e.name for e in SHIPPED if e.on_demand}
    assert named
    for path in sorted(COMMANDS.rglob("*.py")):
        for text, line in help_texts(path.read_text()):
            assert not named & set(re.findall(r"'([a-z0-9-]+)'", text)), f"{path.name}:{line}"


def test_the_help_names_the_daemon_s_own_default():
    (text,) = [
        text
        for text, _ in help_texts((COMMANDS / "options.py").read_text())
        if "daemon's default" in text
    ]
    assert f"'{DEFAULT_CONTROLLER}'" in text


def test_a_text_that_is_repeated_is_found():
    source = (
        'One = Annotated[int, typer.Option(help="The " "same.")]\n'
        'def command(two: Annotated[str, typer.Argument(help="The same.")]): ...\n'
    )
    assert help_texts(source) == [("The same.", 1), ("The same.", 2)]
