"""Options that several commands share are written once: no help text stands in two places."""

import ast
from collections import defaultdict
from pathlib import Path

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


def test_a_text_that_is_repeated_is_found():
    source = (
        'One = Annotated[int, typer.Option(help="The " "same.")]\n'
        'def command(two: Annotated[str, typer.Argument(help="The same.")]): ...\n'
    )
    assert help_texts(source) == [("The same.", 1), ("The same.", 2)]
