"""The interface over HTTP as any client meets it: methods, codings, queries, ids; a real daemon."""

import contextlib
import gzip
import http.client
import io
import json
import socket
import urllib.request
import zlib

import numpy as np
import pytest
from PIL import Image
from signatures import of_pictures

from controller.daemon.http.inference_v2 import most_json_bytes
from controller.daemon.inference.open_inference import Expected
from models.data.pictures import generated_pictures

MODEL = "/v2/models/alexnet"
SHOWN = (
    "/v2", "/v2/", "/v2/health/live", "/v2/health/ready", MODEL, MODEL + "/ready",
    MODEL + "/versions/1", MODEL + "/versions/1/ready", MODEL + "/config", "/metrics", "/live",
    "/live/state",
)  # fmt: skip
ASKED = ("/infer", MODEL + "/infer", MODEL + "/versions/1/infer")


@pytest.fixture(scope="module")
def daemon(running_module):
    with running_module("[limits]\nlongest_deadline_s = 10.0\n") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def picture():
    return generated_pictures(1, np.random.default_rng(0))


def body(picture, **more):
    given = {"name": "picture", "shape": [1, 32, 32, 3], "datatype": "UINT8"}
    given["data"] = picture.ravel().tolist()
    return {"inputs": [given], "parameters": {"deadline_ms": 5000}} | more


def ask(daemon, method, path, data=None, headers=None):
    """(status, headers, body); a refusal must be one line of JSON under `error`."""
    host, port = daemon.address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    with contextlib.closing(connection):
        sent = json.dumps(data) if isinstance(data, dict) else data
        connection.request(method, path, sent, headers or {})
        response = connection.getresponse()
        found = response.read()
        if response.status >= 400 and method != "HEAD":
            assert response.headers["Content-Type"] == "application/json"
            assert set(json.loads(found)) == {"error"}
        return response.status, response.headers, found


def test_whatever_can_be_fetched_can_be_asked_for_by_head(daemon):
    for path in SHOWN:
        status, headers, found = ask(daemon, "GET", path)
        assert status == 200
        assert len(found) == int(headers["Content-Length"])
        status, headers, found = ask(daemon, "HEAD", path)
        assert (status, found) == (200, b"")
        assert int(headers["Content-Length"]) > 0


def test_the_address_alone_leads_to_the_live_page(daemon):
    for method in ("GET", "HEAD"):
        status, headers, found = ask(daemon, method, "/")
        assert (status, headers["Location"], found) == (302, "/live", b"")
    with urllib.request.urlopen(daemon.address + "/", timeout=20) as answer:
        assert answer.url == daemon.address + "/live"
        assert answer.headers["Content-Type"].startswith("text/html")
    assert ask(daemon, "GET", "/?a=1")[0] == 400
    assert ask(daemon, "POST", "/")[0] == 405


def picture_file(kind, size=(64, 48)):
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def test_a_jpeg_file_needs_no_type_and_other_files_are_named(daemon):
    jpeg = picture_file("JPEG")
    for path in ASKED:
        answer = json.loads(ask(daemon, "POST", path + "?deadline_ms=5000", jpeg)[2])
        with_type = ask(
            daemon, "POST", path + "?deadline_ms=5000", jpeg, {"Content-Type": "image/jpeg"}
        )[2]
        assert answer["label"] == json.loads(with_type)["label"]
    for kind in ("PNG", "GIF", "WebP", "BMP", "TIFF"):
        sent, said = picture_file(kind), f"a {kind} file"
        status, _, found = ask(daemon, "POST", "/infer", sent)
        line = f"infer request: found {said}, expected JSON, or a JPEG file as image/jpeg"
        assert (status, json.loads(found)["error"]) == (400, line)
        status, _, found = ask(daemon, "POST", "/infer", sent, {"Content-Type": "image/jpeg"})
        line = f"picture: found {said}, expected a JPEG file"
        assert (status, json.loads(found)["error"]) == (400, line)
    status, _, found = ask(daemon, "POST", "/infer", jpeg, {"Content-Type": "application/json"})
    assert (status, b"found a JPEG file, expected JSON" in found) == (400, True)
    status, _, found = ask(daemon, "POST", "/infer", jpeg, {"Content-Type": "image/png"})
    assert (status, b"found 'image/png', expected image/jpeg" in found) == (415, True)
    # a page of a browser names what it sends
    own = {"Origin": daemon.address}
    assert ask(daemon, "POST", "/infer", jpeg, own)[0] == 415


