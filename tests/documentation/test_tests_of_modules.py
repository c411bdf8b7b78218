"""Big modules have tests under their names, or stand here with the file that tests them."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick
ROOT = Path(__file__).parents[2]
ROOMS = ("artefacts", "traces", "models", "controller", "envs", "experiments", "coinfer")
BIG_LINES = 300
ELSEWHERE = {
    "coinfer/cli/learning/models.py": ("tests/models/networks/test_models_cli.py", "train_model"),
    "coinfer/cli/learning/train.py": ("tests/coinfer/test_command_line.py", "train"),
    "coinfer/cli/traces.py": ("tests/coinfer/test_trace_files.py", "convert"),
    "controller/daemon/grpc/process.py": ("tests/daemon/grpc/test_grpc_process.py", "GrpcService"),
    "controller/daemon/http/interface.py": ("tests/daemon/http/test_http.py", "/live/state"),
    "controller/daemon/inference/open_inference.py": (
        "tests/daemon/http/test_inference_v2.py", "LONGEST_ID",
    ),
    "controller/edge/peer.py": ("tests/edge/test_raw_requests.py", "REFUSE"),
    "controller/link/edge_link.py": ("tests/device/test_runtime_faults.py", "EdgeLink"),
    "experiments/reporting/tables.py": (
        "tests/experiments/reporting/test_report.py", "controller_rows",
    ),
    "experiments/replay/session.py": (
        "tests/experiments/replay/test_learning_and_replay.py", "ReplayArgs",
    ),
    "experiments/studies/results.py": (
        "tests/experiments/studies/test_headline.py", "read_evaluation",
    ),
    "controller/policies/observation.py": ("tests/envs/test_environments.py", "CANDIDATES"),
    "controller/policies/weights.py": ("tests/policies/test_single_stream.py", "MlpWeights"),
    "controller/physics/frames.py": ("tests/physics/test_batched_physics.py", "run_frames"),
    "experiments/studies/run.py": ("tests/experiments/studies/test_kept_runs.py", "run_evaluation"),
    "models/capture/graph.py": ("tests/models/capture/test_capture.py", "cuts"),
    "models/networks/segments.py": ("tests/models/capture/test_capture.py", "operations"),
    "traces/formats/tables.py": ("tests/traces/formats/test_reading.py", "time_column"),
}  # fmt: skip
"""(test file, a name that both have) by module: what tests it under another name."""


def modules() -> list[Path]:
    """Every module of ours, without the files of packages."""
    return [
        path
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.stem != "__init__"
    ]


def untested(lines: dict[str, int], tests: set[str], elsewhere: set[str]) -> list[str]:
    """Modules of more than `BIG_LINES` without a test of their names, that stand nowhere else."""
    return [
        module
        for module, count in lines.items()
        if count > BIG_LINES
        and f"test_{Path(module).stem}" not in tests
        and module not in elsewhere
    ]


TESTS = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
LINES = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}


def test_a_big_module_has_tests():
    assert untested(LINES, TESTS, set(ELSEWHERE)) == []


@pytest.mark.parametrize("module", ELSEWHERE)
def test_what_stands_here_has_a_test_that_names_something_of_it(module):
    file, name = ELSEWHERE[module]
    assert module in LINES
    assert f"test_{Path(module).stem}" not in TESTS, "it needs no line here"
    whole = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    assert whole.search((ROOT / module).read_text()), f"{name} is nothing of {module}"
    assert whole.search((ROOT / file).read_text()), f"{file} does not name {name}"


def test_a_big_module_without_tests_is_found():
    lines = {"traces/huge.py": BIG_LINES + 1, "traces/small.py": BIG_LINES}
    assert untested(lines, set(), set()) == ["traces/huge.py"]
    assert untested(lines, {"test_huge"}, set()) == []
    assert untested(lines, set(), {"traces/huge.py"}) == []
