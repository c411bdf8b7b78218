"""Architectures of the `transformers` library, split over TCP: an edge computes what lies between
two cuts, or all behind one, and the answer is that of the whole network.
"""

import contextlib

import msgspec
import numpy as np
import pytest
from made_networks import made_profile

from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.device.frame_loops import DeviceConfig, DeviceLoop
from controller.device.greeting import asked_intervals, most_reply_bytes
from controller.edge.server import EdgeServer
from controller.link.edge_link import EdgeLink
from controller.physics.building import build_table
from controller.planners.fixed import FixedController
from controller.plans import one_hop
from experiments.analyses.architectures.signed import SIDE, SIGNED, signed_model, signed_samples
from models.executors import OnnxExecutor
from models.facts.answers import BoxesAnswer, VectorAnswer
from models.facts.cards import Card, load_model, model_digest, save_model
from models.facts.outcomes import Outcomes

# torch warns of its own older parts where these modules are made
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
ANSWERS = {
    "Bert, a vector for every token": VectorAnswer(),
    "Yolos, boxes": BoxesAnswer(10, "softmax"),
}


@pytest.fixture(scope="module", params=ANSWERS)
def split(request, tmp_path_factory):
    """A model as a device and an edge load it, its module, and four raw samples."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    from models.capture.lower import lower_verified

    name, answers = request.param, ANSWERS[request.param]
    module, x = signed_model(name), signed_samples(name)
    taken, raw = SIGNED[name].taken, x.numpy().astype(np.int32)
    if name.startswith("Yolos"):
        raw = np.random.default_rng(4).integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
    spec, state, _ = lower_verified(module, x[:2], "split", samples=x, made_up=False)
    spec = msgspec.structs.replace(spec, returns_row=True)
    card = Card(
        format_version=2, name="split", network=spec, digest=model_digest(spec, state),
        classes=(), dataset="made up", preprocessing=taken, training={},
        held_back_accuracies=(), test_accuracies=(), answers=answers,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("split")
    save_model(folder, state, card)
    return load_model(folder), module, raw


def table_of(model, cuts):
    """One plan: an edge computes the layers between two cuts."""
    spec = model.spec
    keys = tuple((0, "float32", cut) for cut in range(len(spec.branches[0])))
    quality = np.ones((len(keys), 8), dtype=np.bool_)
    sure = np.full(quality.shape, 255, np.uint8)
    outcomes = Outcomes(model.digest, "made up", keys, quality, sure)
    profile = made_profile(spec)
    plan = one_hop(0, *cuts, rescue=False)
    table = build_table(spec, {"device": profile, "edge": profile}, outcomes, [plan], anytime=False)
    return profile, table


def frames(model, raw, cuts):
    """Records of samples (N, ...) by that plan, over a socket on loopback; and the edge's count."""
    profile, table = table_of(model, cuts)
    with contextlib.ExitStack() as stack:
        server = EdgeServer(model, OnnxExecutor(model))
        server.start()
        stack.callback(server.close)
        made = []
        link = EdgeLink(
            "127.0.0.1", server.port, model.digest, lambda reply: made[0].on_reply(reply),
            intervals=asked_intervals(table), reply_bytes=most_reply_bytes(table, model.answers),
        )  # fmt: skip
        stack.callback(link.close)
        config = DeviceConfig("closed", 20.0, frames=len(raw))
        args = EngineArgs(20.0, closed=True)
        decide = FixedController("fixed", 0)
        executor = OnnxExecutor(model)
        made.append(FrameEngine(model, executor, profile, table, decide, link, args))
        assert link.wait_connected(10.0)
        return DeviceLoop(made[0], config).run(raw), server.served


@pytest.mark.parametrize("to_the_end", [False, True])
def test_what_is_split_over_tcp_answers_as_the_whole_network(split, to_the_end):
    model, module, raw = split
    length = len(model.spec.branches[0])
    cuts = (length // 3, length if to_the_end else 2 * length // 3)
    assert 0 < cuts[0] < cuts[1]
    records, served = frames(model, raw, cuts)
    assert served == len(raw) == len(records)
    whole = OnnxExecutor(model).run(0, 0, length, model.normalise(raw))
    import torch

    with torch.inference_mode():
        own = module(torch.from_numpy(model.normalise(raw))).numpy()
    for record, row, right in zip(records, whole, own, strict=True):
        assert record.error is None
        assert record.by_plan
        assert record.where == ("edge" if to_the_end else "device")
        assert record.bytes_sent > 0
        found = np.frombuffer(record.values, "<f4")
        assert np.allclose(found, row, atol=1e-5)
        assert np.abs(found - right).max() <= 1e-4 * np.abs(right).max()
    assert len({record.values for record in records}) == len(raw)
