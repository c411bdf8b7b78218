from __future__ import annotations

import pytest

from artefacts import UsageError
from models.facts.alexnet import alexnet
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.layers import LayerSpec
from models.facts.profiles import check_profile
from models.facts.reference import anchor_gap, reference_profile, whole_branch_s

SPEC = alexnet()


def _median_ms(profile, name):
    return 1e3 * next(x for branch in profile.branches for x in branch if x.name == name).median_s


@pytest.mark.parametrize(
    ("machine", "layer", "by_hand_ms"),
    [
        # conv1: 3 input maps, (5/1)^2 x 32 = 800
        ("edgent-pi3", "conv1", 6.13e-3 * 3 + 2.67e-2 * 800 - 9.909),
        ("edgent-pc", "conv1", 6.03e-5 * 3 + 1.24e-4 * 800 + 0.189),
        ("edgent-pi3", "relu1", 1.5e-5 * 32_768 + 0.488),
        ("edgent-pc", "pool1", 1.63e-5 * 32_768 + 4.07e-6 * 8_192 + 0.211),
        ("edgent-pi3", "lrn2", 5.19e-4 * 4_096 + 0.589),
        ("edgent-pc", "drop6", 5.23e-6 * 256 + 4.64e-3),
        ("edgent-pi3", "fc6", 9.18e-4 * 1_024 + 3.99e-3 * 256 + 1.169),
        ("edgent-pc", "fc7", 1.07e-4 * 256 - 1.83e-4 * 128 + 0.164),
    ],
)
def test_transcribed_coefficients_by_hand(machine, layer, by_hand_ms):
    assert _median_ms(reference_profile(machine, SPEC), layer) == pytest.approx(by_hand_ms)


def test_the_other_reading_counts_elements():
    profile = reference_profile("edgent-pi3", SPEC, "elements")
    by_hand = 6.13e-3 * 3_072 + 2.67e-2 * 800 - 9.909
    assert _median_ms(profile, "conv1") == pytest.approx(by_hand)
    assert "elements" in profile.transcribed


def test_model_loading_is_by_the_bytes_of_all_parameters():
    n_bytes = {
        x.name: x.parameter_bytes for b in reference_profile("edgent-pc", SPEC).branches for x in b
    }
    expected_ms = 4.49e-6 * sum(n_bytes.values()) + 842.136
    assert 1e3 * reference_profile("edgent-pi3", SPEC).model_loading_s == pytest.approx(expected_ms)


def test_a_prediction_below_zero_is_clamped():
    # 1 map, one 1x1 filter: 6.13e-3 + 2.67e-2 - 9.909 is far below zero milliseconds
    layer = LayerSpec("small", "conv", channels=1, kernel=1)
    spec = BranchySpec("one", (1, 4, 4), 16, (layer,), (ExitSpec(1),))
    assert _median_ms(reference_profile("edgent-pi3", spec), "small") == pytest.approx(1e-3)


def test_a_reference_says_that_it_is_transcribed():
    profile = reference_profile("edgent-pi3", SPEC)
    assert profile.transcribed.startswith("Li et al.")
    assert profile.host is None
    assert profile.branches[0][0].samples == 0
    check_profile(profile, SPEC)


def test_what_the_readings_give_device_only():
    maps, elements = whole_branch_s(SPEC, "maps"), whole_branch_s(SPEC, "elements")
    assert maps["edgent-pi3"][-1] == pytest.approx(0.1088, abs=1e-4)
    assert elements["edgent-pi3"][-1] == pytest.approx(0.2765, abs=1e-4)
    assert maps["edgent-pc"][-1] == pytest.approx(0.0054, abs=1e-4)
    assert elements["edgent-pc"][-1] == pytest.approx(0.0071, abs=1e-4)
    profile = reference_profile("edgent-pi3", SPEC)
    assert maps["edgent-pi3"][0] == pytest.approx(profile.layer_s(0).sum())


def test_the_papers_anchor_is_explained():
    gap = anchor_gap(SPEC)
    assert gap.ours_s == pytest.approx((0.1037, 1.9715), abs=1e-4)
    assert gap.implied_bytes == pytest.approx(14_434, abs=1)
    assert gap.implied_constant_s == pytest.approx(0.0075, abs=1e-4)
    assert gap.excess == pytest.approx(0.175, abs=1e-3)
    # the line does go through both of the paper's points
    for rate_bps, seconds in ((1e6, 0.123), (50e3, 2.317)):
        assert 8 * gap.implied_bytes / rate_bps + gap.implied_constant_s == pytest.approx(seconds)
    # nine segments: headers explain about a quarter of the excess
    assert gap.header_bytes == 9 * 66
    assert gap.header_bytes / gap.input_bytes < 0.3 * gap.excess


def test_an_unknown_reference_is_refused():
    with pytest.raises(UsageError, match="found 'pi4', expected one of edgent-pi3, edgent-pc"):
        reference_profile("pi4", SPEC)
