"""What `coinfer profile` takes and says of exits, in options and lines."""

import pytest

from artefacts import UsageError
from coinfer.cli.learning.profile_heads import HeadOptions, beyond_limit, exits_wanted, reasons
from models.networks.brought.brought_module import ProfileArgs


def test_five_exits_where_nothing_is_said():
    assert exits_wanted(None, named=False) == (5, True)
    assert exits_wanted(0, named=False) == (0, False)
    assert exits_wanted(2, named=False) == (2, False)
    assert exits_wanted(None, named=True) == (0, False)


def test_limits_are_those_of_the_device_and_go_on_to_the_plan():
    given = HeadOptions(max_latency="80ms", max_device_memory="4MiB")
    args = ProfileArgs(exits=1, **given.arguments(20.0))
    assert args.most_seconds == pytest.approx(0.004)
    assert args.most_bytes == 4 * 2**20
    assert given.for_plan == " --max-latency '80ms' --max-device-memory '4MiB'"
    assert HeadOptions().for_plan == ""
    with pytest.raises(UsageError, match="--max-latency: found '80'"):
        HeadOptions(max_latency="80").arguments(1.0)


def test_every_exit_says_why_it_stands_there():
    said = reasons(["relu", "add"], ["it was named; head conv, as given", "the mark is 40.0 %"])
    assert said[0] == "exit 1 stands after relu: it was named; head conv, as given"
    assert reasons(["relu"], []) == []
    assert beyond_limit(0.08, [0.07, 0.09, 0.2]) == [
        "exit 2 takes 90.0 ms on the device, more than --max-latency"
    ]
    assert beyond_limit(None, [0.07, 0.2]) == []


def test_what_means_nothing_is_refused_and_old_names_are_read():
    assert ProfileArgs(placement="pareto").placement == "front"
    assert ProfileArgs(placement="pareto-memory").placement == "front-memory"
    with pytest.raises(UsageError, match="--head-kind: found 'wide', expected auto, linear"):
        ProfileArgs(head_kind="wide")
    with pytest.raises(UsageError, match="--distillation: found 2"):
        ProfileArgs(distillation=2)
