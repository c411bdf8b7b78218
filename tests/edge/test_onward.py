"""An edge hands work on: three nodes in a row over TCP, and what happens where one is away."""

import contextlib
import threading
import time

import numpy as np
import pytest
from nodes_in_a_row import (
    EXIT,
    PATIENT_S,
    START,
    STOP,
    Asker,
    T,
    by_hand,
    chain,
    edge_before,
    scripted_node,
)

from controller.edge.server import EdgeServer
from controller.link.edge_link import EdgeLink
from controller.plans import Hop, Plan
from controller.wire import Message
from models.executors import OnnxExecutor
from models.facts.cards import load_model


@pytest.fixture(scope="module")
def model():
    return load_model("alexnet")


@pytest.fixture(scope="module")
def executor(model):
    made = OnnxExecutor(model)
    length = len(model.spec.branches[EXIT])
    for start, stop in ((0, START), (START, STOP), (STOP, length), (START, length), (0, length)):
        made.warm(EXIT, start, stop)
    return made


@pytest.fixture(scope="module")
def sample(model):
    shape = (1, *model.spec.input_shape)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture
def row(model, executor, serving):
    """(device, edge, cloud)."""
    with (
        serving(model, executor) as cloud,
        edge_before(model, executor, cloud=cloud.port) as edge,
    ):
        asker = Asker(model, executor, edge.port)
        with contextlib.closing(asker.link):
            yield asker, edge, cloud


def test_an_answer_comes_back_over_two_nodes_with_the_times_of_each(row, model, executor, sample):
    asker, edge, cloud = row
    hops = chain(model)
    reply = asker.ask(sample, hops)
    assert reply.error is None
    expected = by_hand(model, executor, sample, hops)
    assert reply.meta["class"] == int(expected.argmax())
    assert (edge.requests.next.handed_on, cloud.served) == (1, 1)
    [further] = reply.meta["hops"]
    assert further["node"] == "cloud"
    assert 0 < further["compute_s"] < PATIENT_S
    assert 0 < reply.meta["compute_s"] < PATIENT_S
    assert reply.meta["received_bytes"] > 0  # what the first link is measured by


def test_what_is_for_the_far_node_alone_is_passed_on(row, model, executor, sample):
    asker, edge, cloud = row
    hops = (Hop("cloud", START, len(model.spec.branches[EXIT]), "int8"),)
    reply = asker.ask(sample, hops)
    assert reply.meta["class"] == int(by_hand(model, executor, sample, hops).argmax())
    assert (edge.served, cloud.served) == (0, 1)


def test_a_tensor_comes_back_where_the_device_has_the_rest(row, model, executor, sample):
    asker, _, _ = row
    hops = (Hop("edge", START, 5, "int8"), Hop("cloud", 5, STOP, "int8"))
    reply = asker.ask(sample, hops)
    shape = model.spec.shapes[EXIT][STOP]
    found = np.frombuffer(reply.data, dtype="<f4").reshape(shape)
    assert tuple(reply.meta["shape"]) == shape
    assert np.array_equal(found, by_hand(model, executor, sample, hops))


def test_four_nodes_in_a_row(model, executor, sample, serving):
    length = len(model.spec.branches[EXIT])
    with (
        serving(model, executor) as last,
        edge_before(model, executor, far=last.port) as middle,
        edge_before(model, executor, cloud=middle.port) as edge,
    ):
        asker = Asker(model, executor, edge.port)
        with contextlib.closing(asker.link):
            hops = (
                Hop("edge", START, 4, "int8"), Hop("cloud", 4, STOP, "int8"),
                Hop("far", STOP, length, "int8"),
            )  # fmt: skip
            reply = asker.ask(sample, hops)
    assert reply.meta["class"] == int(by_hand(model, executor, sample, hops).argmax())
    assert [one["node"] for one in reply.meta["hops"]] == ["cloud", "far"]


def test_where_the_next_node_is_gone_the_edge_computes_the_rest(row, model, executor, sample):
    asker, edge, cloud = row
    cloud.close()
    until = time.monotonic() + PATIENT_S
    while not edge.requests.next.states["cloud"] and time.monotonic() < until:
        threading.Event().wait(0.005)
    assert edge.requests.next.states["cloud"]
    expected = int(by_hand(model, executor, sample, chain(model)).argmax())
    for hops in (chain(model), (Hop("cloud", START, len(model.spec.branches[EXIT]), "int8"),)):
        reply = asker.ask(sample, hops)
        assert reply.error is None
        assert reply.meta["class"] == expected
        assert reply.meta["away"] == "cloud"
    assert not edge.peers or next(iter(edge.peers)).admitted == 0


