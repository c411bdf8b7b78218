"""Figures of `coinfer compare` on every shipped scenario, kept: moving code changes none of them.

Those of `NAME-priced` are at `--device-second 0.5 --megabyte 3`.

Each file of `golden/` holds what
`coinfer compare --scenario NAME --frames 300 --json` gave without real data (generated stand-ins),
a figure a controller and a reward a trace, for the controllers that the file names. A change that
is meant to change figures writes them anew with
`PYTHONPATH=tests/helpers OPENBLAS_CORETYPE=Haswell python
tests/experiments/evaluation/test_golden.py NAME...`, in the repository's folder and with
COINFER_DATA an empty one, and says so (the tests compute with the same kernels on every x86
machine: `conftest.py`).
"""

import json
import sys
from pathlib import Path

import pytest
from priced import taken

from controller.scenarios import load_setting, shipped_scenarios
from experiments.evaluation.comparison import compare
from experiments.evaluation.controllers import ControllerFactory, chosen_names

GOLDEN = Path(__file__).with_name("golden")
FRAMES = 300
AT_PRICES = ("lte-mobilenet-priced", "3g-mobilenet-priced")
FIGURES = (
    "goodput_accuracy", "late_share", "mean_latency_s", "p95_latency_s", "bytes_per_frame",
    "device_compute_s_per_frame", "reward", "share_of_bound",
)  # fmt: skip


def kept_figures(scenario):
    """What the scenario's golden file holds."""
    return json.loads((GOLDEN / f"{scenario}.json").read_text())


def figures(scenario, names):
    """{name: figures} of named controllers on a scenario's generated test traces."""
    setting = load_setting(taken(scenario))
    traces = setting.traces("test")
    factory = ControllerFactory(setting, max_frames=FRAMES)
    found = compare(setting, traces, names, factory, max_frames=FRAMES)
    return {
        "scenario": scenario,
        "source": traces.source,
        "bound": found.bound,
        "controllers": {
            name: {f: getattr(own, f) for f in FIGURES}
            | {"plans": own.plans, "rewards": {t: one.reward for t, one in own.per_trace.items()}}
            for name, own in found.controllers.items()
        },
    }


def flat(value, path=""):
    """{path: number or text} of nested dictionaries."""
    if not isinstance(value, dict):
        return {path: value}
    return {k: v for key, inner in value.items() for k, v in flat(inner, f"{path}/{key}").items()}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [*shipped_scenarios(), *AT_PRICES])
def test_figures_are_what_they_were(scenario, tmp_path, monkeypatch):
    monkeypatch.setenv("COINFER_DATA", str(tmp_path))  # no real data: the stand-ins everybody has
    golden = kept_figures(scenario)
    kept, found = flat(golden), flat(figures(scenario, list(golden["controllers"])))
    assert found.keys() == kept.keys()
    for path, value in kept.items():
        # another machine's libraries may round the last digits otherwise
        wanted = value if isinstance(value, str) else pytest.approx(value, rel=1e-9)
        assert found[path] == wanted, path


def test_every_shipped_scenario_has_golden_figures():
    assert {file.stem for file in GOLDEN.glob("*.json")} == {*shipped_scenarios(), *AT_PRICES}


if __name__ == "__main__":
    for named in sys.argv[1:]:
        own = GOLDEN / f"{named}.json"
        asked = (
            list(kept_figures(named)["controllers"])
            if own.exists()
            else chosen_names("", load_setting(taken(named)))
        )
        anew = figures(named, asked)
        own.write_text(json.dumps(anew, indent=1) + "\n")
