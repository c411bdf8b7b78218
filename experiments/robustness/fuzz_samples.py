"""Fuzzed for samples that are no pictures, at the daemon: token ids, sound, tensors by name."""

from __future__ import annotations

import io
import json
import struct
import wave
from collections.abc import Callable
from typing import Any

import numpy as np

from controller.daemon.http.inference_v2 import parse_infer
from controller.daemon.inference.open_inference import Expected
from controller.daemon.inference.signature import Signature
from controller.daemon.inference.sound_files import read_wav
from models.codecs.tensors import NamedTensor
from models.facts.preprocessing import SoundInput, TensorInput, TokenInput

Target = Callable[[bytes], Any]
RATE_HZ, SAMPLES, TOKENS, VOCABULARY = 8000, 40, 6, 50
PAIR = (NamedTensor("features", "FP32", (2, 3)), NamedTensor("mask", "INT64", (4,)))
EXPECTED = {
    "tokens": Expected(Signature(TokenInput(VOCABULARY), (TOKENS,))),
    "sound": Expected(Signature(SoundInput(RATE_HZ), (SAMPLES,))),
    "tensors": Expected(Signature(TensorInput(PAIR), (10,))),
}


def sample_targets() -> dict[str, tuple[Target, list[bytes]]]:
    """By name: what is fed, and good inputs to begin from."""
    found: dict[str, tuple[Target, list[bytes]]] = {
        "wav": (lambda data: read_wav(data, RATE_HZ, SAMPLES), [_wav(1), _wav(2)])
    }
    for kind, inputs in _inputs().items():
        plain = [_plain(one) for one in inputs if not any(t[1] == "BYTES" for t in one)]
        found[f"infer-{kind}-json"] = (_json_target(EXPECTED[kind]), plain)
        found[f"infer-{kind}-raw"] = (_raw_target(EXPECTED[kind]), [_raw(one) for one in inputs])
    return found


_Input = tuple[str, str, list[int], Any]


def _inputs() -> dict[str, list[list[_Input]]]:
    """Good requests of every kind: (name, datatype, shape, values or bytes) of their inputs."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, VOCABULARY, (1, TOKENS))
    sound = rng.integers(-9000, 9000, (1, SAMPLES)).astype(np.int16)
    file = _wav(1)
    features, mask = rng.normal(size=(1, 2, 3)), rng.integers(0, 2, (1, 4))
    return {
        "tokens": [
            [("tokens", "INT64", [1, TOKENS], ids.astype("<i8"))],
            [("tokens", "INT32", [1, 3], ids[:, :3].astype("<i4"))],
        ],
        "sound": [
            [("sound", "INT16", [1, SAMPLES], sound)],
            [("sound", "FP32", [1, 9], (sound[:, :9] / 32768.0).astype("<f4"))],
            [("sound", "BYTES", [1], struct.pack("<I", len(file)) + file)],
        ],
        "tensors": [
            [
                ("features", "FP32", [1, 2, 3], features.astype("<f4")),
                ("mask", "INT64", [1, 4], mask.astype("<i8")),
            ]
        ],
    }


def _plain(inputs: list[_Input]) -> bytes:
    listed = [
        {"name": n, "datatype": d, "shape": s, "data": values.ravel().tolist()}
        for n, d, s, values in inputs
    ]
    return json.dumps({"inputs": listed}).encode()


def _raw(inputs: list[_Input]) -> bytes:
    """JSON behind its length in four bytes, and then the tensors."""
    tails = [v if isinstance(v, bytes) else v.tobytes() for *_, v in inputs]
    listed = [
        {"name": n, "datatype": d, "shape": s, "parameters": {"binary_data_size": len(tail)}}
        for (n, d, s, _), tail in zip(inputs, tails, strict=True)
    ]
    head = json.dumps({"inputs": listed, "parameters": {"deadline_ms": 80}}).encode()
    return len(head).to_bytes(4, "little") + head + b"".join(tails)


def _json_target(expected: Expected) -> Target:
    return lambda data: parse_infer(data, None, expected)


def _raw_target(expected: Expected) -> Target:
    def target(data: bytes) -> None:
        parse_infer(data[4:], str(int.from_bytes(data[:4], "little")), expected)

    return target


def _wav(channels: int) -> bytes:
    """A file of `SAMPLES` samples."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.arange(SAMPLES * channels, dtype="<i2").tobytes())
    return stream.getvalue()
