"""What is said of exits that save nothing, and of those that were wished for and not put in."""

from coinfer.cli.learning import exit_remarks
from coinfer.cli.learning.exit_remarks import dear_exits, fewer_exits
from models.capture import exits


def test_an_exit_as_dear_as_the_network_is_worth_a_line():
    said = dear_exits(["relu_6", "relu_18"], [0.0059, 0.0096, 0.010])
    assert len(said) == 1
    assert said[0].startswith(
        "exit 2, after relu_18, takes 9.60 ms on the device, the network 10.00 ms: it saves next to"
    )
    assert dear_exits(["relu_6"], [0.0094, 0.010]) == []
    assert dear_exits([], [0.010]) == []


def test_fewer_exits_than_were_wished_for_are_one_line():
    assert fewer_exits(0, None, "linear") == [
        "no exit was put in: the network has no place inside that costs less than 95 % of it"
    ]
    assert fewer_exits(0, 3, "front") == fewer_exits(0, None, "linear")
    assert fewer_exits(0, 0, "linear") == []
    (line,) = fewer_exits(2, 5, "linear")
    assert line.startswith("2 of 5 exits were put in: placement 'linear' has no more places")
    assert fewer_exits(5, 5, "linear") == fewer_exits(3, None, "linear") == []


def test_both_shares_are_the_same():
    assert exit_remarks.NEAR_END == exits.NEAR_END


def test_a_network_worse_than_a_guess_is_worth_a_word():
    """Classes in another order than the scores look like a network that has learnt nothing."""
    [line] = exit_remarks.below_chance(0.0, 10, labelled=True)
    assert "right for 0.0 % of the samples, by chance it would be for 10.0 %" in line
    assert "--classes" in line
    assert exit_remarks.below_chance(0.1, 10, labelled=True) == []
    assert exit_remarks.below_chance(0.0, 10, labelled=False) == []  # it agrees with itself
    assert exit_remarks.below_chance(0.0, 0, labelled=True) == []  # boxes, vectors
