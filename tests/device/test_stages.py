"""The stages of plans against what machines really do: order, node and interval of every piece.

A real device engine and a real edge over loopback, each with an executor that writes down all that
it is asked for and gives zeros of the right shape. Every plan of every shipped scenario is run.
"""

import functools
import threading
from functools import partial

import numpy as np
import pytest

from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.device.frame_loops import connect_engine
from controller.device.greeting import asked_intervals, most_reply_bytes
from controller.device.warming import warm
from controller.edge.limits import EdgeLimits
from controller.edge.server import EdgeServer
from controller.link.interface import NoLink
from controller.physics.stages import Decode, Encode, Layers, Reply, last_resort, plan_stages
from controller.planners.fixed import FixedController
from controller.plans import passed_exits
from controller.scenarios import load_setting, read_scenario, shipped_scenarios
from models.data.generated import generated_samples
from models.graphs.coding import decode_at, encode_at

PATIENCE_S = 60.0
"""Of a frame: a busy machine is no fault."""


class Written:
    """Writes down what a node is asked for. Where `may_begin` is given, decoding waits for it."""

    def __init__(self, node, model, log, may_begin=None):
        self._node, self._model, self._log, self._may_begin = node, model, log, may_begin
        self.logit = 0.0

    def _layer(self, layer, x):
        return np.zeros((len(x), *layer.output_shape(x.shape[1:])), dtype=np.float32)

    def run(self, branch, start, stop, x):
        shapes = self._model.spec.shapes[branch]
        assert x.shape[1:] == shapes[start]
        if start != stop:
            self._log.append((self._node, Layers(branch, start, stop)))
        y = np.zeros((len(x), *shapes[stop]), dtype=np.float32)
        if stop == len(self._model.spec.branches[branch]):
            y[:, 0] = self.logit
        return y

    def encode(self, codec, branch, cut, x):
        self._log.append((self._node, Encode(codec, branch, cut)))
        return encode_at(self._model, self._layer, codec, branch, cut, x)

    def decode(self, codec, branch, cut, meta, data):
        if self._may_begin is not None:
            assert self._may_begin.wait(PATIENCE_S)
        self._log.append((self._node, Decode(codec, branch, cut)))
        return decode_at(self._model, self._layer, codec, branch, cut, meta, data)


@functools.cache
def loaded(name):
    return load_setting(read_scenario(name))


class InTurn(FixedController):
    """Frame k by plan k."""

    def decide(self, situation):
        return situation.frame


def pieces(node, *stages):
    """What a node has to write down for these stages."""
    work = [w for stage in stages if stage is not None for w in stage.work]
    return [(node, w) for w in work if not (isinstance(w, Layers) and w.start == w.stop)]


def stages_of(setting, plan):
    anytime = not setting.closed_loop
    return plan_stages(setting.spec, plan, setting.topology, anytime=anytime)


def done(log, pieces):
    """Whether so many pieces have been begun; the log is another thread's."""
    return len(log) >= pieces


def a_picture(setting):
    takes, shape = setting.model.preprocessing, setting.spec.input_shape
    return generated_samples(takes, shape, 1, np.random.default_rng(0))[0]


def args(setting):
    return EngineArgs(PATIENCE_S, closed=setting.closed_loop)


def run_frame(engine, number, picture, ready=lambda: True, go=lambda: None):
    """One frame to its end; `go` is called once it is `ready`."""
    now = engine.clock()
    frame = engine.start(number, now, picture)
    while not ready() and not frame.over and engine.clock() < now + PATIENCE_S:
        engine.wait(engine.clock() + 0.002, frame)
    go()
    engine.wait(now + PATIENCE_S, frame)
    return frame


