"""What stays until the end is looked at by no later pass of the garbage collector."""

import gc
import subprocess
import sys
import weakref

import pytest

from controller.daemon.settling import settle

DEVICE = (
    'format_version = 1\nscenario = "3g-alexnet"\ncontroller = "device-only"\n[http]\nport = 0\n'
)
EDGE = 'format_version = 1\nmodels = ["alexnet"]\nhost = "127.0.0.1"\nport = 0\n'
CHILD = """
import gc, os, pathlib, sys
from controller.daemon.edge_main import run_edge
from controller.daemon.main import Daemon

def ready(where):
    print(gc.get_freeze_count(), len(gc.get_objects()), flush=True)
    os._exit(0)

path = pathlib.Path(sys.argv[1])
run_edge(path, ready) if path.name == "edge.toml" else Daemon(path, "1").run(ready)
"""


@pytest.mark.parametrize(("name", "text"), [("device.toml", DEVICE), ("edge.toml", EDGE)])
def test_a_daemon_that_serves_leaves_little_to_the_garbage_collector(tmp_path, name, text):
    path = tmp_path / name
    state = f'state = "{tmp_path / "state.json"}"\n' if name == "device.toml" else ""
    path.write_text(state + text)
    found = subprocess.run(
        [sys.executable, "-c", CHILD, path],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    kept, looked_at = map(int, found.stdout.split())
    assert kept > 10_000  # what was imported and loaded
    assert looked_at < kept / 10


class _Circle:
    def __init__(self):
        self.own = self


def test_what_is_made_later_is_collected_as_ever():
    try:
        settle()
        gone = weakref.ref(_Circle())
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()
