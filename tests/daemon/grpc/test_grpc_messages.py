"""The messages of gRPC: names and numbers, what is understood, and what is refused in one line."""

import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from signatures import of_pictures

from artefacts import UsageError
from controller.daemon.inference.answering import Wanted
from controller.daemon.inference.open_inference import Expected
from controller.daemon.inference.signature import Signature
from controller.daemon.inference.tensor_data import DATATYPES
from models.facts.preprocessing import NamedTensor, TensorInput

pytestmark = pytest.mark.quick

messages = pytest.importorskip("controller.daemon.grpc.messages", reason="no protobuf (extra grpc)")

EXPECTED = Expected(of_pictures((4, 6), ("cat", "dog")), 60.0)


def new(name, /, **fields):
    return messages.message_class(name)(**fields)


def test_the_descriptors_are_those_of_the_source():
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    from controller.daemon.grpc.build import compiled

    assert compiled() == messages.DESCRIPTORS.read_bytes()


def test_names_and_numbers_are_those_of_triton_s_client():
    """Whatever Triton's messages have beyond the protocol's, what we have must be the same."""
    pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
    from tritonclient.grpc import service_pb2

    seen = set()

    def same(ours, theirs):
        if ours.full_name in seen:
            return
        seen.add(ours.full_name)
        assert ours.full_name == theirs.full_name
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            kinds = ("number", "type", "is_repeated", "is_packed")
            assert [getattr(field, k) for k in kinds] == [getattr(other, k) for k in kinds]
            if field.message_type is not None:
                same(field.message_type, other.message_type)

    for call in ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata",
                 "ModelInfer"):  # fmt: skip
        for kind in ("Request", "Response"):
            same(
                messages.message_class(call + kind).DESCRIPTOR,
                getattr(service_pb2, call + kind).DESCRIPTOR,
            )
    assert len(seen) >= 15


def sent(tensor=None, raw=None, **more):
    given = {"name": "picture", "datatype": "UINT8", "shape": [1, 4, 6, 3]} | (tensor or {})
    contents = [] if raw is None else [raw]
    return new("ModelInferRequest", inputs=[given], raw_input_contents=contents, **more)


def test_raw_and_typed_contents_give_the_same_pictures():
    picture = np.arange(72, dtype=np.uint8).reshape(1, 4, 6, 3)
    raw = messages.parse_infer(sent(raw=picture.tobytes()), EXPECTED)
    typed = {"contents": {"uint_contents": picture.ravel().tolist()}}
    found = messages.parse_infer(sent(typed, id="x"), EXPECTED)
    assert np.array_equal(raw.samples, picture)
    assert np.array_equal(found.samples, picture)
    assert (raw.id, found.id) == (None, "x")
    assert raw.outputs[0] == Wanted("label", True)
    assert found.outputs[0] == Wanted("label", False)


TENSOR = Signature(TensorInput((NamedTensor("x", "FP32", (3,)),)), (3,), values=2)
FIELDS = {
    "bool": ["BOOL"], "int": ["INT8", "INT16", "INT32"], "int64": ["INT64"],
    "uint": ["UINT8", "UINT16", "UINT32"], "uint64": ["UINT64"], "fp32": ["FP32"], "fp64": ["FP64"],
}  # fmt: skip


def tensor(datatype, raw=None, **contents):
    given = {"name": "x", "datatype": datatype, "shape": [1, 3]}
    return sent(given | ({"contents": contents} if contents else {}), raw)


def test_every_datatype_has_its_field_but_the_two_short_floats():
    for field, datatypes in FIELDS.items():
        for datatype in datatypes:
            values = [True, False, True] if datatype == "BOOL" else [3, 0, 1]
            typed = tensor(datatype, **{f"{field}_contents": values})
            found = messages.parse_infer(typed, Expected(TENSOR)).samples
            assert found.tolist() == [[float(v) for v in values]]
    assert {d for named in FIELDS.values() for d in named} | {"FP16", "BF16", "BYTES"} == set(
        DATATYPES
    )
    halves = np.array([3, 0, 1], np.float16)
    raw = messages.parse_infer(tensor("FP16", halves.tobytes()), Expected(TENSOR))
    assert raw.samples.tolist() == [[3.0, 0.0, 1.0]]
    for datatype in ("FP16", "BF16"):
        with pytest.raises(UsageError, match=f"found {datatype} without raw_input_contents"):
            messages.parse_infer(tensor(datatype, fp32_contents=[1, 2, 3]), Expected(TENSOR))
    for values, said in (([1, 2, -129], "found -129, expected -128 to 127"), ([1], "found 1 val")):
        with pytest.raises(UsageError, match=said):
            messages.parse_infer(tensor("INT8", int_contents=values), Expected(TENSOR))


