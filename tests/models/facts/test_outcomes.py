from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import ArtefactError, UsageError
from models.facts.outcomes import Outcomes, read_outcomes, save_outcomes

KEYS = ((0, "float32", 0), (0, "int8", 0), (0, "int8", 2), (1, "float32", 0))


def make(samples: int = 21, seed: int = 0) -> Outcomes:
    rng = np.random.default_rng(seed)
    right = rng.random((len(KEYS), samples)) < 0.7
    sure = rng.integers(0, 256, right.shape).astype(np.uint8)
    chosen = rng.integers(0, 10, right.shape).astype(np.uint8)
    return Outcomes("digest", "made up", KEYS, right, sure, chosen)


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 40), seed=st.integers(0, 100))
def test_outcomes_come_back_as_saved(samples, seed, tmp_path_factory):
    path = tmp_path_factory.mktemp("o") / "outcomes.npz"
    outcomes = make(samples, seed)
    save_outcomes(path, outcomes)
    again = read_outcomes(path)
    assert (again.model_digest, again.dataset, again.keys) == ("digest", "made up", KEYS)
    assert np.array_equal(again.quality, outcomes.quality)
    assert np.array_equal(again.sure, outcomes.sure)
    assert np.array_equal(again.chosen, outcomes.chosen)
    assert (again.samples, again.exits) == (samples, 2)


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 40), seed=st.integers(0, 100))
def test_quality_between_right_and_wrong_comes_back_as_saved(samples, seed, tmp_path_factory):
    path = tmp_path_factory.mktemp("o") / "outcomes.npz"
    quality = np.random.default_rng(seed).random((len(KEYS), samples)).astype(np.float16)
    outcomes = replace(make(samples, seed), quality=quality, chosen=None)
    save_outcomes(path, outcomes)
    again = read_outcomes(path)
    assert again.quality.dtype == np.float16
    assert np.array_equal(again.quality, quality)
    for row, (exit_, codec, cut) in enumerate(KEYS):
        assert again.quality_of(exit_, codec, cut).tolist() == quality[row].tolist()
        by_hand = sum(quality[row].tolist()) / samples
        assert again.accuracy(exit_, codec, cut) == pytest.approx(by_hand, abs=1e-12)
    report = again.half("report")
    by_hand = sum(quality[3][report].tolist()) / max(len(report), 1)
    if len(report):
        assert again.accuracy(1, half="report") == pytest.approx(by_hand, abs=1e-12)


def test_the_standard_error_of_quality_is_that_of_its_spread():
    quality = np.tile(np.array([0.25, 0.75], np.float16), (len(KEYS), 500))
    outcomes = replace(make(1000), quality=quality)
    index = outcomes.half("policy")
    share = (index % 2).mean()
    expected = 0.5 * (share * (1 - share)) ** 0.5 / len(index) ** 0.5
    assert outcomes.standard_error() == pytest.approx(expected)


def test_outcomes_of_format_1_are_read(tmp_path):
    path = tmp_path / "o.npz"
    save_outcomes(path, make())
    with np.load(path) as archive:
        arrays = dict(archive)
    assert int(arrays["format_version"]) == 2
    np.savez(path, **(arrays | {"format_version": np.array(1)}))
    assert np.array_equal(read_outcomes(path).quality, make().quality)


def test_outcomes_without_classes_say_so(tmp_path):
    save_outcomes(tmp_path / "o.npz", replace(make(), chosen=None))
    again = read_outcomes(tmp_path / "o.npz")
    assert np.array_equal(again.quality, make().quality)
    with pytest.raises(UsageError, match="outcomes: found no predicted classes"):
        again.predicted(0)


def test_figures_are_those_of_the_rows():
    outcomes = make()
    assert np.array_equal(outcomes.quality_of(0, "int8", 2), outcomes.quality[2])
    assert np.array_equal(outcomes.quality_of(1, "uint8"), outcomes.quality[3])
    assert np.array_equal(outcomes.predicted(1, "uint8"), outcomes.chosen[3])
    assert outcomes.confidence(0, "int8", 0) == pytest.approx(outcomes.sure[1] / 255)
    assert outcomes.accuracy(0) == outcomes.quality[0].mean()
    report = outcomes.half("report")
    assert outcomes.accuracy(1, half="report") == outcomes.quality[3][report].mean()


def test_the_halves_share_no_sample_and_never_move():
    outcomes = make(10_000)
    policy, report = outcomes.half("policy"), outcomes.half("report")
    assert len(policy) == len(report) == 5_000
    assert np.array_equal(np.sort(np.concatenate([policy, report])), np.arange(10_000))
    # the split is part of every figure ever reported: a new one would leak
    assert policy[:8].tolist() == FIRST_POLICY
    assert np.array_equal(make(10_000, seed=3).half("policy"), policy)


FIRST_POLICY = [0, 3, 4, 5, 6, 7, 10, 11]


def test_what_was_not_recorded_is_refused():
    command = r"coinfer profile --model MODULE:FACTORY --data FILE --codecs int8; .*train-model\)$"
    with pytest.raises(UsageError, match=f"no record of exit 2, codec 'int8', cut 3.*{command}"):
        make().quality_of(1, "int8", 3)
    with pytest.raises(UsageError, match=f"no bytes of codec 'int8' at cut 3 of exit 2.*{command}"):
        make().mean_bytes(1, "int8", 3)
    with pytest.raises(UsageError, match="outcomes half: found 'all'"):
        make().half("all")


