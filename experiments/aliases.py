"""Earlier names of commands: `python -m experiments.chaos` goes on working.

A name here stands for the module that it became. Only `python -m` is served: code imports modules
by the names that they have.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent
ALIASES = {
    "ablations": "analyses/ablations.py",
    "algorithms": "analyses/algorithms.py",
    "architectures": "analyses/architectures/__init__.py",
    "attacks": "robustness/attacks/__init__.py",
    "baseline_constants": "analyses/baseline_constants.py",
    "beyond_training": "analyses/beyond_training.py",
    "chaos": "robustness/chaos/__init__.py",
    "front": "analyses/front.py",
    "fuzz": "robustness/fuzz.py",
    "information_limit": "analyses/information_limit.py",
    "promise": "replay/promise.py",
    "soak": "robustness/soak.py",
}


class AliasFinder(MetaPathFinder):
    """Finds `experiments.NAME` where `NAME` is an alias."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module that an alias stands for; None for every other name."""
        package, _, name = fullname.partition(".")
        if package != "experiments" or name not in ALIASES:
            return None
        file = ROOT / ALIASES[name]
        # a package's folder is what its `__main__` is looked for in
        inside = [str(file.parent)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            fullname, file, submodule_search_locations=inside
        )


sys.meta_path.append(AliasFinder())
