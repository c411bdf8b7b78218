"""Docstrings that teach: a public function of four or more parameters names each of them.

Held where shapes and units matter. A method of an interface is described there once: who
implements it says ``See `Owner.method`.``
"""

import ast

import pytest
from docstring_rule import ROOMS, ROOT, public_functions, unnamed, unnamed_anywhere

pytestmark = pytest.mark.quick


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
