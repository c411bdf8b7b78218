import pytest

from controller.scenario import load_setting, read_scenario


@pytest.fixture(scope="session")
def stream():
    """The frame-stream scenario, loaded."""
    return load_setting(read_scenario("3g-alexnet"))


@pytest.fixture(scope="session")
def closed():
    """The closed-loop scenario, loaded."""
    return load_setting(read_scenario("edgent"))