def test_a_node_that_takes_and_never_answers_costs_its_requests_and_no_more(
    model, executor, sample
):
    """After two the edge computes the rest itself, and what was given up holds no place."""
    with (
        scripted_node(model, None) as (port, came),
        edge_before(model, executor, cloud=port) as edge,
    ):
        asker = Asker(model, executor, edge.port)
        with contextlib.closing(asker.link):
            said = [asker.ask(sample, chain(model), until_s=0.4) for _ in range(3)]
            assert [one.error for one in said[:2]] == ["'cloud' gave no answer in time"] * 2
            assert said[2].meta["away"] == "cloud"
            assert [peer.admitted for peer in edge.peers] == [0]
    assert came.count(T.REQUEST) == 2


@pytest.mark.parametrize(
    "meta",
    [
        {"class": "cat", "confidence": 0.5, "bytes": 0},
        {"class": 1, "confidence": 0.5, "bytes": 0, "hops": 7},
        {"class": 1, "confidence": 0.5, "bytes": 0, "hops": [{}] * 90},
        {"class": 1, "confidence": 0.5, "bytes": 0, "queue_s": "x"},
    ],
)
def test_what_a_node_lies_is_not_passed_on_and_the_edge_computes_the_rest(
    model, executor, sample, meta
):
    def lie(request):
        return Message(T.REPLY, request, meta=meta)

    with (
        scripted_node(model, lie) as (port, _),
        edge_before(model, executor, cloud=port) as edge,
    ):
        asker = Asker(model, executor, edge.port)
        with contextlib.closing(asker.link):
            reply = asker.ask(sample, chain(model))
            assert reply.meta["class"] == int(
                by_hand(model, executor, sample, chain(model)).argmax()
            )
            assert reply.meta["away"] == "cloud"
        assert any("no answer from beyond ('cloud': " in error for error in edge.errors)


def test_where_the_node_says_that_the_sample_is_at_fault_nobody_computes_it_again(
    model, executor, sample
):
    def refuse(request):
        return Message(T.REFUSE, request, meta={"reason": "an id beyond", "failed": True})

    with (
        scripted_node(model, refuse) as (port, _),
        edge_before(model, executor, cloud=port) as edge,
    ):
        asker = Asker(model, executor, edge.port)
        with contextlib.closing(asker.link):
            reply = asker.ask(sample, chain(model))
    assert reply.error == "'cloud': an id beyond"
    assert reply.meta["failed"] is True


def test_a_long_request_does_not_end_the_link_to_the_next_node(row, model, sample):
    asker, edge, _ = row
    hops = (Hop("cloud", START, len(model.spec.branches[EXIT]), "int8"),)
    reply = asker.ask(sample, hops, other="x" * 3000)
    assert "metadata: found more than 2048 bytes" in reply.error
    assert asker.ask(sample, hops).error is None
    assert [peer.admitted for peer in edge.peers] == [0]


def test_a_node_with_other_weights_is_no_node(model, executor, sample):
    other = OnnxExecutor(load_model("mobilenetv2"))
    server = EdgeServer(other.model, other)
    server.start()
    try:
        edge = EdgeServer(model, executor)
        edge.hand_on(
            "cloud", model.digest,
            lambda report: EdgeLink("127.0.0.1", server.port, model.digest, report),
        )  # fmt: skip
        edge.start()
        asker = Asker(model, executor, edge.port)
        with contextlib.closing(asker.link):
            assert asker.ask(sample, chain(model)).meta["away"] == "cloud"
            assert "model digest: found" in edge.requests.next.states["cloud"]
    finally:
        edge.close()
        server.close()


def until(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENT_S
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.002)


def test_cancelled_at_the_device_is_cancelled_everywhere(model, executor, sample):
    with (
        scripted_node(model, None) as (port, came),
        edge_before(model, executor, cloud=port) as edge,
    ):
        asker = Asker(model, executor, edge.port)
        with contextlib.closing(asker.link):
            number = asker.send(sample, chain(model))
            until(lambda: edge.requests.next.handed_on and T.CHUNK in came)
            asker.link.cancel(number)
            reply = asker.answer()
            assert (reply.request_id, reply.cancelled) == (number, True)
            assert [peer.admitted for peer in edge.peers] == [0]
            until(lambda: T.CANCEL in came)


def test_what_is_cancelled_while_it_is_computed_is_not_handed_on(model, executor, sample, serving):
    held = Held(executor)
    with serving(model, executor) as cloud, edge_before(model, held, cloud=cloud.port) as edge:
        asker = Asker(model, executor, edge.port)
        with contextlib.closing(asker.link):
            numbers = [asker.send(sample, chain(model)) for _ in range(2)]
            assert held.begun.wait(PATIENT_S)
            until(lambda: sum(peer.admitted for peer in edge.peers) == 2)
            for number in numbers:  # one is computed, the other may wait
                asker.link.cancel(number)
            threading.Event().wait(0.05)
            held.may.set()
            replies = [asker.answer() for _ in numbers]
            assert all(reply.cancelled for reply in replies)
            assert [peer.admitted for peer in edge.peers] == [0]
        assert edge.requests.next.handed_on == 0


