"""Attacks: the table of them, what a camera's film says, and what holds a bound or breaks it."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from artefacts import UsageError
from experiments.robustness import attacks
from experiments.robustness.attacks.__main__ import SHORT_TOTAL_S, _chosen, _short_s, main
from experiments.robustness.attacks.camera import Footage, Frame, Ready, footage
from experiments.robustness.attacks.case import Bound, Case, Target
from experiments.robustness.attacks.judging import (
    CONFIRMED_S,
    SPARE_FRAMES,
    allowed_losses,
    confirmed,
    judged,
    memory_max,
    with_more_losses,
)

CASE = Case("a", "what", lambda target: None)
MIB = 2**20


def film(count, lost=(), begin_s=0.0):
    return tuple(
        Frame(begin_s + k / 10, None if k in lost else 0.05, "504" if k in lost else "")
        for k in range(count)
    )


def test_every_attack_has_a_name_of_its_own_and_says_what_it_does(capsys):
    known = attacks.cases()
    assert len(known) >= 6
    for name, case in known.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert name == case.name
        assert len(case.what) > 10
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(known)
    assert [c.name for c in _chosen(["deep-key"])] == ["deep-key"]
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "found 'nonsense', expected one of" in capsys.readouterr().err


def test_the_same_name_twice_is_refused(monkeypatch):
    monkeypatch.setattr(attacks, "TOPICS", ("machine", "machine"))
    with pytest.raises(UsageError, match="twice"):
        attacks.cases()


def test_the_short_form_takes_a_minute_however_many_there_are():
    assert all(count * (_short_s(count) + 0.5) < SHORT_TOTAL_S + 0.01 for count in range(1, 29))


def test_a_film_is_read_between_two_moments_and_half_a_line_is_left(tmp_path):
    path = tmp_path / "film"
    seen = [*film(30, lost=(12,), begin_s=100.0), Ready(101.0, True), Ready(102.9, None)]
    path.write_bytes(b"".join(msgspec.json.encode(s) + b"\n" for s in seen) + b'{"type":"fra')
    found = footage(path, 100.95, 102.0)
    assert [round(f.due_s, 1) for f in found.frames] == [round(101 + k / 10, 1) for k in range(10)]
    assert found.lost == 1
    assert found.ready == (Ready(101.0, True),)
    assert footage(path, 102.0, 105.0).lost == 20  # due, and not even written


@pytest.mark.parametrize(
    ("seconds", "lost", "made_s"),
    [(1.0, {}, [1.0]), (1.0, {1.0: 5}, [1.0, CONFIRMED_S]),
     (1.0, {1.0: 5, CONFIRMED_S: 30}, [1.0, CONFIRMED_S]), (10.0, {10.0: 40}, [10.0])],
)  # fmt: skip
def test_a_short_attack_that_did_not_hold_is_made_for_longer(seconds, lost, made_s):
    made, said = [], []
    alone = Footage(film(100), ())

    def make(lasting_s):
        made.append(lasting_s)
        seen = Footage(film(int(10 * lasting_s), lost=range(lost.get(lasting_s, 0))), ())
        return judged(CASE, seen, alone, (MIB, MIB), "")

    outcome = confirmed(make, seconds, said.append)
    assert made == made_s
    assert outcome.held == (not lost.get(made_s[-1], 0))
    assert [o.lost for o in said] == [lost[s] for s in made_s[:-1]]


def test_late_is_lost():
    frames = (Frame(0.0, 0.1), Frame(0.1, 0.149), Frame(0.2, 0.151), Frame(0.3, None))
    assert Footage(frames, ()).lost == 2


@pytest.mark.parametrize(
    ("lost", "said", "lie"),
    [(range(40), True, 1), (range(40), False, 0), ((), False, 1), ((), True, 0),
     (range(0, 40, 2), True, 0), (range(0, 40, 2), False, 0), (range(40), None, 0)],
)  # fmt: skip
def test_ready_lies_where_no_frame_or_every_frame_says_otherwise(lost, said, lie):
    assert Footage(film(40, lost), (Ready(2.0, said),)).lies == lie
    assert Footage(film(5, lost), (Ready(0.2, said),)).lies == 0  # too few to judge by


def test_a_machine_that_others_use_more_by_now_is_judged_by_what_it_is_now():
    calm, busy = Footage(film(100), ()), Footage(film(20, range(4)), ())
    assert with_more_losses(calm, busy) is with_more_losses(busy, calm) is busy
    seen = Footage(film(100, range(20)), ())
    assert not judged(CASE, seen, calm, (0, 0), "").held
    assert judged(CASE, seen, with_more_losses(calm, busy), (0, 0), "").held


def test_losses_are_held_against_those_without_an_attack():
    calm, busy = Footage(film(100), ()), Footage(film(100, range(10)), ())
    assert allowed_losses(100, calm, 0.01) == SPARE_FRAMES + 1
    assert allowed_losses(100, busy, 0.01) == SPARE_FRAMES + 11
    held = judged(CASE, Footage(film(100, range(3)), ()), calm, (MIB, MIB), "")
    assert held.held
    assert held.why == ("504",)
    broken = judged(CASE, Footage(film(100, range(4)), ()), calm, (MIB, MIB), "")
    assert broken.broken == ("4 of 100 frames lost, expected 3 at most",)


def test_memory_is_held_against_the_units():
    assert memory_max("coinfer-device.service") == 400 * MIB
    assert memory_max("coinfer-edge.service") == 2048 * MIB
    calm = Footage(film(100), ())
    assert judged(CASE, calm, calm, (400 * MIB, 2048 * MIB), "").held
    assert judged(CASE, calm, calm, (401 * MIB, 0), "").broken == (
        "the device took 401 MiB, expected 400 at most",
    )
    own = Case("b", "what", CASE.run, Bound(edge_bytes=MIB))
    assert "the edge took 2 MiB" in judged(own, calm, calm, (0, 2 * MIB), "").broken[0]
    assert judged(CASE, calm, calm, (0, 0), "the edge has ended with 1").broken


def test_a_target_crosses_to_the_attacker_s_process():
    target = Target(("::1", 1), ("h", 2), 3, 4, 5.0, ("h", 5), ("h", 6), Path("/a"))
    raw = msgspec.json.encode(target, enc_hook=str)
    json.loads(raw)
    again = msgspec.json.decode(raw, type=Target, dec_hook=lambda kind, text: kind(text))
    assert again == target
