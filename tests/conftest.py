"""Property tests draw the same examples every time; HYPOTHESIS_PROFILE=explore draws new ones.

Graphs of the tests' models are cached in a folder that goes when the tests end.
"""

import atexit
import contextlib
import functools
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# kept figures rest on choices between nearly equal plans, and a processor's own kernels round
# otherwise: every x86 machine computes with those of the oldest that NumPy's wheels are tuned for
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")

import numpy as np
import pytest
from forked_commands import Server
from hypothesis import settings

from controller.edge.server import EdgeServer
from controller.planners.queue_values import Solving, solve_prices
from controller.policies.network import make_policy
from controller.policies.observation import CONTEXT, DESCRIBED
from controller.policies.weights import ScorerWeights
from controller.scenarios import load_setting, read_scenario
from controller.sensing.belief import BandwidthBelief

HERE = Path(__file__).parent

# a busy machine is no fault of a test: none is timed
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

# whoever starts the tests in a shell's background has them ignore these signals, and every process
# that the tests start would inherit that
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL),
):  # fmt: skip
    if signal.getsignal(_number) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(_number, _handler)

SYSTEM = (
    "coinfer", "daemon", "deploy", "device", "edge", "examples", "link", "processes",
    "experiments/replay", "experiments/sweeps",
)  # fmt: skip
"""Folders whose tests start processes, make namespaces or need real sockets."""
SLOW = (
    "documentation", "envs", "examples", "experiments/analyses", "experiments/benches",
    "experiments/evaluation", "experiments/learning", "experiments/robustness",
    "experiments/studies", "models/capture", "models/networks",
)  # fmt: skip
"""Folders whose tests train, export networks, or run whole evaluations."""


def pytest_collection_modifyitems(items):
    """Marks by folder, so that `make quick` needs no list of files.

    A file in one of these folders whose tests need nothing of the kind says so (`quick`).
    """
    for item in items:
        if item.get_closest_marker("quick"):
            continue
        folder = item.path.parent.relative_to(HERE).as_posix()
        if folder.startswith(SYSTEM):
            item.add_marker(pytest.mark.system)
        if folder.startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _only_system_tests_start_processes(request, monkeypatch):
    """A test that starts a process says so, or `make quick` would run it."""
    if request.node.get_closest_marker("system") or request.node.get_closest_marker("slow"):
        return

    def refused(*args, **options):
        raise AssertionError("a test that starts a process needs the mark 'system'")

    monkeypatch.setattr(subprocess.Popen, "__init__", refused)


@pytest.fixture(autouse=True)
def _one_thread():
    """Two threads that wait for each other on a busy machine cost minutes: torch has one."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _operators_are_read_once():
    """At every export onnxscript parses the source of each operator that it knows: here once."""
    apis = sys.modules.get("onnxscript._framework_apis")
    for api in list(vars(apis).values()) if apis is not None else ():
        read = getattr(api, "get_torchlib_ops", None)
        if read is not None and not hasattr(read, "cache_info"):
            api.get_torchlib_ops = functools.cache(read)


_cache = tempfile.mkdtemp(prefix="coinfer-tests-")
os.environ["COINFER_CACHE"] = _cache
atexit.register(shutil.rmtree, _cache, ignore_errors=True)


@pytest.fixture(scope="session")
def random_policy():
    """Makes a policy with random weights on coarse planning: (setting, seed, training) -> Policy.

    Its range of contexts is everything, so that it is the policy that decides.
    """
    planned = {}

    def make(setting, seed=0, training=None, hidden=8):
        digest = setting.digest
        if digest not in planned:
            belief = BandwidthBelief.from_traces(setting.traces("train").traces)
            own = setting.prices
            grids = np.array([own.device_second]), np.array([own.megabyte])
            solved = solve_prices(setting, belief, *grids, Solving(4, sweeps=20))
            planned[digest] = belief, solved
        rng, c, f, h = np.random.default_rng(seed), len(CONTEXT), len(DESCRIBED), hidden
        shapes = ((c, h), (h,), (f, h), (h, h), (h,), (h,))
        arrays = [rng.normal(0.0, 0.5, shape).astype(np.float32) for shape in shapes]
        weights = ScorerWeights(*arrays, np.array([1.5], dtype=np.float32))
        wide = np.full(c, 3.0, dtype=np.float32)
        return make_policy(setting, weights, *planned[digest], (-wide, wide), training or {}, 0.5)

    return make


@pytest.fixture(scope="session")
def command_server():
    """The process that commands are forked from; see `forked`."""
    server = Server(str(HERE.parent))
    yield server
    server.close()


@pytest.fixture(scope="session")
def training_server():
    """One whose commands begin with torch and what trains by it."""
    server = Server(str(HERE.parent), also=("experiments.learning.training",))
    yield server
    server.close()


@pytest.fixture
def forked(command_server, tmp_path_factory):
    """`forked(MODULE, *argv, cwd=, env=)`: a module run as a process of its own, without the time
    that an interpreter needs to begin.
    """
    folder = tmp_path_factory.mktemp("streams")
    return functools.partial(command_server.run, folder=folder)


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
