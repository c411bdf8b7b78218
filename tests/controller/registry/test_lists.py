"""Only the registry lists controllers: other lists are choices, each with its reason."""

import ast
from pathlib import Path

from controller.registry import SHIPPED, find_controller, is_drawn

ROOT = Path(__file__).parents[3]
ROOMS = ("traces", "models", "controller", "envs", "experiments", "coinfer")
NAMES = {entry.name for entry in SHIPPED}
CHOICES = {
    "experiments/demo.py": "what a newcomer is shown in three minutes",
    "experiments/reporting/demo_page.py": "the three of the demo's sentence",
    "experiments/learning/policy_explanation.py": "what else would have been decided at a moment",
    "experiments/studies/study.py": "who is run at every deadline where a study names nobody",
    "experiments/robustness/chaos/machines.py": "what the devices of a chaos run decide by",
    "experiments/analyses/figures/dynamic.py": "the paper's figure",
    "experiments/replay/audits.py": "who decides while the simulator is held against real runs",
    "experiments/analyses/information_limit.py": "the rules that the gap is counted from",
}
"""A new controller needs no line in any of these."""


def lists_of_controllers(source: str) -> list[list[str]]:
    """Literals of two and more texts all of which are controllers' names (a mapping's keys)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            items = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            items = node.elts
        else:
            continue
        texts = [item.value for item in items if isinstance(item, ast.Constant)]
        if len(texts) == len(items) > 1 and set(texts) <= NAMES:
            found.append(texts)
    return found


def test_controllers_are_listed_by_the_registry_alone():
    found = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if lists_of_controllers(path.read_text())
    }
    assert found == set(CHOICES)


def test_a_list_is_found():
    assert lists_of_controllers('A = ("robust", "learned")') == [["robust", "learned"]]
    assert lists_of_controllers('A = {"robust": 1, "map": 2}\nB = ("robust",)\nC = ("map", 3)') == [
        ["robust", "map"]
    ]


def test_plots_leave_out_what_the_registry_says_and_show_what_nobody_knows():
    assert [name for name in sorted(NAMES) if not is_drawn(name)] == ["best-single", "planning"]
    assert find_controller("planning").drawn is False
    assert is_drawn("a-package-that-is-not-here")
