"""Hostile bytes for the decoder and every reader: what comes out is a value or a documented error.

    python -m experiments.robustness.fuzz --target wire --inputs 1000000     (all targets: --target
    all)

Coverage-guided where atheris is installed, else from a seeded generator that mutates good inputs. A
run ends with 1 at the first input that does anything else, and names the file that holds it.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import importlib.util
import io
import json
import random
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from artefacts import CoinferError
from artefacts.owners import temporary_folder
from controller.daemon.configuration.settings import read_edge_settings, read_settings
from controller.daemon.http.inference_v2 import parse_infer
from controller.daemon.inference.open_inference import Expected
from controller.daemon.inference.pictures import decode_jpeg, inspect_jpeg
from controller.planners.configuration_map import read_map
from controller.policies import SHIPPED_POLICIES
from controller.policies.network import load_policy
from controller.scenarios import SHIPPED as SCENARIOS
from controller.scenarios import load_setting, read_scenario, shipped_scenarios
from controller.wire import Connection, Inbox, Message, MessageType, Role, serialise
from experiments.robustness.plain_policy import plain_policy
from experiments.robustness.structures import many_scans, mutated_jpeg, mutated_json
from models.codecs import codec_named, example_names
from models.codecs.examples import example_array, example_shared
from models.facts.cards import SHIPPED
from models.facts.outcomes import read_outcomes
from models.facts.profiles import read_profile
from traces.formats import read_traces

Target = Callable[[bytes], Any]
SLOWEST_S = 5.0
MOST_GROWN_MIB = 1024
LONGEST = 4096
LONGEST_MESSAGE = 400
"""Characters of what a reader of traces says of a file, its path aside."""


def _zipped(name: str, data: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


TRACES = (
    b"time_s,rate_bps\n0,1e6\n1,2e6\n2,0\n",
    b"".join(b"%d\n" % (k // 2) for k in range(120)),
    _zipped("a.up", b"10\n20\n20\n"),
    b"0.5\t2.5\n1.5\t3.5\n",
    b"15 500\n400 500\n440 300\n900 300\n",
    b"1450274031 725 0 0 1000 500\n1450274032 1725 0 0 2000 1000\n",
    b"time (s);dl_mbps;ul_mbps\n0,5;10,5;2,5\n1,5;11;3\n",
    b"timestamp,throughput_kbps\n2019-12-01T13:47:32Z,5\n2019-12-01T13:47:33Z,6\n",
    b"Timestamp,RSRP,CQI,DL_bitrate,UL_bitrate\n2019.12.01_13.47.32,-95,9,9000,50\n"
    b"2019.12.01_13.47.33,-95,9,9100,30\n",
    b"run_num,seq_num,Throughput\n1,1,5\n1,2,6\n2,1,7\n",
    b"5.0,Mbits/sec\n300,Kbits/sec\n",
    b"Connecting to host x\n[  5]   0.00-1.00   sec   610 KBytes  5.00 Mbits/sec    0\n",
    b'{"start":{},"intervals":[{"sum":{"start":0,"end":1,"bits_per_second":8}}]}',
    b'{"event":"start","data":{}}\n'
    b'{"event":"interval","data":{"sum":{"start":0,"end":1,"bits_per_second":8}}}\n'
    b'{"event":"error","data":"busy"}\n',
    gzip.compress(b"ms,bytes\n0,5000\n1000,3000\n"),
    _zipped("a.csv", b"ms,kbps\n0,5000\n1000,3000\n"),
    _zipped("a.csv.gz", gzip.compress(b"ms,kbps\n0,5\n1000,3\n"), zipfile.ZIP_DEFLATED),
)
"""One of every kind of trace file."""


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


EXPECTED = Expected((4, 4))


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


STRUCTURES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "infer-json": mutated_json,
    "picture": mutated_jpeg,
}
"""Whose inputs are also put together wrongly, part by part."""
REFUSED_WHOLE = {
    "traces": [_zipped("a.csv", b"ms,kbps\n0,5000\n1000,3000\n", zipfile.ZIP_LZMA)],
}
"""What is refused for what it is, whatever stands in it; it is mutated beside the good inputs."""


def _strangers_trace(path: Path) -> None:
    """A trace file: whatever it holds, its error is short and prints."""
    try:
        read_traces(path)
    except CoinferError as error:
        said = str(error).removeprefix(str(path))
        if len(said) > LONGEST_MESSAGE or not said.isprintable():
            raise AssertionError(f"a long error, or one that does not print: {said!r}") from None
        raise


def _reading(
    folder: Path, name: str, read: Callable[[Path], Any], beside: Path | None = None
) -> Target:
    """Writes every input as the file `name` and has it read; `beside` lies in the same folder."""
    own = Path(tempfile.mkdtemp(dir=folder))
    if beside is not None:
        shutil.copy(beside, own)

    def target(data: bytes) -> None:
        (own / name).write_bytes(data)
        read(own / name)

    return target


@contextlib.contextmanager
def targets() -> Iterator[dict[str, tuple[Target, list[bytes]]]]:
    """By name: what is fed, and good inputs to begin from."""
    memory = Path("/dev/shm")
    with temporary_folder("fuzz", memory if memory.is_dir() else None) as folder:
        yield _targets(folder)


def _targets(folder: Path) -> dict[str, tuple[Target, list[bytes]]]:
    model, shipped = SHIPPED / "mobilenetv2", SHIPPED_POLICIES / "lte-mobilenet"
    setting = load_setting(read_scenario("lte-mobilenet"))
    ping = serialise(Message(MessageType.PING, 7))
    request = serialise(Message(MessageType.REQUEST, 1, meta={"model": "x", "bytes": 4}))
    chunk = serialise(Message(MessageType.CHUNK, 1, 0, payload=b"abcd"))
    scenarios = [SCENARIOS / f"{name}.toml" for name in shipped_scenarios()]
    files: dict[str, tuple[str, Callable[[Path], Any], list[bytes]]] = {
        "traces": ("t.csv", _strangers_trace, list(TRACES)),
        "profile": ("p.json", read_profile, [(model / "profiles/edge-x86.json").read_bytes()]),
        "outcomes": ("o.npz", read_outcomes, [(model / "held_back.npz").read_bytes()]),
        "scenario": ("s.toml", read_scenario, [p.read_bytes() for p in scenarios]),
        "map": ("map.json", lambda p: read_map(p, setting), [(shipped / "map.json").read_bytes()]),
        "device.toml": (
            "d.toml", read_settings, [b'format_version = 1\nscenario = "x"\n[http]\nport = 1\n']
        ),
        "edge.toml": (
            "e.toml", read_edge_settings,
            [b'format_version = 1\nmodels = ["x"]\n[limits]\nidle_s = 1.0\n'],
        ),
    }  # fmt: skip
    policies = {"policy": shipped, "policy-network": plain_policy(folder / "plain", setting)}
    return {
        "wire": (wire, [ping, request + chunk]),
        **{f"codec-{name}": _codec(name) for name in example_names()},
        **_requests(),
        **{
            name: (
                _reading(
                    folder,
                    "policy.json",
                    lambda p: load_policy(p.parent, setting),
                    place / "policy.npz",
                ),
                [(place / "policy.json").read_bytes()],
            )
            for name, place in policies.items()
        },
    } | {key: (_reading(folder, name, read), good) for key, (name, read, good) in files.items()}


def _turned() -> bytes:
    """A small JPEG file whose metadata says that it lies on its side."""
    from PIL import Image

    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4), (200, 30, 90)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def checked(name: str, target: Target, data: bytes) -> None:
    """One input: the documented errors pass, anything else is kept and raised; so is a hang."""
    begun = time.monotonic()
    try:
        target(data)
    except CoinferError as error:
        if "\n" in str(error):
            _keep(name, data)
            raise AssertionError(f"{name}: an error of several lines: {error!r}") from None
    except Exception:
        _keep(name, data)
        raise
    if time.monotonic() - begun > SLOWEST_S:
        _keep(name, data)
        raise AssertionError(f"{name}: took more than {SLOWEST_S:g} s")


def _keep(name: str, data: bytes) -> None:
    path = Path(f"crash-{name}.bin")
    path.write_bytes(data)
    print(f"{name}: the input is in {path}", file=sys.stderr)


def mutated(seeds: list[bytes], rng: random.Random) -> bytes:
    """A good input with a few bytes changed, cut out, doubled, or taken from another."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(5)
        if what == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif what == 1:
            del data[at : at + rng.randint(1, 16)]
        elif what == 2:
            data[at:at] = data[at : at + rng.randint(1, 16)]
        elif what == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            data[at:at] = rng.choice((b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'"', b"\0"))
    return bytes(data)


