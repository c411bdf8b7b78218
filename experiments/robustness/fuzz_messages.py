"""Fuzzed for what comes over sockets: the wire, every codec's decoder, requests at the daemon."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from controller.daemon.http.inference_v2 import parse_infer
from controller.daemon.inference.open_inference import Expected
from controller.daemon.inference.pictures import decode_jpeg, inspect_jpeg
from controller.daemon.inference.signature import Signature
from controller.wire import Connection, Inbox, Message, MessageType, Role, serialise
from experiments.robustness.structures import many_scans
from models.codecs import codec_named, example_names
from models.codecs.examples import example_array, example_shared
from models.facts.preprocessing import PictureInput

Target = Callable[[bytes], Any]
"""Takes one input; does nothing, or raises a documented error."""


def message_targets() -> dict[str, tuple[Target, list[bytes]]]:
    """By name: what is fed, and good inputs to begin from."""
    ping = serialise(Message(MessageType.PING, 7))
    request = serialise(Message(MessageType.REQUEST, 1, meta={"model": "x", "bytes": 4}))
    chunk = serialise(Message(MessageType.CHUNK, 1, 0, payload=b"abcd"))
    return {
        "wire": (wire, [ping, request + chunk]),
        **{f"codec-{name}": _codec(name) for name in example_names()},
        **_requests(),
    }


def wire(data: bytes) -> None:
    """A greeted edge's connection, read in two pieces; whole messages go into an inbox."""
    connection, inbox = Connection(Role.EDGE), Inbox(8, 1 << 16, 1 << 18)
    connection.receive(serialise(Message(MessageType.HELLO, meta={"model": "x"})))
    connection.send(Message(MessageType.WELCOME))
    for part in (data[: len(data) // 2], data[len(data) // 2 :]):
        for message in connection.receive(part):
            if message.type is MessageType.REQUEST:
                inbox.begin(message)
            elif message.type is MessageType.CHUNK:
                inbox.add(message)
    connection.end_of_stream()


EXPECTED = Expected(Signature(PictureInput(), (3, 4, 4)))


def _codec(name: str) -> tuple[Target, list[bytes]]:
    """A codec's decoder as at the other end of a wire, and tensors as they come to it.

    An affine decoder without its ranges or its metadata would refuse everything, and nothing behind
    that would be met: both are as the encoder leaves them.
    """
    codec, rng = codec_named(name), np.random.default_rng(0)
    given = [example_array(codec, rng) for _ in range(2)]
    shared = example_shared(codec, np.stack(given))
    encoded = [codec.encode(one, shared) for one in given]

    def target(data: bytes) -> None:
        codec.decode(encoded[0].meta, data, given[0].shape, shared)

    return target, [one.data for one in encoded]


def infer_json(data: bytes) -> None:
    """A body at the daemon that is JSON alone."""
    parse_infer(data, None, EXPECTED)


def infer_raw(data: bytes) -> None:
    """A body at the daemon of JSON and raw bytes, behind the JSON's length in four bytes."""
    length = int.from_bytes(data[:4], "little")
    parse_infer(data[4:], str(length), EXPECTED)


def picture(data: bytes) -> None:
    """A JPEG file at the daemon."""
    decode_jpeg(inspect_jpeg(data, 10_000), (4, 4))


def infer_grpc(data: bytes) -> None:
    """A message at the daemon over gRPC."""
    from controller.daemon.grpc.messages import check_bounds, parse_infer, read

    check_bounds(data)
    parse_infer(read("ModelInferRequest", data), EXPECTED)


def _requests() -> dict[str, tuple[Target, list[bytes]]]:
    """What the daemon is asked, over HTTP and, where protobuf is installed, over gRPC."""
    zeros, jpeg = bytes(48), _turned()
    typed = {"name": "picture", "shape": [1, 4, 4, 3], "datatype": "UINT8"}
    files = {"name": "picture", "shape": [1], "datatype": "BYTES"}
    more = {
        "id": "x",
        "parameters": {"deadline_ms": 80, "threshold": 0.5},
        "outputs": [{"name": "label", "parameters": {"binary_data": True}}, {"name": "exit"}],
    }
    nested = np.zeros((1, 4, 4, 3), int).tolist()
    plain = [
        {"inputs": [typed | {"data": list(zeros)}]}, {"inputs": [typed | {"data": nested}]} | more
    ]  # fmt: skip
    file = len(jpeg).to_bytes(4, "little") + jpeg
    raw = []
    for given, tail in ((typed, zeros), (files, file)):
        sized = given | {"parameters": {"binary_data_size": len(tail)}}
        head = json.dumps({"inputs": [sized]} | more).encode()
        raw.append(len(head).to_bytes(4, "little") + head + tail)
    found: dict[str, tuple[Target, list[bytes]]] = {
        "infer-json": (infer_json, [json.dumps(one).encode() for one in plain]),
        "infer-raw": (infer_raw, raw),
        "picture": (picture, [jpeg, many_scans(32, 8)]),
    }
    if importlib.util.find_spec("google") and importlib.util.find_spec("google.protobuf"):
        from controller.daemon.grpc.messages import make

        found["infer-grpc"] = (infer_grpc, [
            make("ModelInferRequest", inputs=[typed], raw_input_contents=[zeros], id="x"),
            make("ModelInferRequest", inputs=[files | {"contents": {"bytes_contents": [jpeg]}}]),
        ])  # fmt: skip
    return found


def _turned() -> bytes:
    """A small JPEG file whose metadata says that it lies on its side."""
    from PIL import Image

    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4), (200, 30, 90)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()
