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
from controller.daemon.http.inference_v2 import (
    build_answer,
    parse_infer,
    read_query,
)
from controller.daemon.inference.open_inference import (
    DATATYPES,
    LONGEST_ID,
    OUTPUTS,
    Answer,
    Expected,
    Wanted,
    metadata,
)
from controller.daemon.inference.pictures import JpegFiles, decode_jpeg, inspect_jpeg

pytestmark = pytest.mark.quick

SIZE = (4, 6)
PIXELS = 10_000
CLASSES = ("cat", "dog: a breed", "żółw", "d", "e", "f", "g", "h")
EXPECTED = Expected(SIZE, CLASSES)


def request(**changed):
    given = {"name": "picture", "shape": [1, 4, 6, 3], "datatype": "UINT8"} | changed
    return {"inputs": [{k: v for k, v in given.items() if v is not None}]}


ZEROS = request(data=[0] * 72)


def parse(header, tail=b"", length=True):
    head = json.dumps(header).encode()
    return parse_infer(head + tail, str(len(head)) if length else None, EXPECTED, ("net", "1"))


def jpeg(width, height):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 90)).save(stream, "JPEG")
    return stream.getvalue()


def decoded(data):
    return decode_jpeg(inspect_jpeg(data, PIXELS), SIZE)


def test_raw_pictures_come_as_bytes_or_as_numbers():
    picture = np.arange(72, dtype=np.uint8).reshape(1, 4, 6, 3)
    binary = request(parameters={"binary_data_size": 72}) | {"id": "seven"}
    found = parse(binary, picture.tobytes())
    assert np.array_equal(found.pictures, picture)
    assert (found.id, found.deadline_s, found.threshold) == ("seven", None, None)
    assert found.outputs == tuple(Wanted(name) for name in OUTPUTS)
    assert np.array_equal(parse(request(data=picture.tolist()), length=False).pictures, picture)
    assert np.array_equal(parse(request(data=picture.ravel().tolist())).pictures, picture)


def test_parameters_say_how_it_is_to_be_answered():
    body = request(data=[0] * 72) | {
        "parameters": {"deadline_ms": 80, "threshold": 0.9, "binary_data_output": True},
        "outputs": [{"name": "exit"}, {"name": "label", "parameters": {"binary_data": False}}],
    }
    found = parse(body)
    assert (found.deadline_s, found.threshold) == (0.08, 0.9)
    assert found.outputs == (Wanted("exit", True), Wanted("label"))
    assert parse(request(data=[0] * 72) | {"parameters": {"timeout": 50_000}}).deadline_s == 0.05


def test_jpeg_files_come_as_bytes_elements_and_are_squashed():
    one, two = jpeg(60, 40), jpeg(6, 4)
    tail = b"".join(struct.pack("<I", len(f)) + f for f in (one, two))
    made = request(shape=[2], datatype="BYTES", parameters={"binary_data_size": len(tail)})
    found = parse(made, tail)
    assert found.pictures == JpegFiles((one, two))
    for file in found.pictures.files:
        picture = decoded(file)
        assert picture.shape == (4, 6, 3)
        assert np.abs(picture.astype(int) - (200, 30, 90)).max() < 8


def test_answers_are_json_or_raw_bytes():
    asked = parse(request(data=[0] * 72) | {"id": "x", "outputs": [
        {"name": "label", "parameters": {"binary_data": True}}, {"name": "confidence"},
        {"name": "exit", "parameters": {"binary_data": True}}]})  # fmt: skip
    body, length = build_answer("net", "1", asked, [Answer(7, 0.5, 1, "a plan", "edge", 0.02)])
    head, tail = json.loads(body[:length]), body[length:]
    assert head["id"] == "x"
    assert head["parameters"] == {"plan": "a plan", "where": "edge", "latency_ms": 20.0}
    assert head["outputs"][0] == {
        "name": "label", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8},
    }  # fmt: skip
    assert head["outputs"][1]["data"] == [0.5]
    assert tail == struct.pack("<q", 7) + struct.pack("<i", 2)
    plain, none = build_answer(
        "net", "1", parse(request(data=[0] * 72)), [Answer(7, 0.5, 1, "a", "edge", 0.02)]
    )
    assert none is None
    assert [o["data"] for o in json.loads(plain)["outputs"]] == [[7], [0.5], [2]]
    names = tuple(f"kind {k}" for k in range(8))
    named, none = build_answer(
        "net", "1", parse(request(data=[0] * 72)), [Answer(7, 0.5, 1, "a", "edge", 0.02)], names
    )
    assert json.loads(named)["parameters"]["class"] == "kind 7"
    assert metadata("net", SIZE)["inputs"][0]["shape"] == [-1, 4, 6, 3]


