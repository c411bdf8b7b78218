"""The one error tree: what a user did that cannot work, said in one line.

A subclass belongs to the room whose trouble it names (a protocol error lives in
`controller.wire`), but it descends from `CoinferError`, which the command line turns into one
clear line and exit code 2.
"""

from __future__ import annotations

import re
from pathlib import Path

from artefacts.printing import shortened


class CoinferError(Exception):
    """Something the user can mend; the message is the whole story."""

    exit_code = 2
    """Of a command that ends by it."""


class UsageError(CoinferError):
    """A command or a call was given something that cannot be meant."""


class DependencyError(CoinferError):
    """An optional dependency that this command needs is not installed."""


ROOT = Path(__file__).resolve().parent.parent


def installing(extra: str, root: Path = ROOT) -> str:
    """How one of coinfer's extras is installed where coinfer lies in `root`, as a command."""
    if (root / "pyproject.toml").exists():
        return f"pip install -e '.[{extra}]' in {root}"
    source = _installed_from() if root == ROOT else None
    if source is not None:
        return f"pip install '{source}[{extra}]'"
    return (
        f"pip install 'WHEEL[{extra}]', WHEEL being the file coinfer was installed from "
        "(docs/reference/installation.md)"
    )


def _installed_from() -> Path | None:
    """The wheel or the checkout that coinfer was installed from, if pip noted it and it is there.

    PEP 610: `direct_url.json` beside the distribution's metadata.
    """
    import json
    from importlib import metadata
    from urllib.parse import unquote, urlsplit

    try:
        noted = metadata.distribution("coinfer").read_text("direct_url.json") or "{}"
        url = urlsplit(json.loads(noted).get("url", ""))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    path = Path(unquote(url.path))
    return path if url.scheme == "file" and path.exists() else None


def extra_of(package: str | None) -> str:
    """The extra of coinfer's that brings a package, by what coinfer's own metadata says.

    `all` where it says nothing: a package of another name than its module's, or one that an extra
    brings through another package.
    """
    from importlib import metadata  # takes what a daemon's start need not

    wanted = (package or "").partition(".")[0].replace("_", "-").lower()
    try:
        asked = metadata.requires("coinfer") or []
    except metadata.PackageNotFoundError:
        asked = []
    for line in asked:
        found = _REQUIREMENT.match(line)
        if found and found[1].lower() == wanted:
            return found[2]
    return "all"


_REQUIREMENT = re.compile(r"""([\w.-]+)[^;]*;.*\bextra == ['"]([\w-]+)['"]""")


def without_package(what: str, package: str | None, extra: str) -> DependencyError:
    """That `what` needs a package which is not installed, and the command that installs it."""
    return DependencyError(f"{what}: found no package '{package}', expected {installing(extra)}")


class ArtefactError(CoinferError):
    """A file that does not fit: names the file, the field, what was found and expected."""

    def __init__(
        self,
        path: str | Path,
        *,
        found: str,
        expected: str,
        field: str | None = None,
        line: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.field = field
        self.line = line
        # what a file says may be as long as the file
        self.found = shortened(found)
        self.expected = shortened(expected)
        where = str(path)
        if line is not None:
            where += f", line {line}"
        if field is not None:
            where += f", field '{field}'"
        super().__init__(f"{where}: found {self.found}, expected {self.expected}")
