"""`bench wire|decide|device`: figures by an injected clock, and the commands themselves."""

import itertools
import json
import subprocess
import sys

import pytest

from controller.planners.fixed import FixedController
from experiments.benches.decide import decide_row
from experiments.benches.shaped import shaped_rows
from experiments.benches.wire import lacking, wire_rows
from experiments.replay.testbed.namespaces import missing_tools


def ticking(*steps):
    """A clock whose readings lie `steps` apart, over and over."""
    times = itertools.accumulate(itertools.cycle(steps), initial=0.0)
    return lambda: next(times)


def test_round_trips_are_in_turn_and_ratios_are_of_the_blocking_one():
    rows = wire_rows(5, sizes=(1000, 4000), clock=ticking(1e-3, 0.0, 3e-3, 0.0))
    assert [(r.path, r.size_bytes) for r in rows] == [
        ("blocking sockets", 1000), ("coinfer", 1000), ("blocking sockets", 4000),
        ("coinfer", 4000),
    ]  # fmt: skip
    assert [r.median_us for r in rows] == pytest.approx([1000.0, 3000.0] * 2)
    assert [r.ratio for r in rows] == pytest.approx([1.0, 3.0] * 2)


def test_a_decision_is_timed_from_measurement_to_plan():
    seen = []

    class CountingController(FixedController):
        def observe(self, measurement):
            seen.append("m")

        def decide(self, situation):
            seen.append("d")
            return self.plan

    row = decide_row(CountingController("x", 0), 0.1, 0.04, 50, clock=ticking(2e-6, 1.0))
    assert row.median_us == pytest.approx(2.0)
    assert row.ratio == pytest.approx(1.0)
    assert seen[:4] == ["m", "d", "m", "d"]
    assert row.decisions == 50


@pytest.mark.parametrize(
    ("argv", "key"),
    [
        (("wire", "--repeats", "3", "--tls", "--rivals"), "rows"),
        (("decide", "--scenario", "3g-alexnet", "--decisions", "50",
          "--controllers", "learned,algorithm1-online"), "rows"),
        (("device", "--scenario", "3g-alexnet", "--idle-s", "0.5", "--answers", "3"),
         "first_answer_s"),
        (("edge", "--model", "alexnet", "--devices", "4", "--seconds", "0.5", "--deadline-ms",
          "2000"), "edge_per_s"),
    ],
)  # fmt: skip
def test_the_commands_give_json(argv, key):
    done = subprocess.run(
        [sys.executable, "-m", "coinfer.cli.main", "bench", *argv, "--json"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found[key]
    if argv[0] == "wire":
        rivals = {"grpcio": "gRPC", "torch": "torch RPC"}
        assert {r["path"] for r in found["rows"]} == {
            "blocking sockets", "coinfer", "coinfer, TLS",
            *(path for name, path in rivals.items() if name not in lacking()),
        }  # fmt: skip


@pytest.mark.skipif(bool(missing_tools()), reason="needs root and tc for network namespaces")
def test_a_shaped_link_is_held_against_its_rate_and_the_ramp():
    (cold, warm, silent) = shaped_rows(3, (20_000,), (10e6,), (0.03,))
    assert [r.case for r in (cold, warm, silent)] == ["cold", "warm", "after silence"]
    assert warm.ideal_s == pytest.approx(0.016 + 0.03)
    # what a loaded machine adds is bounded generously; what the link itself takes is not missing
    assert 0.9 * warm.ideal_s <= warm.measured_s <= 4.0 * warm.ideal_s
    # 20 KB: one more round trip than a window of ten segments allows
    assert cold.model_s == pytest.approx(warm.model_s + 0.03, abs=0.02)
    assert 0.3 <= warm.believed_of_rate <= 3.0