@pytest.mark.parametrize(
    ("header", "tail", "said"),
    [
        ([], b"", "infer request: found [], expected an object"),
        ({}, b"", "inputs: found 0, expected one"),
        ({"inputs": 7}, b"", "inputs: found 7, expected a list"),
        ({"inputs": [3]}, b"", "inputs[0]: found 3, expected an object"),
        ({"inputs": [{}, {}]}, b"", "expected one, called 'picture'"),
        (request(name="image"), b"", "inputs[0].name: found 'image'"),
        (request(shape=[1, 4, 4, 3], data=[0]), b"", "expected (N, 4, 6, 3)"),
        (request(shape=[0, 4, 6, 3]), b"", "expected 1 to 16 pictures"),
        (request(shape=[99, 4, 6, 3]), b"", "expected 1 to 16 pictures"),
        (request(shape="all"), b"", "inputs[0].shape: found 'all'"),
        (request(datatype="FP32"), b"", "inputs[0].datatype: found FP32, expected UINT8 (N,"),
        (request(datatype="uint8"), b"", "'uint8', which is no datatype of the protocol"),
        (request(datatype=["UINT8"]), b"", "which is no datatype of the protocol"),
        (request(datatype="BYTES", shape=[2, 3]), b"", "expected (N) for BYTES"),
        (request(data=[1, 2]), b"", "expected one a value"),
        (request(data=[256] * 72), b"", "Expected 'int' <= 255"),
        (request(data=[True] + [0] * 71), b"", "got 'bool'"),
        (request(data=[[0] * 72]), b"", "expected one a value"),
        (request(data=[[[[0] * 3] * 4] * 6]), b"", "found no 72 whole numbers"),
        (request(data=[[[[0] * 3] * 6] * 3 + [[[0] * 2] * 9]]), b"", "of length 3"),
        (request(data=[[[[0] * 3] * 5, [[0] * 3] * 7] + [[[0] * 3] * 6] * 2]), b"",
         "rows of different lengths"),
        (request(data=[[[[0] * 3] * 6] * 2] * 2), b"", "Expected 'array' of length 1"),
        (request(), b"", "expected one a value"),
        (request(parameters={"binary_data_size": 72}), b"abc", "expected the 3 bytes"),
        (request(data=[0] * 72), b"abc", "found 3 bytes behind the JSON"),
        (request(data=[0] * 72, parameters={"binary_data_size": 3}), b"abc", "JSON and as bytes"),
        (request(parameters=7), b"", "inputs[0].parameters: found 7"),
        (request(parameters={"binary_data_size": 3}), b"abc", "found 3 bytes, expected 72"),
        (request(datatype="BYTES", shape=[1]), b"", "expected JPEG files as binary data"),
        (request(datatype="BYTES", shape=[1], parameters={"binary_data_size": 8}),
         struct.pack("<I", 99) + b"abcd", "not 1 elements of BYTES"),
        (ZEROS | {"parameters": {"deadline_ms": -1}}, b"", "deadline_ms: found -1"),
        (ZEROS | {"parameters": {"threshold": True}}, b"", "threshold: found True"),
        (request(data=[0] * 72) | {"outputs": [{"name": "logits"}]}, b"", "found 'logits'"),
        (request(data=[0] * 72) | {"outputs": 3}, b"", "outputs: found 3"),
        (ZEROS | {"outputs": [{"name": []}]}, b"", "outputs: found []"),
        (ZEROS | {"outputs": [{"name": "exit"}, {"name": "exit"}]}, b"", "found 'exit' twice"),
        (ZEROS | {"outputs": [{"name": "exit", "shape": [1]}]}, b"", "outputs[0]: found 'shape'"),
        (ZEROS | {"outputs": [{"name": "exit", "parameters": {"binary": True}}]}, b"",
         "outputs 'exit': found 'binary', expected binary_data or classification"),
        (ZEROS | {"outputs": [{"name": "exit", "parameters": {"binary_data": 1}}]}, b"",
         "outputs 'exit'.binary_data: found 1, expected true or false"),
        (ZEROS | {"parameters": {"dedline_ms": 1}}, b"",
         "parameters: found 'dedline_ms', expected deadline_ms, timeout, threshold or"),
        (ZEROS | {"parameters": {"binary_data_output": "yes"}}, b"", "found 'yes', expected true"),
        (ZEROS | {"parameters": {"sequence_id": 3}}, b"", "found 'sequence_id'"),
        (ZEROS | {"paramters": {}}, b"", "infer request: found 'paramters'"),
        (request(data=[0] * 72, shpae=[1]), b"", "inputs[0]: found 'shpae'"),
        (request(data=[0] * 72, parameters={"content_type": "np"}), b"", "found 'content_type'"),
        (ZEROS | {"id": 7}, b"", "id: found 7, expected text"),
        (ZEROS | {"id": {"a": 1}}, b"", "expected text"),
        (ZEROS | {"id": "x" * (LONGEST_ID + 1)}, b"", "found 1025 characters, expected at most"),
        (ZEROS | {"model_name": "other"}, b"", "model_name: found 'other', expected 'net'"),
        (ZEROS | {"model_version": "2"}, b"", "model_version: found '2', expected '1'"),
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
        parse_infer(b"{}", "3", EXPECTED)
    with pytest.raises(UsageError, match="expected at most"):
        parse_infer(b"{}", "9" * 5000, EXPECTED)
    with pytest.raises(UsageError, match="found '-1'"):
        parse_infer(b"{}", "-1", EXPECTED)
    with pytest.raises(UsageError, match="no valid JSON"):
        parse_infer(b"\xff\xfe", None, EXPECTED)
    with pytest.raises(UsageError, match="no valid JSON"):
        parse_infer(b'{"id":' + b"[" * 100_000, None, EXPECTED)
    with pytest.raises(UsageError, match="expected an object"):
        parse_infer(b"[" * 100_000, None, EXPECTED)
    with pytest.raises(UsageError, match="expected at most 10,000"):
        decoded(jpeg(200, 200))
    with pytest.raises(UsageError, match="no JPEG"):
        decoded(jpeg(60, 40)[:100])


@given(body=st.binary(max_size=200), length=st.none() | st.text(max_size=5))
def test_no_bytes_do_more_than_be_refused(body, length):
    with pytest.raises(UsageError):
        parse_infer(body, length, EXPECTED)


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


def test_ids_come_back_as_they_came():
    for sent in ({}, {"id": None}):
        found = parse(ZEROS | sent)
        assert found.id is None
        body, _ = build_answer("net", "1", found, [Answer(7, 0.5, 1, "a", "edge", 0.02)])
        assert "id" not in json.loads(body)
    for sent in ("", "7", "x" * 300, "x" * LONGEST_ID, 'quoted " \\ and żółw \0'):
        found = parse(ZEROS | {"id": sent})
        body, _ = build_answer("net", "1", found, [Answer(7, 0.5, 1, "a", "edge", 0.02)])
        assert json.loads(body)["id"] == sent


def test_a_null_is_a_missing_field_and_a_body_may_repeat_its_model():
    nothing = dict.fromkeys(("id", "parameters", "outputs", "model_name", "model_version"))
    given = ZEROS["inputs"][0] | {"parameters": None}
    assert parse({"inputs": [given]} | nothing).id is None
    tail = bytes(72)
    assert parse(request(data=None, parameters={"binary_data_size": 72}), tail).pictures.sum() == 0
    parse(ZEROS | {"model_name": "net", "model_version": "1"})
    parse(ZEROS | {"model_version": ""})


def test_every_datatype_of_the_protocol_is_known_by_name():
    for name in set(DATATYPES) - {"UINT8", "BYTES"}:
        with pytest.raises(UsageError) as error:
            parse(request(datatype=name, data=[0] * 72))
        assert str(error.value) == (
            f"inputs[0].datatype: found {name}, expected UINT8 (N, H, W, 3) or BYTES (N)"
        )
    assert len(DATATYPES) == 14


def test_a_classification_is_the_most_likely_class():
    """Triton's classification extension: value, index and label of each, as BYTES (N, count)."""
    wanted = [{"name": "confidence", "parameters": {"classification": 1}}, {"name": "label"}]
    asked = parse(ZEROS | {"outputs": wanted})
    answers = [Answer(1, 0.5, 0, "a", "edge", 0.02), Answer(2, 0.25, 0, "a", "edge", 0.02)]
    body, length = build_answer("net", "1", asked, answers, CLASSES)
    assert length is None
    found = json.loads(body)["outputs"]
    assert found[0] == {
        "name": "confidence", "datatype": "BYTES", "shape": [2, 1],
        "data": ["0.500000:1:dog: a breed", "0.250000:2:żółw"],
    }  # fmt: skip
    assert found[1]["data"] == [1, 2]
    wanted[0]["parameters"]["binary_data"] = True
    body, length = build_answer("net", "1", parse(ZEROS | {"outputs": wanted}), answers, CLASSES)
    raw = body[length:]
    texts = [b"0.500000:1:dog: a breed", "0.250000:2:żółw".encode()]
    assert raw == b"".join(struct.pack("<I", len(t)) + t for t in texts)
    size = json.loads(body[:length])["outputs"][0]["parameters"]["binary_data_size"]
    assert size == len(raw)


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("confidence", 3, "found 3, expected 1: an answer has its most likely class alone"),
        ("confidence", 0, "found 0, expected 1"),
        ("confidence", True, "found True, expected 1"),
        ("confidence", "1", "found '1', expected 1"),
        ("label", 1, "found 1, expected none (it is served for 'confidence')"),
        ("exit", 1, "found 1, expected none"),
    ],
)
def test_a_classification_that_means_nothing_is_refused(name, count, said):
    wanted = [{"name": name, "parameters": {"classification": count}}]
    with pytest.raises(UsageError) as error:
        parse(ZEROS | {"outputs": wanted})
    assert said in str(error.value)


