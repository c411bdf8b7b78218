"""The Open Inference Protocol: what is understood, answered, and refused in one line."""

import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from artefacts import UsageError
from controller.daemon.inference_v2 import (
    OUTPUTS,
    Answer,
    build_answer,
    metadata,
    parse_infer,
)
from controller.daemon.pictures import decode_jpeg

SIZE = (4, 6)
PIXELS = 10_000


def request(**changed):
    given = {"name": "picture", "shape": [1, 4, 6, 3], "datatype": "UINT8"} | changed
    return {"inputs": [{k: v for k, v in given.items() if v is not None}]}


ZEROS = request(data=[0] * 72)


def parse(header, tail=b"", length=True):
    head = json.dumps(header).encode()
    return parse_infer(head + tail, str(len(head)) if length else None, SIZE, PIXELS)


def jpeg(width, height):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 90)).save(stream, "JPEG")
    return stream.getvalue()


def test_raw_pictures_come_as_bytes_or_as_numbers():
    picture = np.arange(72, dtype=np.uint8).reshape(1, 4, 6, 3)
    binary = request(parameters={"binary_data_size": 72}) | {"id": "seven"}
    found = parse(binary, picture.tobytes())
    assert np.array_equal(found.pictures, picture)
    assert (found.id, found.deadline_s, found.threshold) == ("seven", None, None)
    assert found.outputs == tuple((name, False) for name in OUTPUTS)
    assert np.array_equal(parse(request(data=picture.tolist()), length=False).pictures, picture)
    assert np.array_equal(parse(request(data=picture.ravel().tolist())).pictures, picture)


def test_parameters_say_how_it_is_to_be_answered():
    body = request(data=[0] * 72) | {
        "parameters": {"deadline_ms": 80, "threshold": 0.9, "binary_data_output": True},
        "outputs": [{"name": "exit"}, {"name": "label", "parameters": {"binary_data": False}}],
    }
    found = parse(body)
    assert (found.deadline_s, found.threshold) == (0.08, 0.9)
    assert found.outputs == (("exit", True), ("label", False))
    assert parse(request(data=[0] * 72) | {"parameters": {"timeout": 50_000}}).deadline_s == 0.05


def test_jpeg_files_come_as_bytes_elements_and_are_squashed():
    one, two = jpeg(60, 40), jpeg(6, 4)
    tail = b"".join(struct.pack("<I", len(f)) + f for f in (one, two))
    made = request(shape=[2], datatype="BYTES", parameters={"binary_data_size": len(tail)})
    found = parse(made, tail)
    assert found.pictures.shape == (2, 4, 6, 3)
    assert np.abs(found.pictures.astype(int) - (200, 30, 90)).max() < 8


def test_answers_are_json_or_raw_bytes():
    asked = parse(request(data=[0] * 72) | {"id": "x", "outputs": [
        {"name": "label", "parameters": {"binary_data": True}}, {"name": "confidence"},
        {"name": "exit", "parameters": {"binary_data": True}}]})  # fmt: skip
    body, length = build_answer("net", asked, [Answer(7, 0.5, 1, "a plan", "edge", 0.02)])
    head, tail = json.loads(body[:length]), body[length:]
    assert head["id"] == "x"
    assert head["parameters"] == {"plan": "a plan", "where": "edge", "latency_ms": 20.0}
    assert head["outputs"][0] == {
        "name": "label", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8},
    }  # fmt: skip
    assert head["outputs"][1]["data"] == [0.5]
    assert tail == struct.pack("<q", 7) + struct.pack("<i", 2)
    plain, none = build_answer(
        "net", parse(request(data=[0] * 72)), [Answer(7, 0.5, 1, "a", "edge", 0.02)]
    )
    assert none is None
    assert [o["data"] for o in json.loads(plain)["outputs"]] == [[7], [0.5], [2]]
    assert metadata("net", SIZE)["inputs"][0]["shape"] == [-1, 4, 6, 3]


