"""The fuzzing harness: every target takes mutated inputs, what is found is kept and reported."""

import contextlib
import random

import pytest

from artefacts import ArtefactError, CoinferError, read_json
from experiments.robustness import fuzz
from models.codecs import example_names
from models.facts.profiles import Profile


def test_good_inputs_are_read_and_mutated_ones_do_no_more_than_be_refused(capsys):
    with fuzz.targets() as known:
        for name, (target, seeds) in known.items():
            for data in seeds:
                target(data)  # what is mutated is good: none is refused, of no target
            fuzz.run(name, target, seeds, 60, seed=1)
            for data in fuzz.REFUSED_WHOLE.get(name, []):
                with pytest.raises(CoinferError):
                    target(data)
        assert set(fuzz.REFUSED_WHOLE) <= set(known)
    assert len(capsys.readouterr().out.splitlines()) == len(known)


def test_a_target_that_refuses_what_it_begins_from_is_a_fault_of_the_harness():
    def refuses(data):
        raise ArtefactError("a", found="nothing that it reads", expected="its own")

    with pytest.raises(AssertionError, match="idle: a good input was refused: a: found nothing"):
        fuzz.run("idle", refuses, [b"seed"], 10, seed=1)
    with pytest.raises(AssertionError, match="idle: found no good input"):
        fuzz.run("idle", refuses, [], 10, seed=1)


def test_a_target_that_is_none_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        fuzz.main(["--target", "nothing"])
    assert ended.value.code == 2
    assert "found 'nothing', expected codec-" in capsys.readouterr().err


def test_what_is_found_is_kept_and_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def bad(data):
        raise KeyError("not documented")

    with pytest.raises(KeyError):
        fuzz.checked("bad", bad, b"input")
    assert (tmp_path / "crash-bad.bin").read_bytes() == b"input"

    def wordy(data):
        raise ArtefactError("a", found="two\nlines", expected="one")

    with pytest.raises(AssertionError, match="several lines"):
        fuzz.checked("wordy", wordy, b"")


def test_mutations_are_of_the_seed():
    one = [fuzz.mutated([b"abcdef" * 9], random.Random(3)) for _ in range(2)]
    assert one[0] == one[1] != b"abcdef" * 9


@pytest.mark.parametrize("data", [b"\xfd\x00", b'"\xfd"', b"[" * 100_000])
def test_json_that_is_none_is_an_error_that_names_the_file(tmp_path, data):
    (tmp_path / "p.json").write_bytes(data)
    with pytest.raises(ArtefactError, match=r"p\.json"):
        read_json(tmp_path / "p.json", Profile, version=1)


def test_every_codec_is_fuzzed_from_what_it_makes():
    """An affine decoder without its range refuses everything: nothing behind that would be met."""
    with fuzz.targets() as known:
        for name in example_names():
            target, seeds = known[f"codec-{name}"]
            rng = random.Random(1)
            taken = 0
            for _ in range(200):
                data = bytearray(rng.choice(seeds))
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                with contextlib.suppress(CoinferError):
                    target(bytes(data))
                    taken += 1
            assert taken >= 1, name


@pytest.mark.parametrize("name", sorted(fuzz.STRUCTURES))
def test_structures_get_past_the_parser_and_meet_every_refusal(name):
    """Of JSON trees and JPEG files put together wrongly some are taken, and many lines are met."""
    with fuzz.targets() as known:
        target, seeds = known[name]
        rng, taken, said = random.Random(2), 0, set()
        for _ in range(600):
            data = fuzz.STRUCTURES[name](rng.choice(seeds), rng)
            try:
                target(data)
                taken += 1
            except CoinferError as error:
                said.add(str(error).split(": found")[0])
        assert taken >= 1
        assert len(said) >= (8 if name == "infer-json" else 1), said