@pytest.mark.parametrize("name", shipped_scenarios())
def test_every_plan_runs_as_its_stages_say(name):
    """The edge waits until the device has done its own part: so the order of all is known."""
    setting, log, records = loaded(name), [], []
    may_begin = threading.Event()
    server = EdgeServer(
        setting.model, Written("edge", setting.model, log, may_begin), limits=EdgeLimits(warm=0)
    )
    server.start()
    engine = connect_engine(
        setting.model, Written("device", setting.model, log), setting.device, setting.table,
        InTurn("in turn", 0), (server.host, server.port), args(setting), on_record=records.append,
    )  # fmt: skip
    try:
        for number, plan in enumerate(setting.table.plans):
            stages = stages_of(setting, plan)
            own = pieces("device", *stages.prefix, *stages.meanwhile)
            log.clear()
            may_begin.clear()
            run_frame(
                engine, number, a_picture(setting), partial(done, log, len(own)), may_begin.set
            )
            beyond = [s for s in stages.chain if s.resource == "edge CPU"]
            expected = own + pieces("edge", *beyond) + pieces("device", stages.suffix)
            assert log == expected, str(plan)
            record = records[-1]
            assert (record.plan, record.exit, record.by_plan) == (number, plan.exit, True)
            # what an edge was asked is what they agreed on as they greeted
            asked = [(w.branch, w.start, w.stop) for n, w in log if n == "edge" and
                     isinstance(w, Layers)]  # fmt: skip
            assert set(asked) <= set(asked_intervals(setting.table))
            replies = [w for s in stages.chain for w in s.work if isinstance(w, Reply)]
            assert len(replies) == (0 if plan.is_local else 1)
    finally:
        may_begin.set()
        engine.close()
        engine.link.close()
        server.close()


@pytest.mark.parametrize("name", shipped_scenarios())
def test_without_an_edge_every_plan_falls_back_as_its_stages_say(name):
    setting, log = loaded(name), []
    engine = FrameEngine(
        setting.model, Written("device", setting.model, log), setting.device, setting.table,
        InTurn("in turn", 0), NoLink(), args(setting),
    )  # fmt: skip
    try:
        for number, plan in enumerate(setting.table.plans):
            stages = stages_of(setting, plan)
            log.clear()
            frame = run_frame(engine, number, a_picture(setting))
            passed = passed_exits(setting.spec, plan)
            asked = bool(passed) and passed[-1] in plan.gates
            own = stages.fallback if not stages.meanwhile else stages.meanwhile[0]
            # where a gate has answered for the deepest exit that was passed, that is it
            after = [] if asked or plan.is_local else pieces("device", own)
            assert log == pieces("device", *stages.prefix) + after, str(plan)
            assert frame.answer is not None or frame.local_answer is not None
    finally:
        engine.close()


@pytest.mark.parametrize("name", [n for n in shipped_scenarios() if n.endswith("mobilenet")])
def test_a_sure_gate_ends_a_plan_at_its_first_stage(name):
    setting, log, records = loaded(name), [], []
    executor = Written("device", setting.model, log)
    executor.logit = 1e3
    engine = FrameEngine(
        setting.model, executor, setting.device, setting.table, InTurn("in turn", 0), NoLink(),
        args(setting), on_record=records.append,
    )  # fmt: skip
    gated = [(k, p) for k, p in enumerate(setting.table.plans) if p.gates]
    assert gated
    try:
        for number, plan in gated:
            log.clear()
            run_frame(engine, number, a_picture(setting))
            first = stages_of(setting, plan).prefix[0]
            assert log == pieces("device", first), str(plan)
            assert (records[-1].exit, records[-1].by_plan) == (plan.gates[0], True)
    finally:
        engine.close()


@pytest.mark.parametrize("name", shipped_scenarios())
def test_all_that_a_device_may_run_is_warm_before(name):
    setting, log = loaded(name), []
    warm(setting, Written("device", setting.model, log))
    known = {work for _, work in log}
    for plan in setting.table.plans:
        stages = stages_of(setting, plan)
        may = pieces("device", *stages.prefix, *stages.meanwhile, stages.fallback, stages.suffix)
        assert {w for _, w in may if isinstance(w, Layers)} <= known, str(plan)
    assert {w for _, w in pieces("device", last_resort(setting.spec))} <= known
    replies = most_reply_bytes(setting.table)
    assert (replies > 0) == any(stages_of(setting, p).suffix for p in setting.table.plans)