def test_a_jpeg_file_without_a_type_may_be_as_long_as_one_with_it(daemon):
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    assert (
        most_json_bytes(Expected(of_pictures((32, 32)), 1.0)) < len(stream.getvalue()) < 8_388_608
    )
    assert ask(daemon, "POST", "/infer?deadline_ms=9000", stream.getvalue())[0] == 200


def test_a_model_s_configuration_is_triton_s(daemon):
    found = json.loads(ask(daemon, "GET", MODEL + "/config")[2])
    assert found == json.loads(ask(daemon, "GET", MODEL + "/versions/1/config")[2])
    assert (found["name"], found["max_batch_size"]) == ("alexnet", 16)
    taken = {"name": "picture", "data_type": "TYPE_UINT8", "dims": [32, 32, 3]}
    assert found["input"] == [taken]
    kinds = {one["name"]: one["data_type"] for one in found["output"]}
    assert kinds == {"label": "TYPE_INT64", "confidence": "TYPE_FP32", "exit": "TYPE_INT32"}
    assert ask(daemon, "GET", "/v2/models/other/config")[0] == 404


def test_a_method_that_is_not_served_says_which_are(daemon):
    for path in SHOWN:
        for method in ("POST", "DELETE", "OPTIONS"):
            status, headers, _ = ask(daemon, method, path)
            assert status == 405
            assert set(headers["Allow"].split(",")) == {"GET", "HEAD"}
    for path in ASKED:
        status, headers, _ = ask(daemon, "GET", path)
        assert (status, headers["Allow"]) == (405, "POST")
    assert ask(daemon, "GET", "/nowhere")[0] == 404


def test_models_and_versions_that_are_not_there(daemon, picture):
    for path in ("/v2/models/other", MODEL + "/versions/2", MODEL + "/versions/1.0"):
        for more in ("", "/ready"):
            status, _, found = ask(daemon, "GET", path + more)
            assert status == 404
            assert b"expected 'alexnet' version '1'" in found
        assert ask(daemon, "POST", path + "/infer", body(picture))[0] == 404


def test_what_the_server_and_the_model_say_of_themselves(daemon):
    server = json.loads(ask(daemon, "GET", "/v2")[2])
    assert server["name"] == "coinfer"
    assert server["extensions"] == ["binary_tensor_data", "parameters"]
    model = json.loads(ask(daemon, "GET", MODEL)[2])
    assert model == json.loads(ask(daemon, "GET", MODEL + "/versions/1")[2])
    assert (model["name"], model["versions"]) == ("alexnet", ["1"])
    assert model["inputs"] == [{"name": "picture", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}]
    ready = json.loads(ask(daemon, "GET", MODEL + "/ready")[2])
    assert ready == {"name": "alexnet", "ready": True}


def test_a_query_is_obeyed_with_every_kind_of_body_or_refused(daemon, picture):
    raw = picture.tobytes()
    given = {"name": "picture", "shape": [1, 32, 32, 3], "datatype": "UINT8",
             "parameters": {"binary_data_size": len(raw)}}  # fmt: skip
    head = json.dumps({"inputs": [given]}).encode()
    stream = io.BytesIO()
    Image.fromarray(picture[0]).save(stream, "JPEG")
    kinds = (
        (json.dumps(body(picture)).encode(), {}),
        (head + raw, {"Inference-Header-Content-Length": str(len(head))}),
        (stream.getvalue(), {"Content-Type": "image/jpeg"}),
    )
    for path in ASKED:
        for data, headers in kinds:
            assert ask(daemon, "POST", path + "?deadline_ms=5000", data, headers)[0] == 200
            assert ask(daemon, "POST", path + "?timeout=5000000", data, headers)[0] == 200
            for query, said in (
                ("dedline_ms=1", b"query: found 'dedline_ms'"),
                ("deadline_ms=1&deadline_ms=2", b"found 'deadline_ms' twice"),
                ("deadline_ms=", b"deadline_ms: found ''"),
                ("threshold=2", b"threshold: found 2, expected at most 1"),
                ("deadline_ms=20000", b"expected at most 10 s"),
                ("deadline_ms=2.9", b"deadline_ms: found 0.0029 s, expected at least 0.003 s"),
                ("timeout=1", b"timeout: found 1e-06 s, expected at least 0.003 s"),
            ):
                status, _, found = ask(daemon, "POST", f"{path}?{query}", data, headers)
                assert (status, said in found) == (400, True), found
        large = io.BytesIO()
        Image.new("RGB", (3000, 3000)).save(large, "JPEG")
        for query in ("deadline_ms=3", "timeout=3000"):
            sent = path + "?" + query, large.getvalue(), {"Content-Type": "image/jpeg"}
            assert ask(daemon, "POST", *sent)[0] == 504
    for path in SHOWN:
        status, _, found = ask(daemon, "GET", path + "?verbose=1")
        assert (status, b"query: found 'verbose', expected none" in found) == (400, True)


