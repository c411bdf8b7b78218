"""The edge under many devices, against the same work in one loop at its best batch size."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import msgspec
import numpy as np

from artefacts.endings import run_async
from artefacts.owners import temporary_folder
from artefacts.processes import Children, module_command
from controller.wire import CHUNK_BYTES, Connection, Message, MessageType, Role
from experiments.replay.testbed.link import wait_for_file
from models.codecs import codec_named
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor
from models.facts.cards import Model, load_model

BATCHES = (1, 2, 4, 8, 16)
LOOP_S = 2.0
START_LIMIT_S, CLOSED_WITHIN_S = 60.0, 30.0
PICTURES = 16
CODEC = "jpeg75"


class EdgeFigures(msgspec.Struct, frozen=True):
    """Requests a second of the loop (at its best batch) and of the edge, and how late answers were.

    `ratio`: the edge's to the loop's. Latencies are of answers, from the last byte handed over.
    """

    devices: int
    deadline_s: float
    loop_per_s: float
    loop_batch: int
    edge_per_s: float
    ratio: float
    p50_s: float
    p99_s: float
    refused_share: float
    late_share: float


def edge_figures(network: str, devices: int, seconds: float, deadline_s: float) -> EdgeFigures:
    """One thread computes in both; the edge is a process of its own, the devices are in this one.

    Every device keeps one request under way, so that all together ask as fast as they are answered.

    `network` is a model's name. So many `devices` ask for `seconds`, each request with `deadline_s`
    seconds.
    """
    model = load_model(network)
    pictures = generated_pictures(
        PICTURES, np.random.default_rng(0), max(model.spec.input_shape[1:])
    )
    sent = [codec_named(CODEC).encode(picture) for picture in pictures]
    loop_per_s, batch = _loop(model, [e.data for e in sent])
    with temporary_folder("bench") as place, Children(CLOSED_WITHIN_S) as children:
        port_file, config = place / "port", place / "edge.toml"
        folder = model.folder.resolve()
        config.write_text(
            f'format_version = 1\nmodels = ["{folder}"]\nport = 0\nthreads = 1\n'
            '[log]\nlevel = "error"\n'
        )
        process = children.start(
            module_command("coinfer.cli.entry", "edge", "--config", str(config), "--port-file",
                           str(port_file)), env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        port = int(wait_for_file(port_file, process, START_LIMIT_S))
        meta = _meta(model, pictures[0].shape, len(sent[0].data), deadline_s)
        found = run_async(_load(port, model, meta, sent[0].data, devices, seconds))
    answered = np.array(found["latency"])
    total = max(len(answered) + found["refused"], 1)
    p50, p99 = np.quantile(answered, [0.5, 0.99]) if len(answered) else (0.0, 0.0)
    per_s = len(answered) / seconds
    return EdgeFigures(
        devices, deadline_s, loop_per_s, batch, per_s, per_s / loop_per_s, float(p50), float(p99),
        found["refused"] / total, float((answered > deadline_s).mean()) if len(answered) else 0.0,
    )  # fmt: skip


def _loop(model: Model, files: list[bytes]) -> tuple[float, int]:
    """Requests a second, decoding and computing in turn, at the batch size that gives most."""
    executor, last = OnnxExecutor(model), len(model.spec.branches) - 1
    stop, best = len(model.spec.branches[last]), (0.0, 1)
    shape = (*model.spec.input_shape[1:], 3)
    meta: dict[str, Any] = {"shape": list(shape)}
    for batch in BATCHES:
        done, begun = 0, time.perf_counter()
        while (spent := time.perf_counter() - begun) < LOOP_S / len(BATCHES):
            x = [executor.decode(CODEC, last, 0, meta, files[k % len(files)]) for k in range(batch)]
            executor.run(last, 0, stop, np.concatenate(x))
            done += batch
        best = max(best, (done / spent, batch))
    return best


def _meta(model: Model, shape: tuple[int, ...], size: int, deadline_s: float) -> dict[str, Any]:
    last = len(model.spec.branches) - 1
    return {
        "model": model.digest, "exit": last, "start": 0, "stop": len(model.spec.branches[last]),
        "codec": CODEC, "shape": list(shape), "bytes": size, "remaining_s": deadline_s,
    }  # fmt: skip


async def _load(
    port: int, model: Model, meta: dict[str, Any], data: bytes, devices: int, seconds: float
) -> dict[str, Any]:
    found: dict[str, Any] = {"latency": [], "refused": 0}
    begun = asyncio.Event()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connection = Connection(Role.DEVICE)
        writer.write(connection.send(Message(MessageType.HELLO, meta={"model": model.digest})))
        await _next(reader, connection)
        await begun.wait()
        end, request = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            request += 1
            parts = [connection.send(Message(MessageType.REQUEST, request, meta=meta))]
            for at in range(0, len(data), CHUNK_BYTES):
                part = data[at : at + CHUNK_BYTES]
                parts.append(connection.send(Message(MessageType.CHUNK, request, at, payload=part)))
            asked = time.monotonic()
            writer.writelines(parts)
            answer = await _next(reader, connection)
            if answer.type is MessageType.REPLY:
                found["latency"].append(time.monotonic() - asked)
            else:
                found["refused"] += 1
                await asyncio.sleep(meta["remaining_s"] / 4)
        writer.close()

    tasks = [asyncio.create_task(one()) for _ in range(devices)]
    await asyncio.sleep(1.0)
    begun.set()
    await asyncio.gather(*tasks)
    return found


async def _next(reader: asyncio.StreamReader, connection: Connection) -> Message:
    while True:
        data = await reader.read(65536)
        if not data:
            raise ConnectionError("the edge closed a connection")
        messages = connection.receive(data)
        if messages:
            return messages[0]
