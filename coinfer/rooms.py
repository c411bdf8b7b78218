"""Our rooms under names that nobody else's modules bear: `coinfer.rooms.models` is `models`.

Beside a script there may be a `models.py` of its owner's, which is what `import models` finds. What
`coinfer` exports is then imported from here, and within it the rooms' names mean our rooms: each
module gets an `__import__` of its own. Nothing changes for modules of anybody else.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("artefacts", "traces", "models", "controller", "envs", "experiments")
PREFIX = f"{__name__}."

__path__ = [str(ROOT)]


def room_module(name: str) -> ModuleType:
    """One of our modules, by the name under which the rooms' names are ours here."""
    if _used or not all(map(_is_ours, NAMES)):
        return importlib.import_module(PREFIX + name)
    return importlib.import_module(name)


_used: list[str] = []
"""The names of what was imported from here: there is one class of each error, whatever follows."""


def _is_ours(room: str) -> bool:
    """Whether a name that is imported from here on would be our room's."""
    try:
        spec = importlib.util.find_spec(room)
    except (ImportError, ValueError):  # somebody has put a module there that says nothing of itself
        return False
    if spec is None or spec.origin is None:
        return False
    # through a link to the installation, too: both are resolved
    return Path(spec.origin).resolve() == ROOT / room / "__init__.py"


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """`__import__` of a module of ours: the rooms' names are ours."""
    room = name.partition(".")[0]
    if level or room not in NAMES:
        return builtins.__import__(name, globals, locals, fromlist, level)
    found = builtins.__import__(PREFIX + name, globals, locals, fromlist or ("*",), 0)
    # 'import models.facts' binds 'models'
    return found if fromlist else sys.modules[PREFIX + room]


class _Loader(SourceFileLoader):
    """Executes a module of ours with that `__import__`."""

    def exec_module(self, module: ModuleType) -> None:
        """Execute it; what is imported later, in its functions, finds our rooms, too."""
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        _used.append(module.__name__)
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds what lies below this module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The file of one of our modules, to be executed by `_Loader`."""
        room = fullname.removeprefix(PREFIX).partition(".")[0]
        if not fullname.startswith(PREFIX) or room not in NAMES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader) or spec.origin is None:
            return spec
        return spec_from_file_location(
            fullname, spec.origin, loader=_Loader(fullname, spec.origin),
            submodule_search_locations=spec.submodule_search_locations,
        )  # fmt: skip


sys.meta_path.insert(0, _Finder())
