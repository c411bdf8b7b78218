"""Settings and edges that the runtime's tests share."""

import contextlib

import pytest

from controller.runtime.edge import EdgeServer
from controller.scenario import load_setting, read_scenario


@pytest.fixture(scope="session")
def stream():
    """The frame-stream scenario, loaded."""
    return load_setting(read_scenario("3g-alexnet"))


@pytest.fixture(scope="session")
def closed():
    """The closed-loop scenario, loaded."""
    return load_setting(read_scenario("edgent"))


@contextlib.contextmanager
def _serving(model, executor, **options):
    server = EdgeServer(model, executor, **options)
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def serving():
    """`with serving(model, executor, **options) as server:` an edge for the length of a block."""
    return _serving