def run(name: str, target: Target, seeds: list[bytes], inputs: int, seed: int) -> None:
    """Feed a target `inputs` mutated inputs; raises at the first that does what none may.

    A seed that is refused is a fault of the harness: its mutants would all be refused in one place,
    and nothing behind that would be met.
    """
    rng, before = random.Random(seed), _peak_mib()
    if not seeds:
        raise AssertionError(f"{name}: found no good input to begin from")
    for data in seeds:
        try:
            target(data)
        except CoinferError as error:
            raise AssertionError(f"{name}: a good input was refused: {error}") from None
    begin = [*seeds, *REFUSED_WHOLE.get(name, [])]
    for done in range(inputs):
        by_structure = STRUCTURES.get(name) if done % 2 else None
        data = by_structure(rng.choice(seeds), rng) if by_structure else mutated(begin, rng)
        checked(name, target, data)
        if done and done % 10_000 == 0:
            print(f"{name}: {done:,} inputs", file=sys.stderr)
    grown = _peak_mib() - before
    if grown > MOST_GROWN_MIB:
        raise AssertionError(f"{name}: memory grew by {grown} MiB")
    print(f"{name}: {inputs:,} inputs, memory grew by {grown} MiB")


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="all", help="one of them (all)")
    parser.add_argument("--inputs", type=int, default=10_000, help="of every target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="coverage-guided (one target)")
    args = parser.parse_args(argv)
    with targets() as known:
        names = sorted(known) if args.target == "all" else [args.target]
        if args.target not in (*known, "all") or (args.atheris and len(names) > 1):
            parser.error(f"--target: found '{args.target}', expected {', '.join(sorted(known))}")
        try:
            for name in names:
                target, seeds = known[name]
                if args.atheris:
                    _guided(name, target, seeds, args.inputs)
                else:
                    run(name, target, seeds, args.inputs, args.seed)
        except KeyboardInterrupt:
            print("interrupted: nothing was found until then", file=sys.stderr)
            return 130
    return 0


def _guided(name: str, target: Target, seeds: list[bytes], inputs: int) -> None:
    import atheris

    atheris.instrument_all()
    with temporary_folder("corpus") as corpus:
        for k, data in enumerate(seeds):
            (corpus / str(k)).write_bytes(data)
        options = [f"-runs={inputs}", f"-max_len={max(LONGEST, *map(len, seeds))}", str(corpus)]
        atheris.Setup([sys.argv[0], *options], lambda data: checked(name, target, bytes(data)))
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