def test_of_a_request_that_does_not_fit_in_whole_nothing_is_computed(running):
    with running("[limits]\nlive_frames = 2\n") as daemon:

        def pictures(count):
            sent = body(np.zeros((count, 32, 32, 3), np.uint8))
            sent["inputs"][0]["shape"] = [count, 32, 32, 3]
            return ask(daemon, "POST", "/infer", sent)

        status, _, said = pictures(3)
        assert (status, b"0 frames are under way" in said) == (503, True), said
        state = json.loads(ask(daemon, "GET", "/live/state")[2])
        assert (state["frames"], state["refused"]) == (0, 3)
        assert pictures(2)[0] == 200


def test_ids_come_back_as_they_came_or_are_refused(daemon, picture):
    for sent in ("x" * 300, "", "żółw"):
        found = json.loads(ask(daemon, "POST", "/infer", body(picture, id=sent))[2])
        assert found["id"] == sent
    assert "id" not in json.loads(ask(daemon, "POST", "/infer", body(picture, id=None))[2])
    for sent in (7, {"a": 1}, ["x"], True, "x" * 1025):
        assert ask(daemon, "POST", "/infer", body(picture, id=sent))[0] == 400


def test_a_classification_is_named_or_refused(daemon, picture):
    wanted = [{"name": "confidence", "parameters": {"classification": 1}}, {"name": "label"}]
    found = json.loads(ask(daemon, "POST", "/infer", body(picture, outputs=wanted))[2])
    named, label = found["outputs"]
    assert (named["datatype"], named["shape"]) == ("BYTES", [1, 1])
    value, index, name = named["data"][0].split(":")
    assert 0.0 < float(value) <= 1.0
    assert int(index) == label["data"][0]
    assert name
    wanted[0]["parameters"]["classification"] = 3
    status, _, said = ask(daemon, "POST", "/infer", body(picture, outputs=wanted))
    assert (status, b"found 3, expected 1" in said) == (400, True)


def test_codings_of_a_body_are_understood_or_refused_in_json(daemon, picture):
    plain = json.dumps(body(picture)).encode()
    for coding, packed in (
        ("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain)), ("identity", plain),
    ):  # fmt: skip
        headers = {"Content-Encoding": coding}
        assert ask(daemon, "POST", "/infer", packed, headers)[0] == 200
    for coding in ("zstd", "br", "lz9", "gzip, gzip"):
        headers = {"Content-Encoding": coding}
        status, more, said = ask(daemon, "POST", "/infer", plain, headers)
        assert (status, more["Accept-Encoding"]) == (415, "gzip, deflate")
        assert b"Content-Encoding: found" in said
    assert ask(daemon, "POST", "/infer", plain, {"Content-Encoding": "gzip"})[0] == 400
    assert ask(daemon, "POST", "/infer", plain, {"Content-Type": "image/png"})[0] == 415
    bomb = gzip.compress(bytes(50_000_000))
    assert ask(daemon, "POST", "/infer", bomb, {"Content-Encoding": "gzip"})[0] == 413


def test_an_answer_is_plain_whatever_coding_is_accepted(daemon, picture):
    for accepted in ("gzip", "deflate", "br, zstd", "gzip;q=0", "identity;q=0, *;q=0.5"):
        headers = {"Accept-Encoding": accepted}
        status, more, found = ask(daemon, "POST", "/infer", body(picture), headers)
        assert (status, more["Content-Encoding"]) == (200, None)
        assert json.loads(found)["outputs"]


def test_a_client_may_wait_with_its_body_and_expect_nothing_else(daemon, picture):
    host, port = daemon.address.removeprefix("http://").split(":")
    sent = json.dumps(body(picture)).encode()
    head = "POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nExpect: %s\r\n\r\n"
    with socket.create_connection((host, int(port)), 20) as client:
        client.sendall((head % (len(sent), "100-continue")).encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 100 ")
        client.sendall(sent)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    status, _, said = ask(daemon, "POST", "/infer", b"{}", {"Expect": "miracles"})
    assert (status, b"found 'miracles'" in said) == (417, True)


def test_what_is_no_request_is_refused_in_json(daemon):
    host, port = daemon.address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/infer", b"", {"Content-Length": "many"})
        response = connection.getresponse()
        assert response.status == 400
        assert set(json.loads(response.read())) == {"error"}
