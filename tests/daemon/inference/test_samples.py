"""Inputs of any network, as JSON, raw bytes and typed contents: what is taken, what is refused."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_networks import KINDS

from artefacts import UsageError
from controller.daemon.http.inference_v2 import most_json_bytes, parse_infer
from controller.daemon.inference.open_inference import MOST_ANSWER_VALUES, Expected
from controller.daemon.inference.signature import Signature
from controller.daemon.inference.tensor_data import FLOATS, WHOLE, RawData, fitted
from controller.daemon.inference.texts import Texts
from models.facts.preprocessing import NUMPY_TYPES, NamedTensor, TensorInput, TokenInput

pytestmark = pytest.mark.quick


class Spaces:
    """A tokeniser of numbers in words."""

    def encode(self, text, other=None, *, length):
        return [int(word) for word in text.split()][:length]


def signature(kind, **changed):
    takes, shape, answers, values, classes, _ = KINDS[kind]
    fields = {"answers": answers, "values": values, "classes": classes} | changed
    return Signature(takes, shape, **fields)


def parse(wanted, inputs, tail=b"", **more):
    head = json.dumps({"inputs": inputs} | more).encode()
    length = str(len(head)) if tail else None
    return parse_infer(head + tail, length, Expected(wanted)).samples


def one(name, datatype, shape, data=None, size=None):
    made = {"name": name, "datatype": datatype, "shape": shape}
    return made | ({"data": data} if size is None else {"parameters": {"binary_data_size": size}})


TWO = (NamedTensor("a", "FP32", (2,)), NamedTensor("b", "INT16", (3,)))
PAIR = Signature(TensorInput(TWO), (5,), values=4)
A, B = one("a", "FP32", [1, 2], [0.5, -2]), one("b", "INT16", [1, 3], [1, -2, 3])


def test_tensors_come_in_any_order_and_form_and_are_laid_end_to_end():
    whole = [[0.5, -2.0, 1.0, -2.0, 3.0]]
    assert parse(PAIR, [A, B]).tolist() == whole
    assert parse(PAIR, [B, A]).tolist() == whole
    raw_a, raw_b = struct.pack("<2f", 0.5, -2), struct.pack("<3h", 1, -2, 3)
    sized = [one("b", "INT16", [1, 3], size=6), one("a", "FP32", [1, 2], size=8)]
    assert parse(PAIR, sized, raw_b + raw_a).tolist() == whole
    assert parse(PAIR, [A, sized[0]], raw_b).tolist() == whole
    assert parse(PAIR, [sized[0], A], raw_b).tolist() == whole
    assert parse(PAIR, [A, one("b", "INT64", [1, 3], [[1, -2, 3]])]).dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "tail", "said"),
    [
        ([], b"", "inputs: found none, expected 2: a, b"),
        ([A], b"", "inputs: found another number, expected 2: a, b"),
        ([A, B, B], b"", "inputs: found another number, expected 2: a, b"),
        ([A, A], b"", "inputs[1].name: found 'a', expected 'b'"),
        ([A, one([], "INT16", [1, 3], [1, 2, 3])], b"", "inputs[1].name: found []"),
        ([A, one("b", "INT16", [2, 3], [0] * 6)], b"", "found 1 and 2 samples, expected as many"),
        ([A, one("b", "INT16", [1, 2**40], [1])], b"", "inputs[1].shape: found [1, 1099511627776]"),
        ([A, one("b", "INT16", [2**40, 3], [1])], b"", "expected 1 to 16 samples first"),
        ([A, one("b", "INT16", [1, 3], [1, 2, 2**15])], b"", "Expected 'int' <= 32767"),
        ([A, one("b", "UINT64", [1, 3], [1, 2, 2**64])], b"", "values beyond it"),
        ([A, one("b", "INT64", [1, 3], [1, 2, 10**300])], b"", "inputs[1].data: found no 3"),
        ([A, one("b", "UINT64", [1, 3], [1, 2, 2**15])], b"", "from 1 to 32768, expected -32768"),
        ([A, one("b", "FP64", [1, 3], [1, 2, 0.5])], b"", "tensor 'b': found fractions"),
        ([A, one("b", "BYTES", [1, 3], ["x"] * 3)], b"", "found BYTES, expected INT16, or what"),
        ([A, one("b", "INT16", [1, 3], [[[[1]]], 2, 3])], b"", "inputs[1].data: found no 3"),
        ([A, one("b", "INT16", [1, 3], [True, 2, 3])], b"", "got 'bool'"),
        ([A, one("b", "BOOL", [1, 3], [True, 0, True])], b"", "no 3 values true or false"),
        ([one("a", "FP32", [1, 2], [1e39, 1]), B], b"", "no 2 numbers of FP32 (values beyond it)"),
        ([one("a", "FP16", [1, 2], [7e4, 1]), B], b"", "no 2 numbers of FP16 (values beyond it)"),
        ([one("a", "FP64", [1, 2], [0.1, 1]), B], b"", "'a': found values that FP32 does not hold"),
        ([one("a", "INT64", [1, 2], [2**24, 1]), B], b"", "from 1 to 1.67772e+07, expected"),
        ([one("a", "FP32", [1, 2], size=8), B], struct.pack("<2f", np.nan, 1), "not finite"),
        ([one("a", "FP32", [1, 2], size=9), B], bytes(8), "found 9, expected the 8 bytes"),
        ([one("a", "FP32", [1, 2], size=-1), B], bytes(8), "found -1, expected the 8 bytes"),
        ([one("a", "FP32", [1, 2], size=8), B], bytes(9), "found 1 bytes behind the JSON"),
        ([A, one("b", "BOOL", [1, 3], size=3)], b"\1\2\0", "inputs[1]: found 2, expected 0 or 1"),
    ],
)  # fmt: skip
def test_what_is_no_such_tensor_is_refused_in_one_line(inputs, tail, said):
    tracemalloc.start()
    with pytest.raises(UsageError) as error:
        parse(PAIR, inputs, tail)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("datatype", [*WHOLE, *FLOATS, "BOOL"])
def test_every_datatype_is_the_same_as_json_and_as_bytes(datatype):
    wanted = Signature(TensorInput((NamedTensor("x", "FP32", (3,)),)), (3,), values=2)
    values = np.array([True, False, True]) if datatype == "BOOL" else np.array([1, 0, 3])
    expected = values.astype(np.float32).tolist()
    sent = one("x", datatype, [1, 3], values.tolist())
    assert parse(wanted, [sent]).tolist() == [expected]
    assert parse(wanted, [sent | {"data": [values.tolist()]}]).tolist() == [expected]
    if datatype == "BF16":
        raw = (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        raw = values.astype(NUMPY_TYPES[datatype]).tobytes()
    assert parse(wanted, [one("x", datatype, [1, 3], size=len(raw))], raw).tolist() == [expected]


def test_bf16_is_rounded_to_the_nearest_as_json():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    wanted = Signature(TensorInput((NamedTensor("x", "FP32", (200,)),)), (200,), values=2)
    values = np.random.default_rng(0).normal(size=200)
    found = parse(wanted, [one("x", "BF16", [1, 200], values.tolist())])[0]
    expected = values.astype(np.float32).astype(ml_dtypes.bfloat16)
    assert np.array_equal(found, expected.astype(np.float32))
    raw = RawData(expected.tobytes()).numbers("BF16", [200])
    assert np.array_equal(raw, expected.astype(np.float32))


@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6),
    datatype=st.sampled_from([*NUMPY_TYPES]),
)
def test_a_conversion_changes_no_value_or_is_refused(values, datatype):
    given_ = np.array(values, dtype=np.int64)
    try:
        made = fitted(given_, NamedTensor("x", datatype, given_.shape))
    except UsageError:
        return
    assert [int(v) for v in made] == values
    assert [int(v) for v in made.astype(np.float32)] == values


def test_rows_of_long_samples_may_be_nested():
    wanted = signature("sound")
    values = np.arange(400).tolist()
    assert parse(wanted, [one("sound", "INT16", [2, 400], [values, values])]).shape == (2, 400)
    with pytest.raises(UsageError, match="found no 800 whole numbers"):
        parse(wanted, [one("sound", "INT16", [2, 400], [values[:-1], [*values, 1]])])


def test_texts_come_as_json_and_as_bytes_alone_and_in_pairs():
    wanted = signature("tokens", tokeniser=Spaces())
    for sent, found in (
        (one("tokens", "BYTES", [2], ["1 2", "3"]), (("1 2", None), ("3", None))),
        (one("tokens", "BYTES", [2, 1], [["1 2"], ["żółw"]]), (("1 2", None), ("żółw", None))),
        (one("tokens", "BYTES", [1, 2], [["1", "2"]]), (("1", "2"),)),
        (one("tokens", "BYTES", [1, 2], ["1", "2"]), (("1", "2"),)),
    ):
        assert parse(wanted, [sent]) == Texts(found)
    raw = struct.pack("<I", 3) + b"1 2"
    assert parse(wanted, [one("tokens", "BYTES", [1], size=7)], raw) == Texts((("1 2", None),))


@pytest.mark.parametrize(
    ("sent", "tail", "said"),
    [
        (one("tokens", "BYTES", [1], ["a", "b"]), b"", "found no 1 texts"),
        (one("tokens", "BYTES", [1], [3]), b"", "found no 1 texts"),
        (one("tokens", "BYTES", [1], "a"), b"", "found no 1 texts"),
        (one("tokens", "BYTES", [1, 3], ["a"] * 3), b"", "expected (N) or (N, 2) for BYTES"),
        (one("tokens", "BYTES", [1], ["a" * 9000]), b"", "found a text of 9,000 bytes, expected"),
        (one("tokens", "BYTES", [1], ["\ud800"]), b"", "no valid JSON"),
        (one("tokens", "BYTES", [1], size=5), struct.pack("<I", 1) + b"\xff", "text in UTF-8"),
        (one("tokens", "FP32", [1, 2], [1, 2]), b"", "or texts as BYTES (N)"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(sent, tail, said):
    wanted = signature("tokens", tokeniser=Spaces())
    with pytest.raises(UsageError) as error:
        parse(wanted, [sent], tail)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_many_short_texts_cost_no_more_than_their_bytes():
    wanted = signature("tokens", tokeniser=Spaces())
    body = json.dumps(["ab"] * 20_000)
    sent = one("tokens", "BYTES", [16], "DATA")
    head = json.dumps({"inputs": [sent]}).replace('"DATA"', body)
    assert most_json_bytes(Expected(wanted)) > len(head)
    tracemalloc.start()
    with pytest.raises(UsageError, match="found no 16 texts"):
        parse_infer(head.encode(), None, Expected(wanted))
    assert tracemalloc.get_traced_memory()[1] < len(head) + 1_000_000
    tracemalloc.stop()


def test_samples_whose_answers_would_be_too_long_together_are_refused():
    wanted = signature("tokens", values=MOST_ANSWER_VALUES // 2)
    assert len(parse(wanted, [one("tokens", "INT32", [2, 1], [1, 2])])) == 2
    with pytest.raises(UsageError, match="found 3 samples, whose answers have 3,145,728 values"):
        parse(wanted, [one("tokens", "INT32", [3, 1], [1, 2, 3])])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(name=st.sampled_from(["shape", "datatype", "data", "name", "parameters"]), value=JSON)
def test_no_field_of_any_kind_does_more_than_be_refused(name, value):
    for wanted, good in (
        (signature("tokens", tokeniser=Spaces()), one("tokens", "INT32", [1, 3], [1, 2, 3])),
        (signature("sound"), one("sound", "FP32", [1, 2], [0.5, 1])),
    ):
        try:
            found = parse(wanted, [good | {name: value}])
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert len(found) == 1


@given(data=st.binary(max_size=60), datatype=st.sampled_from(["INT16", "FP16", "BF16", "BYTES"]))
def test_no_bytes_do_more_than_be_refused(data, datatype):
    wanted = signature("sound")
    shape = [1] if datatype == "BYTES" else [1, max(len(data) // 2, 1)]
    sent = [one("sound", datatype, shape, size=len(data))]
    try:
        found = parse(wanted, sent, data) if data else None
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert found is None or found.dtype == np.int16


def test_tokens_of_every_whole_datatype_become_ids():
    wanted = Signature(TokenInput(300), (4,), values=2)
    for datatype in WHOLE:
        found = parse(wanted, [one("tokens", datatype, [1, 2], [3, 100])])
        assert found.dtype == np.int32
        assert found.tolist() == [[3, 100, 0, 0]]
