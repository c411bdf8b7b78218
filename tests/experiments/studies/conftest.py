"""Short logs, short training, and policies of one's own for the studies' tests."""

import pytest
from made_studies import made_traces

from controller.policies.network import save_policy
from experiments.evaluation.evaluator import evaluate
from experiments.studies import kept_runs
from traces.formats import write_csv
from traces.library import TraceSet


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    """What is learnt from training traces is learnt from three short ones."""
    monkeypatch.setattr(
        "controller.scenarios.setting.load_split",
        lambda family, part: TraceSet(made_traces(3, 7, part), True, f"made ({part})"),
    )
    monkeypatch.setattr("controller.registry.tuned.CHOICE_FRAMES", 30)


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "logs"
    for trace in made_traces(3):
        write_csv(folder / f"{trace.name}.csv", trace)
    return folder


@pytest.fixture
def runs(monkeypatch):
    """Names of the controllers that were really run."""
    ran = []

    def counting(setting, traces, make, **options):
        ran.append(make(0).name)
        return evaluate(setting, traces, make, **options)

    monkeypatch.setattr(kept_runs, "evaluate", counting)
    return ran


@pytest.fixture
def other_policy(random_policy):
    """Saves a policy with weights of its own: (setting, folder, seed) -> folder."""

    def save(setting, folder, seed):
        save_policy(folder, random_policy(setting, seed, {"seed": seed}))
        return folder

    return save
