"""Small networks that take and give other things than pictures and classes, and what serves them.

It is all as in a daemon but for the process: model, plan table, engine, edge over TCP.
"""

import contextlib

import numpy as np

from controller.daemon.configuration.settings import LimitSettings
from controller.daemon.inference.served import ServedModel
from controller.daemon.service import FrameService
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.device.greeting import asked_intervals, most_reply_bytes
from controller.edge.server import EdgeServer
from controller.link.edge_link import EdgeLink
from controller.link.interface import NoLink
from controller.physics.building import build_table
from controller.planners.fixed import FixedController
from controller.plans import device_only, one_hop
from models.executors import OnnxExecutor
from models.facts.answers import BoxesAnswer, ClassAnswer, LabelsAnswer, TensorsAnswer, VectorAnswer
from models.facts.branchy import BranchySpec, ExitSpec
from models.facts.cards import Card, expected_shapes, load_model, model_digest, save_model
from models.facts.layers import LayerSpec
from models.facts.outcomes import Outcomes
from models.facts.preprocessing import (
    NamedTensor,
    PictureInput,
    SoundInput,
    TensorInput,
    TokenInput,
)
from models.facts.profiles import LayerProfile, Profile

TOKENS, SAMPLES, RATE_HZ, SIDE = 12, 400, 8000, 8
PAIR = (NamedTensor("features", "FP32", (2, 3)), NamedTensor("mask", "INT64", (4,)))
BOXES = BoxesAnswer(3, threshold=0.05)
OWN = TensorsAnswer(
    (
        NamedTensor("mask", "BOOL", (2,)),
        NamedTensor("depth", "FP64", (2, 2)),
        NamedTensor("count", "INT64"),
        NamedTensor("confidence"),
    )
)
KINDS = {
    "tokens": (TokenInput(50), (TOKENS,), LabelsAnswer(), 5, ("a", "b", "c", "d", "e"), "ids16"),
    "sound": (SoundInput(RATE_HZ), (SAMPLES,), VectorAnswer(), 6, (), "pcm16"),
    "tensors": (TensorInput(PAIR), (10,), BOXES, 18, ("cat", "dog"), "float32"),
    "own": (TensorInput(PAIR), (10,), OWN, 8, (), "float32"),
    "words": (TokenInput(50), (TOKENS,), ClassAnswer(), 3, ("no", "yes", "żółw"), "ids32"),
    "detector": (PictureInput(), (3, SIDE, SIDE), BOXES, 18, ("cat", "dog"), "uint8"),
}  # fmt: skip
"""Preprocessing, input's shape, answers, values of a row, classes, the raw sample's codec."""


def made_model(kind, folder, weight=0.5, pictures=None):
    """A model of one of `KINDS`, with two exits and random weights.

    `pictures`: how it takes them, in the place of what its kind says.
    """
    takes, shape, answers, values, classes, _ = KINDS[kind]
    if pictures is not None:
        takes, shape = pictures, (pictures.depth, *shape[1:])
    trunk = (
        *([LayerSpec("flat", "flatten")] if len(shape) > 1 else []),
        LayerSpec("fc1", "fc", channels=16),
        LayerSpec("relu1", "relu"),
        LayerSpec("fc2", "fc", channels=values),
    )
    first = ExitSpec(len(trunk) - 1, (LayerSpec("exit1.fc", "fc", channels=values),))
    spec = BranchySpec(kind, shape, values, trunk, (first, ExitSpec(len(trunk))))
    rng = np.random.default_rng(3)
    state = {
        name: rng.normal(0.0, weight / np.sqrt(size[-1]), size).astype(np.float32)
        for name, size in expected_shapes(spec).items()
    }
    if isinstance(answers, BoxesAnswer):  # else most of them have no area within a picture
        for layer in ("fc2", "exit1.fc"):
            state[f"{layer}.bias"][: 4 * answers.queries] += 0.5
    card = Card(
        format_version=2, name=kind, network=spec, digest=model_digest(spec, state),
        classes=classes, dataset="made up", preprocessing=takes, training={},
        held_back_accuracies=(), test_accuracies=(), answers=answers,
    )  # fmt: skip
    save_model(folder / kind, state, card)
    return load_model(folder / kind)


def made_profile(spec):
    """A machine that takes a tenth of a millisecond for each layer."""
    branches = tuple(
        tuple(
            LayerProfile(layer.name, layer.kind, 1e-4, 1e-4, 1, shape, 0, 0, 0)
            for layer, shape in zip(branch, shapes[1:], strict=True)
        )
        for branch, shapes in zip(spec.branches, spec.shapes, strict=True)
    )
    return Profile(
        1, "made up", spec.name, spec.digest, "onnx", 1, None, None, "made up", 0.0, 1.0, branches
    )


def made_table(model):
    """The last exit: on the device, at the edge from the raw sample, from a cut, and up to one."""
    spec, codec, last = model.spec, KINDS[model.spec.name][-1], len(model.spec.exits) - 1
    length = len(spec.branches[last])
    plans = [
        device_only(spec, last),
        one_hop(last, 0, length, codec),
        one_hop(last, length - 1, length, "float32"),
        one_hop(last, 0, length - 1, codec),
    ]
    keys = tuple((exit_, name, 0) for exit_ in range(2) for name in sorted({"float32", codec}))
    quality = np.ones((len(keys), 8), dtype=np.bool_)
    cuts = tuple((last, "float32", cut) for cut in range(1, length))
    keys, quality = (*keys, *cuts), np.ones((len(keys) + len(cuts), 8), dtype=np.bool_)
    outcomes = Outcomes(
        model.digest, "made up", keys, quality, np.full(quality.shape, 255, np.uint8),
        wire={(e, codec, 0): 20.0 for e in range(2)},
    )  # fmt: skip
    profile = made_profile(spec)
    table = build_table(spec, {"device": profile, "edge": profile}, outcomes, plans)
    return profile, table


@contextlib.contextmanager
def made_engine(model, plan=0, edge=None, deadline_s=5.0):
    """An engine that executes one of the table's plans; `edge` is a port on loopback."""
    profile, table = made_table(model)
    made = []
    link = NoLink()
    if edge is not None:
        link = EdgeLink(
            "127.0.0.1", edge, model.digest, lambda reply: made[0].on_reply(reply),
            intervals=asked_intervals(table), reply_bytes=most_reply_bytes(table, model.answers),
        )  # fmt: skip
    args = EngineArgs(deadline_s, always_rescue=True)
    controller = FixedController("fixed", plan)
    made.append(FrameEngine(model, OnnxExecutor(model), profile, table, controller, link, args))
    if edge is not None:
        assert link.wait_connected(5.0)
    yield made[0]


@contextlib.contextmanager
def made_service(model, plan=0):
    """A `ServedModel` whose frames are answered by a plan, with an edge where the plan has one."""
    with contextlib.ExitStack() as stack:
        edge = None
        if plan:
            server = EdgeServer(model, OnnxExecutor(model))
            server.start()
            stack.callback(server.close)
            edge = server.port
        engine = stack.enter_context(made_engine(model, plan, edge))
        service = FrameService(engine, 32)
        service.start()
        stack.callback(service.close)
        yield ServedModel(service, LimitSettings(), "0", model.card.classes)