THREE = Signature(TensorInput(tuple(NamedTensor(n, "INT64", (2,)) for n in "abc")), (6,), values=2)


@pytest.mark.parametrize("typed", [(), (0,), (1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_raw_contents_are_one_an_input_and_stand_beside_no_typed_ones(count, typed):
    asked = new("ModelInferRequest", raw_input_contents=[bytes(16)] * count)
    for number, name in enumerate("abc"):
        given = asked.inputs.add(name=name, datatype="INT64", shape=[1, 2])
        if number in typed or not count:
            given.contents.int64_contents.extend([0, 0])
    if count == 0 or (count == 3 and not typed):
        assert messages.parse_infer(asked, Expected(THREE)).samples.tolist() == [[0.0] * 6]
        return
    said = "contents and raw_input_contents" if typed else f"raw_input_contents: found {count}"
    with pytest.raises(UsageError, match=said):
        messages.parse_infer(asked, Expected(THREE))


def test_no_more_values_are_taken_than_the_largest_request_has():
    """A byte of packed values becomes eight: more than may be meant are refused before."""
    most = messages.most_values(Expected(TENSOR))
    assert most == 16 * 3
    made = tensor("INT64", int64_contents=[-1] * most)
    messages.check_bounds(made.SerializeToString(), most)
    with pytest.raises(UsageError, match=r"found 490 bytes of values, expected at most 48 values"):
        made = tensor("INT64", int64_contents=[-1] * (most + 1))
        messages.check_bounds(made.SerializeToString(), most)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (lambda: new("ModelInferRequest"), "inputs: found 0, expected one"),
        (lambda: sent(), "uint_contents: found 0 values, expected 72"),
        (lambda: sent(raw=bytes(71)), "found 71 bytes, expected 72"),
        (lambda: sent({"contents": {"uint_contents": [256] * 72}}), "found 256, expected 0 to 255"),
        (lambda: sent({"contents": {"int_contents": [1] * 72}}),
         "contents: found int_contents, expected uint_contents"),
        (lambda: sent({"contents": {"uint_contents": [1] * 72}}, bytes(72)),
         "found contents and raw_input_contents, expected one of them"),
        (lambda: sent({"datatype": "INT64"}, bytes(72)), "found INT64, expected UINT8"),
        (lambda: sent({"datatype": "UINT9"}, bytes(72)), "no datatype of the protocol"),
        (lambda: sent({"shape": [1, 4, 6, -3]}, bytes(72)), "inputs[0].shape: found"),
        (lambda: sent({"name": "image"}, bytes(72)), "inputs[0].name: found 'image'"),
        (lambda: sent({"parameters": {"binary_data_size": {"int64_param": 71}}}, bytes(72)),
         "binary_data_size: found 71, expected the size of raw_input_contents"),
        (lambda: sent({"parameters": {"x": {"bool_param": True}}}, bytes(72)), "found 'x'"),
        (lambda: sent(raw=bytes(72), parameters={"dedline_ms": {"int64_param": 1}}),
         "parameters: found 'dedline_ms'"),
        (lambda: sent(raw=bytes(72), parameters={"threshold": {}}), "'threshold': found no value"),
        (lambda: sent(raw=bytes(72), parameters={"deadline_ms": {"string_param": "1"}}),
         "deadline_ms: found '1', expected a number above 0"),
        (lambda: sent(raw=bytes(72), parameters={"deadline_ms": {"double_param": 1e6}}),
         "deadline_ms: found 1000 s, expected at most 60 s"),
        (lambda: sent(raw=bytes(72), outputs=[{"name": "label"}, {
            "name": "exit", "parameters": {"binary_data": {"bool_param": False}}}]),
         "found raw and typed ones"),
        (lambda: sent({"datatype": "BYTES", "shape": [1]}, struct.pack("<I", 4) + b"abc"),
         "found 7 bytes that are not 1 elements of BYTES"),
        (lambda: sent({"datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": [b"a"]}}),
         "bytes_contents: found 1 elements, expected 2"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_in_one_line(request_, said):
    with pytest.raises(UsageError) as error:
        messages.parse_infer(request_(), EXPECTED)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@given(data=st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(data):
    whole = sent(raw=bytes(72)).SerializeToString()
    for made in (data, whole + data, data + whole):
        try:
            found = messages.parse_infer(messages.read("ModelInferRequest", made), EXPECTED)
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert found.samples.shape == (1, 4, 6, 3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x2a\x00" * 4_000_000, "request: found more than 1024 fields"),
        (b"\x32\x00" * 4_000_000, "request: found more than 1024 fields"),
        (b"\x3a\x00" * 4_000_000, "request: found more than 1024 fields"),
        (b"\x22\x90\x4e" + bytes(10_000) + b"\x1a\xb0\x9c\x01" + b"x" * 20_016,
         "request: found a field of 20,016 bytes"),
    ],
)  # fmt: skip
def test_fields_are_counted_before_any_is_made(data, said):
    """Four million empty inputs are eight megabytes of message and half a gigabyte of objects."""
    with pytest.raises(UsageError) as error:
        messages.check_bounds(data)
    assert said in str(error.value)


def test_an_input_s_fields_are_counted_too():
    def nested(inner):
        length = len(inner)
        head = b"\x2a" + bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14])
        return head + inner

    for inner, said in (
        (b"\x1a\xa0\x9c\x01" + b"\x01" * 20_000, "inputs[0]: found a field of 20,000 bytes"),
        (b"\x22\x00" * 20_000, "inputs[0]: found more than 1024 fields"),
        (b"\x2a\xa0\x9c\x01" + b"\x42\x00" * 10_000, "inputs[0].contents: found more than"),
    ):
        with pytest.raises(UsageError) as error:
            messages.check_bounds(nested(inner))
        assert said in str(error.value)


def _field(number, inner):
    head, length = bytes([number << 3 | 2]), len(inner)
    while length > 127:
        head, length = head + bytes([length & 127 | 128]), length >> 7
    return head + bytes([length]) + inner


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # 900 inputs, each with contents of 1000 empty elements, which are under the bound alone
        (_field(5, _field(5, b"\x42\x00" * 1000)) * 900, "contents: found more than 1024 fields"),
        (_field(5, _field(5, b"") * 900) * 900, "inputs[0]: found more than 1024 fields"),
        # outputs of empty parameters, each of them shorter than a field may be
        (_field(6, b"\x12\x00" * 8000) * 500, "more than 65,536 bytes in all beside data"),
        (_field(5, _field(4, bytes(1000))) * 200, "more than 65,536 bytes in all beside data"),
    ],
)
def test_fields_are_counted_in_all(data, said):
    begun_s = time.thread_time()
    with pytest.raises(UsageError) as error:
        messages.check_bounds(data)
    assert said in str(error.value)
    assert time.thread_time() - begun_s < 0.1


@given(data=st.binary(max_size=60))
def test_bounds_refuse_nothing_that_is_short_and_a_message(data):
    """Whatever the library takes as a request passes; groups, which it skips, do not."""
    try:
        messages.check_bounds(data)
    except UsageError as error:
        assert "no such message" in str(error)
    good = new("ModelInferRequest", inputs=[{"name": "picture", "shape": [1]}], id="x" * 60)
    messages.check_bounds(good.SerializeToString())


def test_what_is_served_passes_the_bounds():
    picture = np.arange(72, dtype=np.uint8)
    for made in (
        sent(raw=picture.tobytes() * 1000),
        sent({"contents": {"uint_contents": [*picture.tolist()] * 1000}}),
        sent({"contents": {"bytes_contents": [bytes(100_000)] * 16}}),
    ):
        messages.check_bounds(made.SerializeToString())
