"""An answer's JSON in pieces: the same as in one, and others have their turn meanwhile."""

import json
import threading
import time

import numpy as np
import pytest

from controller.daemon.http.answer_json import PIECE, json_object, nested, short_json, written
from controller.daemon.inference.answering import OutputTensor

pytestmark = pytest.mark.quick
RNG = np.random.default_rng(0)
SHAPES = [
    (0,),
    (1,),
    (PIECE,),
    (PIECE + 1,),
    (3, PIECE - 1),
    (5, 7, 411),
    (2, 3, PIECE),
    (PIECE, 3),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["<f4", "<f8", "<i8", "?", "u1"])
def test_what_is_written_in_pieces_is_what_json_would_write(shape, kind):
    values = (100 * RNG.normal(size=shape)).astype(kind)
    flat = "".join(written(OutputTensor("x", "FP32", shape, values)))
    assert f"[{flat}]" == json.dumps(values.ravel().tolist())
    assert json.loads("".join(nested(values.tolist()))) == values.tolist()


def test_texts_and_lists_are_written_alike():
    names = ["żółw", 'quoted "', ""] * PIECE
    elements = OutputTensor("names", "BYTES", (len(names),), [n.encode() for n in names])
    assert json.loads("[" + "".join(written(elements)) + "]") == names
    assert written(OutputTensor("label", "INT64", (2,), [7, 8])) == ["7, 8"]
    assert json.loads(json_object({}, "data", ["1, 2"])) == {"data": [1, 2]}
    assert json.loads(json_object({"a": "x"}, "data", [])) == {"a": "x", "data": []}


def test_a_short_answer_keeps_all_its_fields():
    for outputs in (
        {},
        {"a": 1.5, "b": [[1, 2], [3, 4]]},
        {"m": RNG.normal(size=(99, 99)).tolist()},
    ):
        fields = {"outputs": outputs, "confidence": 0.5, "plan": "exit 1"}
        assert json.loads(short_json(fields)) == fields
    fields = {"label": 3, "class": None, "confidence": 0.5}
    assert json.loads(short_json(fields)) == fields


def test_another_thread_has_its_turn_while_a_million_values_are_written():
    values = RNG.normal(size=2**20).astype(np.float32)
    ticks, ended = [], threading.Event()

    def tick():
        while not ended.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.002)

    thread = threading.Thread(target=tick)
    thread.start()
    before = len(ticks)
    try:
        text = "".join(written(OutputTensor("x", "FP32", values.shape, values)))
    finally:
        ended.set()
        thread.join()
    assert text.count(",") == len(values) - 1
    assert len(ticks) - before >= 10, "one call writes all of it in a single turn"
