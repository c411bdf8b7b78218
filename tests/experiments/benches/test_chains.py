"""The search over three tiers leaves what making every plan leaves."""

import json

import pytest

from experiments.benches import chains


def test_both_ways_leave_the_same_plans(capsys, monkeypatch):
    monkeypatch.setattr(chains, "SAMPLES", 60)
    assert chains.main(["--blocks", "9", "--json"]) == 0
    ours, drawn = json.loads(capsys.readouterr().out)
    assert (ours["network"], ours["layers"]) == ("mobilenetv2", 24)
    assert (drawn["network"], drawn["layers"]) == ("blocks-9", 9)
    for one in (ours, drawn):
        assert one["same"]
        assert 0 < one["kept"] <= one["priced"] <= one["every"]


@pytest.mark.parametrize("same", [True, False])
def test_a_difference_is_said_and_is_the_exit_code(same, capsys, monkeypatch):
    found = chains.Figures("own", 3, 90, 40, 20, 0.5, 2.0, same)
    monkeypatch.setattr(chains, "measured", lambda network: found)
    assert chains.main([]) == int(not same)
    said = "the same" if same else "OTHERS"
    line = f"own, 3 layers: 20 of 90 plans found in 0.50 s; {said} by making all of them in 2.0 s"
    assert line in capsys.readouterr().out


def test_a_drawn_network_is_the_same_by_the_same_seed():
    one, two = chains.drawn(7, 3), chains.drawn(7, 3)
    assert one.spec == two.spec
    assert one.profiles == two.profiles
    assert (one.outcomes.quality == two.outcomes.quality).all()