def _without(name):
    return lambda a: a.pop(name)


CHANGES = {
    "version": (lambda a: a.update(format_version=np.array(9)), "'format_version': found 9"),
    "version text": (lambda a: a.update(format_version=np.array("x")), "'format_version': found x"),
    "no keys": (_without("cuts"), "field 'cuts': found nothing"),
    "no digest": (_without("model_digest"), "field 'model_digest': found nothing"),
    "samples": (lambda a: a.update(samples=np.array(-4)), "field 'samples': found -4"),
    "width": (lambda a: a.update(samples=np.array(300)), r"field 'sure': found uint8 \(4, 21\)"),
    "neither": (_without("right"), "field 'right': found nothing"),
    "bits": (lambda a: a.update(right=a["right"][:, :2]), r"field 'right': found uint8 \(4, 2\)"),
    "quality": (
        lambda a: a.update(quality=np.zeros((4, 21))),
        r"field 'quality': found float64 \(4, 21\), expected float16 \(4, 21\) of 0 to 1",
    ),
    "much": (
        lambda a: a.update(quality=np.full((4, 21), 1.5, np.float16)),
        r"field 'quality': found float16 \(4, 21\), expected float16 \(4, 21\) of 0 to 1",
    ),
    "no number": (
        lambda a: a.update(quality=np.full((4, 21), np.nan, np.float16)),
        "field 'quality'",
    ),
    "rows": (lambda a: a.update(sure=a["sure"][:2]), r"field 'sure': found uint8 \(2, 21\)"),
    "classes": (lambda a: a.update(chosen=np.zeros((4, 2))), "field 'chosen': found float64"),
    "codecs": (lambda a: a.update(codecs=np.zeros(4)), "field 'codecs': found float64"),
    "lengths": (lambda a: a.update(cuts=a["cuts"][:3]), "field 'cuts': found int16 "),
    "exit": (lambda a: a.update(exits=np.array([0, 0, 0, 2])), "0 float32 rows of exit 2"),
    "several": (lambda a: a.update(dataset=np.array(["a", "b"])), "field 'dataset': found shape"),
    "logits of one exit": (
        lambda a: a.update(logits=np.zeros((1, 21, 10), np.float16)),
        r"field 'logits': found float16 \(1, 21, 10\), expected float16 \(2, 21, 1 or more",
    ),
    "no classes": (
        lambda a: a.update(logits=np.zeros((2, 21, 0), np.float16)),
        r"field 'logits': found float16 \(2, 21, 0\)",
    ),
    "no shape": (lambda a: a.update(logits=np.array(1.0, np.float16)), "field 'logits'"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_outcomes_that_do_not_fit_name_file_and_field(case, tmp_path):
    change, message = CHANGES[case]
    path = tmp_path / "outcomes.npz"
    save_outcomes(path, make())
    with np.load(path) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(path, **arrays)
    with pytest.raises(ArtefactError, match=message) as caught:
        read_outcomes(path)
    assert str(path) in str(caught.value)


def test_very_many_exits_take_no_time_that_grows_with_their_square(tmp_path):
    exits = 32_767
    rows = np.zeros((exits, 1), np.uint8)
    keys = tuple((exit_, "float32", 0) for exit_ in range(exits))
    save_outcomes(tmp_path / "o.npz", Outcomes("digest", "many", keys, rows > 0, rows))
    begun = time.process_time()
    assert read_outcomes(tmp_path / "o.npz").exits == exits
    assert time.process_time() - begun < 3.0


def test_files_that_are_no_outcomes_are_refused(tmp_path):
    path = tmp_path / "outcomes.npz"
    with pytest.raises(ArtefactError, match="found no such file"):
        read_outcomes(path)
    path.write_text("text")
    with pytest.raises(ArtefactError, match=r"expected outcomes \(npz\)"):
        read_outcomes(path)
    with open(path, "wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(ArtefactError, match="found no whole archive"):
        read_outcomes(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_give_outcomes_or_one_error(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("o") / "outcomes.npz"
    save_outcomes(path, make())
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        found = read_outcomes(path)
    except ArtefactError as error:
        named = error.path
    else:
        # the changed byte sat in a field of the zip that no reader looks at: nothing is lost
        named = path
        assert np.array_equal(found.quality, make().quality)
    assert named == path


def test_objects_are_never_unpickled(tmp_path):
    path = tmp_path / "outcomes.npz"
    np.savez(path, format_version=np.array(1), model_digest=np.array([{}], dtype=object))
    with pytest.raises(ArtefactError, match=r"model_digest\.npy.: found .*, expected a header of"):
        read_outcomes(path)


def test_the_standard_error_is_of_the_half_that_plans_are_chosen_on():
    outcomes = make(600)
    shares = [outcomes.accuracy(exit_, half="policy") for exit_ in range(2)]
    expected = max((p * (1 - p) / 300) ** 0.5 for p in shares)
    assert outcomes.standard_error() == pytest.approx(expected)
    assert 0.02 < make(600).standard_error() < 0.03
    assert make(1).standard_error() == float("inf")
