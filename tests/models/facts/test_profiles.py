from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from artefacts import ArtefactError
from models.facts.alexnet import alexnet
from models.facts.profiles import check_profile, read_profile, write_profile
from models.facts.reference import reference_profile

SPEC = alexnet()
PROFILE = replace(reference_profile("edgent-pi3", SPEC), spread=1.25)


def test_a_profile_comes_back_as_written(tmp_path):
    write_profile(tmp_path / "p.json", PROFILE)
    assert read_profile(tmp_path / "p.json") == PROFILE
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_intervals_add_up(data):
    branch = data.draw(st.integers(0, 4))
    layers = len(PROFILE.branches[branch])
    a, b = sorted(data.draw(st.tuples(st.integers(0, layers), st.integers(0, layers))))
    parts = [(0, a), (a, b), (b, layers)]
    whole = PROFILE.layer_s(branch).sum()
    assert sum(PROFILE.interval_s(branch, *part) for part in parts) == pytest.approx(whole)
    p95 = PROFILE.interval_p95_s(branch, a, b)
    assert p95 == pytest.approx(1.25 * PROFILE.interval_s(branch, a, b))


def _set(path, value):
    def change(plain):
        for key in path[:-1]:
            plain = plain[key]
        plain[path[-1]] = value

    return change


CHANGES = {
    "version": (_set(["format_version"], 0), "field 'format_version': found 0, expected 1"),
    "missing": (lambda p: p.pop("branches"), "no field 'branches'"),
    "negative": (
        _set(["branches", 1, 2, "median_s"], -1.0),
        r"field 'branches\[1\]\[2\].median_s': found -1.0, expected a finite number, 0 or more",
    ),
    "p95": (_set(["branches", 0, 0, "p95_s"], 0.0), r"branches\[0\]\[0\].p95_s': found 0.0"),
    "text": (_set(["branches", 0, 0, "samples"], "many"), "expected a valid Profile"),
    "spread": (_set(["spread"], 0.5), "field 'spread': found 0.5"),
    "loading": (_set(["model_loading_s"], -2.0), "field 'model_loading_s': found -2.0"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_profile_that_does_not_fit_names_file_and_field(case, tmp_path):
    change, message = CHANGES[case]
    path = tmp_path / "p.json"
    write_profile(path, PROFILE)
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(ArtefactError, match=message) as caught:
        read_profile(path)
    assert str(path) in str(caught.value)


def test_a_profile_of_another_network_is_refused(tiny_spec):
    check_profile(PROFILE, SPEC)
    with pytest.raises(ArtefactError, match=r"field 'network_digest': found .* \(alexnet\)"):
        check_profile(PROFILE, tiny_spec, "some.json")


def test_a_profile_with_other_layers_is_refused():
    short = replace(PROFILE, branches=(*PROFILE.branches[:4], PROFILE.branches[4][:-1]))
    with pytest.raises(ArtefactError, match=r"field 'branches\[4\]'"):
        check_profile(short, SPEC)
    with pytest.raises(ArtefactError, match=r"field 'branches\[0\]'"):
        check_profile(replace(PROFILE, branches=()), SPEC)
