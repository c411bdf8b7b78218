"""A user's factory that does anything but give a module is one line."""

import pytest

from artefacts import UsageError
from models.networks.brought.factories import load_factory


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys\ndef make():\n    sys.exit(3)\n", r"'make\(\)' failed: SystemExit: 3"),
        ("import sys\nsys.exit('no')\n", "importing 'odd_factory' failed: SystemExit: no"),
        ("def make():\n    raise KeyError('k')\n", r"'make\(\)' failed: KeyError: 'k'"),
        ("def make():\n    return 7\n", r"found a int, expected a torch\.nn\.Module"),
    ],
)
def test_what_a_factory_does_instead_is_reported(tmp_path, monkeypatch, body, said):
    (tmp_path / "odd_factory.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "odd_factory", raising=False)
    with pytest.raises(UsageError, match=said):
        load_factory("odd_factory:make")
