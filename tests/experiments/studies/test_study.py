"""Files of studies: what they may say, where their paths lie, and those that are shipped."""

import re

import pytest

from artefacts import CoinferError
from controller.scenarios import read_scenario
from experiments.evaluation.digests import ROOT
from experiments.studies.study import (
    read_study,
)
from experiments.sweeps.definition import read_sweep

STUDY = 'format_version = 1\n[[evaluations]]\nname = "a"\nscenario = "3g-alexnet"\n'
FOLD = '[[evaluations.folds]]\ntest = "a.log"\ntrain = ["b.log"]\npolicies = ["p"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format_version = 1\nevaluations = []", "field 'evaluations': found none"),
        (STUDY + "seed = 1", "evaluations[0]': found an unknown field 'seed'"),
        (STUDY.replace('"a"', '"a/b"'), "field 'evaluations.name': found 'a/b'"),
        (STUDY + STUDY.split("\n", 1)[1], "'a' twice"),
        (STUDY + 'controllers = ["magic"]', "evaluations[0].controllers': found 'magic'"),
        (STUDY + 'traces = ["x"]\ntraces_of = "edgent"', "several of traces_of, traces, folds"),
        (STUDY + "deadlines_ms = [0]", "evaluations[0].deadlines_ms[0]': found 0"),
        (STUDY + "scale = -1.0", "evaluations[0].scale': found -1"),
        (STUDY + "frames = 0", "evaluations[0].frames': found 0"),
        (STUDY + "prices = [1, -2]", "evaluations[0].prices': found 1, -2"),
        (STUDY + "seeds = [1, 1]", "evaluations[0].seeds': found one twice"),
        (STUDY + "seeds = [-1]", "found -1, expected 0 or more"),
        (STUDY + "[evaluations.series]\nseconds = 0", "series.seconds': found 0"),
        (STUDY + 'policies = ["p"]\n' + FOLD, "policies beside folds"),
        (STUDY + "deadlines_ms = [90]\n" + FOLD, "deadlines beside folds"),
        (STUDY + FOLD + FOLD, "folds[0].test': found 'a.log' twice"),
        (STUDY + FOLD.replace("b.log", "x/a.log"), "the file it is tested on, 'a.log'"),
        (STUDY + FOLD.replace('["b.log"]', "[]"), "folds[0].train': found no files"),
        (STUDY + FOLD.replace('["p"]', "[]"), "folds[0].policies': found 0 policies"),
        (STUDY + '[[matrices]]\nname = "m"\ncells = []', "matrices[0].cells': found none"),
        (
            STUDY + '[[matrices]]\nname = "m"\ncells = [{row = "r", column = "c", '
            'evaluation = "z"}]',
            "matrices[0].cells[0].evaluation': found 'z', expected one of a",
        ),
        (
            STUDY + '[[matrices]]\nname = "m"\nfigure = "luck"\ncells = []',
            "found Invalid enum value 'luck'",
        ),
    ],
)
def test_a_mistake_in_a_study_names_file_field_found_and_expected(tmp_path, text, said):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(CoinferError) as caught:
        read_study(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_files_in_the_documentation_are_read(tmp_path):
    text = (ROOT / "docs" / "reference" / "studies.md").read_text()
    shown, sweep = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "study.toml"
    # it shows every key, three ways to name traces at once among them
    drop = ("traces_of", "traces =", "scale", 'policies = ["runs/a0"', "deadlines_ms")
    path.write_text("\n".join(line for line in shown.splitlines() if not line.startswith(drop)))
    study = read_study(path)
    assert study.evaluations[0].folds[0].policies == ("runs/without_bus_3",)
    assert study.matrices[0].figure == "share_of_bound"
    path = tmp_path / "sweep.toml"
    path.write_text(sweep)
    assert read_sweep(path).algorithms == ("ppo", "dqn")


def test_the_shipped_studies_are_studies():
    paths = sorted((ROOT / "experiments" / "studies").glob("*.toml"))
    assert paths
    for path in paths:
        for spec in read_study(path).evaluations:
            assert read_scenario(spec.scenario)
            assert spec.traces_of == "" or read_scenario(spec.traces_of)


def test_paths_lie_beside_the_study(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "logs").mkdir()
    path = tmp_path / "study.toml"
    path.write_text(STUDY + 'policies = ["p", "elsewhere"]\ntraces = ["logs"]')
    (spec,) = read_study(path).evaluations
    assert spec.policies == (str(tmp_path / "p"), "elsewhere")
    assert spec.traces == (str(tmp_path / "logs"),)
