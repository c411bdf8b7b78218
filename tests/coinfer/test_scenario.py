"""What commands say of a scenario: how many pictures its accuracies rest on."""

import numpy as np

from coinfer.cli.scenario import say_samples
from controller.scenarios import load_setting, read_scenario
from models.facts.outcomes import Outcomes


def outcomes(samples):
    right = np.arange(samples)[None] % 2 == 0
    return Outcomes("d", "made", ((0, "float32", 0),), right, np.zeros(right.shape, np.uint8))


def test_few_pictures_are_said_with_their_standard_error(capsys):
    say_samples(outcomes(300))
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("plans are chosen by accuracies on 150 samples: +-4.")
    assert "points (standard error)" in said


def test_many_are_not_but_where_it_is_asked_for(capsys):
    say_samples(outcomes(20_000))
    assert capsys.readouterr().err == ""
    say_samples(outcomes(20_000), least_error=0.0)
    assert "on 10000 samples: +-0.5 points" in capsys.readouterr().err


def test_the_shipped_scenarios_have_enough(capsys):
    for name in ("3g-alexnet", "lte-mobilenet"):
        say_samples(load_setting(read_scenario(name)).outcomes)
    assert capsys.readouterr().err == ""