@pytest.mark.parametrize(
    ("header", "tail", "said"),
    [
        ([], b"", "found list, expected an object"),
        ({}, b"", "inputs: found None"),
        ({"inputs": [{}, {}]}, b"", "expected one, called 'picture'"),
        (request(name="image"), b"", "inputs[0].name: found 'image'"),
        (request(shape=[1, 4, 4, 3], data=[0]), b"", "expected (N, 4, 6, 3)"),
        (request(shape=[0, 4, 6, 3]), b"", "expected 1 to 16 pictures"),
        (request(shape=[99, 4, 6, 3]), b"", "expected 1 to 16 pictures"),
        (request(shape="all"), b"", "inputs[0].shape: found 'all'"),
        (request(datatype="FP32"), b"", "inputs[0].datatype: found 'FP32'"),
        (request(data=[1, 2]), b"", "expected one a value"),
        (request(data=[256] * 72), b"", "beyond 0 to 255"),
        (request(), b"", "expected one a value"),
        (request(parameters={"binary_data_size": 72}), b"abc", "expected the 3 bytes"),
        (request(parameters=7), b"", "inputs[0].parameters: found 7"),
        (request(parameters={"binary_data_size": 3}), b"abc", "found 3 bytes, expected 72"),
        (request(datatype="BYTES", shape=[1]), b"", "expected JPEG files as binary data"),
        (request(datatype="BYTES", shape=[1], parameters={"binary_data_size": 8}),
         struct.pack("<I", 99) + b"abcd", "not 1 elements of BYTES"),
        (request(datatype="BYTES", shape=[1], parameters={"binary_data_size": 8}),
         struct.pack("<I", 4) + b"abcd", "no JPEG that can be read"),
        (ZEROS | {"parameters": {"deadline_ms": -1}}, b"", "deadline_ms: found -1"),
        (ZEROS | {"parameters": {"threshold": True}}, b"", "threshold: found True"),
        (request(data=[0] * 72) | {"outputs": [{"name": "logits"}]}, b"", "found 'logits'"),
        (request(data=[0] * 72) | {"outputs": 3}, b"", "outputs: found 3"),
        (ZEROS | {"outputs": [{"name": []}]}, b"", "outputs: found []"),
        (ZEROS | {"parameters": {"deadline_ms": 10**400}}, b"", "deadline_ms: found 1000"),
        (request(data=[1.7] + [0] * 71), b"", "expected one a value"),
        (request(data=["2"] + [0] * 71), b"", "expected one a value"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_in_one_line(header, tail, said):
    with pytest.raises(UsageError) as error:
        parse(header, tail)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_lengths_and_files_that_lie_are_refused():
    with pytest.raises(UsageError, match="expected at most 2"):
        parse_infer(b"{}", "3", SIZE, PIXELS)
    with pytest.raises(UsageError, match="expected at most"):
        parse_infer(b"{}", "9" * 5000, SIZE, PIXELS)
    with pytest.raises(UsageError, match="found '-1'"):
        parse_infer(b"{}", "-1", SIZE, PIXELS)
    with pytest.raises(UsageError, match="no valid JSON"):
        parse_infer(b"\xff\xfe", None, SIZE, PIXELS)
    with pytest.raises(UsageError, match="no valid JSON"):
        parse_infer(b"[" * 100_000, None, SIZE, PIXELS)
    with pytest.raises(UsageError, match="expected at most 10,000"):
        decode_jpeg(jpeg(200, 200), SIZE, PIXELS)
    with pytest.raises(UsageError, match="no JPEG"):
        decode_jpeg(jpeg(60, 40)[:100], SIZE, PIXELS)


@given(body=st.binary(max_size=200), length=st.none() | st.text(max_size=5))
def test_no_bytes_do_more_than_be_refused(body, length):
    with pytest.raises(UsageError):
        parse_infer(body, length, SIZE, PIXELS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(name=st.sampled_from(["shape", "datatype", "data", "parameters", "name"]), value=JSON)
def test_no_field_of_another_kind_does_more_than_be_refused(name, value):
    try:
        found = parse(request(**{"data": [0] * 72, name: value}))
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert found.pictures.shape == (1, 4, 6, 3)


@given(parameters=JSON, outputs=JSON)
def test_no_parameters_do_more_than_be_refused(parameters, outputs):
    try:
        found = parse(request(data=[0] * 72) | {"parameters": parameters, "outputs": outputs})
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert found.pictures.shape == (1, 4, 6, 3)
