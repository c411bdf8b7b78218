"""Commands that pages show, held against the application, and a reader's own files."""

import gzip
import os
import re

from typer.main import get_command

from coinfer.cli.main import app
from coinfer.documentation.shown import ROOT

APPLICATION = get_command(app)
PLACEHOLDER = re.compile(r"^[A-Z][A-Z_]+$")


def found_command(words):
    """The command of the application that words name, its path, and what follows."""
    command, path, rest = APPLICATION, "coinfer", list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if PLACEHOLDER.match(rest[0]):
            return None, path, []
        name = rest.pop(0)
        assert name in command.commands, f"'{path} {name}' is no command"
        command, path = command.commands[name], f"{path} {name}"
    return command, path, rest


def environment(folder):
    """No data sets, and this checkout."""
    return os.environ | {"COINFER_DATA": str(folder / "none"), "PYTHONPATH": str(ROOT)}


def recorded(coinfer, path):
    """A log of a reader's own, packed."""
    made = path.with_name("made.csv")
    done = coinfer("traces", "generate", "--seconds", "60", "--out", made)
    assert done.returncode == 0, done.stderr
    path.write_bytes(gzip.compress(made.read_bytes()))


def measured(coinfer, path):
    """Seconds and Mbit/s."""
    path.write_text("0.0 1.2\n1.0 0.8\n2.0 2.5\n")


READERS_OWN = {"drive.csv.gz": recorded, "measured.txt": measured}
"""Files that pages speak of as the reader's own, and what makes them here."""
