"""What a body says never costs many times its length: lengths, names that come twice, flat data."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signatures import of_pictures

from artefacts import UsageError
from controller.daemon.http.inference_v2 import (
    FIELD_BYTES,
    most_json_bytes,
    parse_infer,
)
from controller.daemon.inference.open_inference import (
    Expected,
)

pytestmark = pytest.mark.quick

SIZE = (4, 6)
CLASSES = ("cat", "dog: a breed", "żółw", "d", "e", "f", "g", "h")
EXPECTED = Expected(of_pictures(SIZE, CLASSES))


def request(**changed):
    given = {"name": "picture", "shape": [1, 4, 6, 3], "datatype": "UINT8"} | changed
    return {"inputs": [{k: v for k, v in given.items() if v is not None}]}


LARGE = Expected(of_pictures((224, 224), CLASSES))
"""For which eight megabytes of JSON may be meant."""
MANY = 400_000


def text(data="[0]", shape="[1, 224, 224, 3]", more=""):
    given = f'"name": "picture", "datatype": "UINT8", "shape": {shape}, "data": {data}'
    return f'{{{more}"inputs": [{{{given}}}]}}'.encode()


EMPTIES = "[" + "[]," * MANY + "[]]"
OUTPUTS_ASKED = '{"name": "label"}, ' * MANY
STRINGS = "[" + '"' + "x" * 20_000 + '",' + '"a",' * 150_526 + '"a"]'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (text(STRINGS), "Expected 'int', got 'str'"),
        (text(EMPTIES), "another number of them"),
        (text("[" + "[[[]]]," * 150_527 + "[[[]]]]"), "length 1"),
        (text("[[[" + "[]," * 150_527 + "[]]]]"), "length 3"),
        (text("[" * 100_000), "no valid JSON"),
        (text(more=f'"id": {EMPTIES}, '), "id: found 1,200,004 bytes of JSON, expected at most"),
        (text(more=f'"parameters": {{"deadline_ms": {EMPTIES}}}, '), "parameters: found 1,200,"),
        (text(more=f'"outputs": [{OUTPUTS_ASKED}{{}}], '), "outputs: found 7,600,"),
        (text(shape="[" + "1," * MANY + "1]"), "shape: found 800,003 bytes of JSON"),
        (b'{"inputs": [' + b"{}, " * MANY + b"{}]}", "inputs: found several, expected one"),
        (("{" + ",".join(f'"{k}": 1' for k in range(MANY)) + "}").encode(), "found '0', expected"),
        (b"{" + b'"id": 1, ' * MANY + b'"id": 1}', "found 'id' twice, expected it once"),
        (text(more='"id": "%s", ' % ("x" * 100_000)), "id: found 100,002 bytes of JSON"),
    ],
)  # fmt: skip
def test_what_a_body_says_never_costs_many_times_its_length(body, said):
    """Nothing is made of what is not served: not lists, not keys, not a line of megabytes."""
    tracemalloc.start()
    with pytest.raises(UsageError) as error:
        parse_infer(body, None, LARGE)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said in str(error.value)
    assert len(str(error.value)) < 400
    assert most < len(body) + 16 * FIELD_BYTES + 4_000_000


def test_json_is_no_longer_than_the_largest_request():
    most = most_json_bytes(EXPECTED)
    assert most < 300_000
    with pytest.raises(UsageError, match=f"found {most + 1:,} bytes of JSON, expected at most"):
        parse_infer(b" " * (most - 1) + b"{}", None, EXPECTED)
    indented = json.dumps(request(data=np.zeros((1, 4, 6, 3), int).tolist()), indent=4).encode()
    assert parse_infer(indented, None, EXPECTED).samples.shape == (1, 4, 6, 3)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"id": "a", "id": "b", "inputs": []}', "infer request: found 'id' twice"),
        (b'{"id": "a", "i\\u0064": "b", "inputs": []}', "infer request: found 'id' twice"),
        (b'{"inputs": [{"name": "picture", "name": "picture"}]}', "inputs[0]: found 'name' twice"),
        (b'{"inputs": [{"parameters": {"binary_data_size": 1, "binary_data_size": 2}}]}',
         "inputs[0].parameters: found 'binary_data_size' twice"),
        (b'{"inputs": [{}], "parameters": {"threshold": 1, "threshold": 0.5}}',
         "parameters: found 'threshold' twice"),
        (b'{"inputs": [{}], "outputs": [{"name": "exit", "name": "label"}]}',
         "outputs[0]: found 'name' twice"),
    ],
)  # fmt: skip
def test_a_name_that_stands_twice_is_refused(body, said):
    with pytest.raises(UsageError) as error:
        parse_infer(body, None, EXPECTED)
    assert said in str(error.value)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_flat_data_is_read_in_parts_as_it_would_be_whole(data):
    """Long lists are cut at commas: values, white space and mistakes at any place of them."""
    values = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 256, 224 * 224 * 3)
    parts = [str(v) for v in values]
    at = data.draw(st.integers(0, len(parts) - 1))
    other = data.draw(
        st.sampled_from([" 7", "7\n", "1.5", "256", "-1", "[1", "1]", "", '"a"', "null"])
    )
    parts[at] = other
    body = text("[" + ",".join(parts) + "]")
    if other.strip() == "7":
        values[at] = 7
        found = parse_infer(body, None, LARGE).samples
        assert np.array_equal(found.ravel(), values)
    else:
        with pytest.raises(UsageError, match="inputs|infer request"):
            parse_infer(body, None, LARGE)
