"""What a device expects of its edge: the tensors that its plans ask for, and answers' rows."""

import dataclasses

import pytest
from made_networks import made_model, made_table

from artefacts import UsageError
from controller.device.greeting import asked_intervals, most_reply_bytes
from controller.wire.inbox import MAX_TENSOR_BYTES
from models.facts.answers import CLASSES, VectorAnswer


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return made_table(made_model("sound", tmp_path_factory.mktemp("models")))[1]


def test_an_answer_that_is_no_class_comes_back_as_its_row(table):
    assert most_reply_bytes(table, VectorAnswer()) == 4 * 16  # of the plan that ends on the device
    assert most_reply_bytes(table) == 4 * 16
    whole = [plan for plan in table.plans if plan.hops and plan.hops[-1].stop == 3]
    ends = dataclasses.replace(table, plans=tuple(whole))
    assert most_reply_bytes(ends, CLASSES) == 0
    assert most_reply_bytes(ends, VectorAnswer()) == 4 * 6


def test_an_answer_longer_than_crosses_a_link_is_refused(table):
    class Long:
        classes = MAX_TENSOR_BYTES
        name = "long"

    class Table:
        spec, topology, plans = Long, table.topology, ()

    with pytest.raises(UsageError, match="'long': found answers of 33,554,432 bytes, expected"):
        most_reply_bytes(Table, VectorAnswer())
    assert most_reply_bytes(Table) == 0


def test_intervals_are_those_of_the_plans(table):
    assert asked_intervals(table) == [(1, 0, 2), (1, 0, 3), (1, 2, 3)]