def test_of_several_deadlines_the_earliest_counts_and_thresholds_must_agree():
    both = ZEROS | {"parameters": {"deadline_ms": 80, "timeout": 50_000}}
    assert parse(both).deadline_s == 0.05

    def with_query(text, **parameters):
        body = json.dumps(ZEROS | {"parameters": parameters}).encode()
        return parse_infer(body, None, EXPECTED, query=read_query(text))

    assert with_query([("deadline_ms", "20")], timeout=50_000).deadline_s == 0.02
    assert with_query([("timeout", "90000")], deadline_ms=80).deadline_s == 0.08
    assert with_query([("threshold", "0.5")]).threshold == 0.5
    assert with_query([("threshold", "0.5")], threshold=0.5).threshold == 0.5
    with pytest.raises(UsageError, match="found 0.5 in the query and 0.9 in the body, expected"):
        with_query([("threshold", "0.5")], threshold=0.9)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([("dedline_ms", "1")], "query: found 'dedline_ms', expected deadline_ms, timeout or thr"),
        ([("timeout", "1"), ("timeout", "2")], "query: found 'timeout' twice, expected it once"),
        ([("deadline_ms", "soon")], "deadline_ms: found 'soon', expected a number above 0"),
        ([("deadline_ms", "nan")], "deadline_ms: found 'nan'"),
        ([("threshold", "-1")], "threshold: found '-1'"),
        ([("binary_data_output", "true")], "query: found 'binary_data_output'"),
    ],
)
def test_queries_are_obeyed_or_refused(pairs, said):
    with pytest.raises(UsageError) as error:
        read_query(pairs)
    assert said in str(error.value)


def test_numbers_are_nested_in_any_layout():
    picture = np.arange(72, dtype=np.uint8).reshape(1, 4, 6, 3)
    for indent in (None, 1):
        for data in (picture.tolist(), picture.ravel().tolist()):
            text = json.dumps(request(data=data), indent=indent).replace("[[", "[ \n[").encode()
            assert np.array_equal(parse_infer(text, None, EXPECTED).pictures, picture)


@given(values=st.lists(st.integers(-3, 259) | st.floats(0, 9) | st.booleans(), max_size=90))
def test_only_as_many_bytes_as_the_shape_has_are_taken(values):
    good = len(values) == 72 and all(type(v) is int and 0 <= v <= 255 for v in values)
    try:
        found = parse(request(data=values))
    except UsageError:
        assert not good
    else:
        assert good
        assert found.pictures.ravel().tolist() == values


def text(data="[0]", shape="[1, 224, 224, 3]", more=""):
    given = f'"name": "picture", "datatype": "UINT8", "shape": {shape}, "data": {data}'
    return f'{{{more}"inputs": [{{{given}}}]}}'.encode()