def test_one_device_s_garbage_and_haste_shut_the_next_node_for_nobody(row, model, executor, sample):
    asker, edge, _ = row
    other = Asker(model, executor, edge.port)
    whole = (Hop("cloud", START, len(model.spec.branches[EXIT]), "int8"),)
    with contextlib.closing(other.link):
        for _ in range(4):
            meta = {
                "model": model.digest, "exit": EXIT, "start": START, "stop": START,
                "codec": "int8", "shape": list(model.spec.shapes[EXIT][START]),
                "hops": [["cloud", START, whole[0].stop, "int8"]],
            }  # fmt: skip
            other.link.upload(meta, bytes(50), time.monotonic() + PATIENT_S)
            assert other.answer().error is not None
            other.send(sample, chain(model), until_s=1e-4)
            other.answer()
            reply = asker.ask(sample, chain(model))
            assert reply.error is None
            assert "away" not in reply.meta


def test_a_device_that_leaves_takes_back_what_it_asked(model, executor, sample):
    with (
        scripted_node(model, None) as (port, _),
        edge_before(model, executor, cloud=port) as edge,
    ):
        asker = Asker(model, executor, edge.port)
        asker.send(sample, chain(model))
        until = time.monotonic() + PATIENT_S
        while not edge.requests.next.handed_on and time.monotonic() < until:
            threading.Event().wait(0.002)
        asker.link.close()
        while edge.peers and time.monotonic() < until:
            threading.Event().wait(0.002)
        assert edge.requests.next.cancel(lambda job: True) == []


class Held:
    """An executor that computes once it may."""

    def __init__(self, executor):
        self._executor, self.begun, self.may = executor, threading.Event(), threading.Event()

    def run(self, *given):
        self.begun.set()
        self.may.wait(PATIENT_S)
        return self._executor.run(*given)

    def __getattr__(self, name):
        return getattr(self._executor, name)


def test_what_was_computed_for_a_device_that_has_left_is_not_handed_on(
    model, executor, sample, serving
):
    held = Held(executor)
    with serving(model, executor) as cloud, edge_before(model, held, cloud=cloud.port) as edge:
        asker = Asker(model, executor, edge.port)
        asker.send(sample, chain(model))
        assert held.begun.wait(PATIENT_S)
        [peer] = edge.peers
        assert peer.admitted == 1
        asker.link.close()
        until = time.monotonic() + PATIENT_S
        while edge.peers and time.monotonic() < until:
            threading.Event().wait(0.002)
        held.may.set()
        while peer.admitted and time.monotonic() < until:
            threading.Event().wait(0.002)
        assert (peer.admitted, edge.requests.next.handed_on) == (0, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hops": [["mars", 6, 13, "int8"]]}, "hops: found node 'mars', expected one of cloud"),
        ({"hops": [["cloud", 6, 13, "int8"]] * 9}, "expected 1 to 8 of them"),
        ({"hops": []}, "expected 1 to 8 of them"),
        ({"hops": "cloud"}, "expected 1 to 8 of them"),
        ({"hops": [["cloud", 6, "13", "int8"]]}, r"expected [node, start, stop, codec]"),
        ({"hops": [["cloud", 7, 13, "int8"]]}, "expected them to go on from layer 6"),
        ({"hops": [["cloud", 6, 99, "int8"]]}, "layers"),
        ({"hops": [["cloud", 6, 13, "zip"]]}, "zip"),
        ({"hops": [["cloud", 6, 13, "uint8"]]}, "carries the raw sample"),
        ({"stop": START, "hops": [["cloud", 3, 13, "float32"]]}, "expected what came: 'int8'"),
    ],
)
def test_hops_that_do_not_fit_together_are_refused_in_one_line(row, sample, model, change, said):
    asker, edge, cloud = row
    length = len(model.spec.branches[EXIT])
    for hop in change["hops"] if isinstance(change["hops"], list) else ():
        hop[2] = length if hop[2] == 13 else hop[2]
    reply = asker.ask(sample, chain(model), **change)
    assert said in reply.error
    assert "\n" not in reply.error
    assert (edge.requests.next.handed_on, cloud.served) == (0, 0)


def test_an_edge_that_hands_nothing_on_says_so(model, executor, sample, serving):
    with serving(model, executor) as edge:
        asker = Asker(model, executor, edge.port)
        with contextlib.closing(asker.link):
            reply = asker.ask(sample, chain(model))
    assert "expected one of none: this edge hands nothing on" in reply.error


def test_a_plan_says_so_by_its_hops():
    """What a device asks for is what `Plan` has."""
    plan = Plan(EXIT, (Hop("edge", 1, 2), Hop("cloud", 2, 3, "int8")))
    assert str(plan) == "exit 5, edge [1, 2), float32, cloud [2, 3), int8"
