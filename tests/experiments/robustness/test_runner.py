"""Attacks on real daemons: what is made is judged, what cannot be made is said, nothing is left."""

import dataclasses

import pytest

from artefacts import processes
from experiments.robustness import attacks
from experiments.robustness.attacks.runner import free_port, run_attacks


@pytest.mark.system
def test_an_attack_is_judged_and_one_that_cannot_be_made_says_why(monkeypatch):
    started = []
    begin = processes.Children.start

    def starting(self, *args, **options):
        started.append(begin(self, *args, **options))
        return started[-1]

    monkeypatch.setattr(processes.Children, "start", starting)
    known = attacks.cases()["reloads"]
    unknown = dataclasses.replace(known, name="no-such-attack")
    said = []
    report = run_attacks([known, unknown], 1.0, 1.0, said.append)
    assert report.alone_frames > 0
    made, not_made = report.outcomes
    assert (made.name, made.lies) == ("reloads", 0)
    assert made.frames > 0
    assert made.device_mib > 0 < made.edge_mib
    assert not any("could not be made" in text for text in made.broken)
    assert any("could not be made" in text and "KeyError" in text for text in not_made.broken)
    assert not report.held
    assert {outcome.name for outcome in said} == {"reloads", "no-such-attack"}
    assert len(started) >= 7, (
        "an edge, another, a device, its log's reader, a camera, two attackers"
    )
    assert all(process.poll() is not None for process in started), "nothing is left"


def test_a_free_port_can_be_listened_on():
    assert 1024 <= free_port() <= 65535
