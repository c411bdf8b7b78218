"""Daemons of a folder's or a page's files, as a reader starts them."""

import contextlib
import os
import subprocess
import sys
import time

from coinfer.documentation.shown import ROOT

STARTED_S = 120.0
"""A first start makes graphs, on a busy machine."""


@contextlib.contextmanager
def started(folder, kind, named):
    """A daemon (`edge` or `device`) of the file `named` in `folder`; gives where it listens.

    Of an edge the port, of a device its addresses.
    """
    there, log = folder / f"{kind}.ready", folder / f"{kind}.log"
    option = "--port-file" if kind == "edge" else "--ready-file"
    there.unlink(missing_ok=True)
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "coinfer.cli.main", kind, "--config", named, option, there],
            cwd=folder, stderr=stream, stdout=stream,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            end = time.monotonic() + STARTED_S
            while not there.exists() or not there.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
            yield there.read_text().split()
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def both(folder, edge, device):
    """Both daemons of the texts `edge` and `device` (of TOML files) in `folder`, on free ports.

    Gives the device's addresses. The texts name the usual ports 7700 and 8700.
    """
    (folder / "edge.toml").write_text(edge.replace("7700", "0"))
    with started(folder, "edge", "edge.toml") as (port, *_):
        (folder / "device.toml").write_text(device.replace("7700", port).replace("8700", "0"))
        with started(folder, "device", "device.toml") as addresses:
            yield addresses
