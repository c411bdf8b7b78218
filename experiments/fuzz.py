"""Hostile bytes for the decoder and every reader: what comes out is a value or a documented error.

    python -m experiments.fuzz --target wire --inputs 1000000     (all targets: --target all)

Coverage-guided where atheris is installed, else from a seeded generator that mutates good inputs. A
run ends with 1 at the first input that does anything else, and names the file that holds it.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artefacts import CoinferError
from controller.daemon.inference_v2 import decode_jpeg, parse_infer
from controller.daemon.settings import read_edge_settings, read_settings
from controller.planners.configuration_map import read_map
from controller.policies import SHIPPED_POLICIES
from controller.policies.network import load_policy
from controller.scenario import load_setting, read_scenario
from controller.wire import Connection, Inbox, Message, MessageType, Role, serialise
from models.cards import SHIPPED
from models.codecs import decode
from models.outcomes import read_outcomes
from models.profiles import read_profile
from traces.formats import read_traces

Target = Callable[[bytes], Any]
SLOWEST_S = 5.0
MOST_GROWN_MIB = 1024
LONGEST = 4096


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


def codecs(data: bytes) -> None:
    """Tensors and pictures as they come from the other end."""
    pictures, tensors = ("uint8", "jpeg50", "webp50"), ("float32", "int8", "int4c+zstd")
    every = [(c, (8, 8, 3)) for c in pictures] + [(c, (2, 4)) for c in tensors]
    for codec, shape in every:
        try:
            decode(codec, {"scale": 0.1, "zero": 0.0}, data, shape)
        except CoinferError:
            continue


def infer(data: bytes) -> None:
    """A body at the daemon, as it stands and behind a good header."""
    try:
        parse_infer(data, None, (4, 4), 10_000)
    except CoinferError:
        decode_jpeg(data, (4, 4), 10_000)


def _reading(suffix: str, read: Callable[[Path], Any]) -> Target:
    folder = Path(tempfile.mkdtemp(prefix="coinfer-fuzz-", dir=_memory()))

    def target(data: bytes) -> None:
        path = folder / f"input{suffix}"
        path.write_bytes(data)
        read(path)

    return target


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _policy_reader() -> Callable[[Path], Any]:
    setting = load_setting(read_scenario("3g-alexnet"))
    weights = (SHIPPED_POLICIES / "3g-alexnet" / "policy.npz").read_bytes()

    def read(path: Path) -> Any:
        (path.parent / "policy.npz").write_bytes(weights)
        return load_policy(path.parent, setting)

    return read


def targets() -> dict[str, tuple[Target, list[bytes]]]:
    """By name: what is fed, and good inputs to begin from."""
    model = SHIPPED / "mobilenetv2"
    setting = load_setting(read_scenario("3g-alexnet"))
    hello = serialise(Message(MessageType.PING, 7))
    request = serialise(Message(MessageType.REQUEST, 1, meta={"model": "x", "bytes": 4}))
    chunk = serialise(Message(MessageType.CHUNK, 1, 0, payload=b"abcd"))
    device = b'format_version = 1\nscenario = "x"\n[http]\nport = 1\n'
    edge = b'format_version = 1\nmodels = ["x"]\n[limits]\nidle_s = 1.0\n'
    scenarios = Path(__file__).parents[1] / "controller" / "scenarios"
    return {
        "wire": (wire, [hello, request + chunk]),
        "codecs": (codecs, [bytes(24), bytes(48)]),
        "infer": (infer, [b'{"inputs": [{"name": "picture", "shape": [1, 4, 4, 3]}]}']),
        "traces": (
            _reading(".csv", read_traces),
            [b"time_s,rate_bps\n0,1e6\n1,2e6\n", b"10\n20\n20\n", b"0 1 2 3 4 5\n1 1 2 3 4 5\n"],
        ),
        "profile": (
            _reading(".json", read_profile), [(model / "profiles/edge-x86.json").read_bytes()]
        ),
        "outcomes": (_reading(".npz", read_outcomes), [(model / "held_back.npz").read_bytes()]),
        "scenario": (
            _reading(".toml", lambda p: read_scenario(str(p))),
            [p.read_bytes() for p in sorted(scenarios.glob("*.toml"))],
        ),
        "map": (_reading(".json", lambda p: read_map(p, setting)), [b'{"format_version": 1}']),
        "policy": (
            _policy_target(),
            [(SHIPPED_POLICIES / "3g-alexnet" / "policy.json").read_bytes()],
        ),
        "device.toml": (_reading(".toml", read_settings), [device]),
        "edge.toml": (_reading(".toml", read_edge_settings), [edge]),
    }  # fmt: skip


def _policy_target() -> Target:
    read, folder = _policy_reader(), Path(tempfile.mkdtemp(prefix="coinfer-fuzz-", dir=_memory()))

    def target(data: bytes) -> None:
        path = folder / "policy.json"
        path.write_bytes(data)
        read(path)

    return target


def checked(name: str, target: Target, data: bytes) -> None:
    """One input: the documented errors pass, anything else is kept and raised; so is a hang."""
    begun = time.monotonic()
    try:
        target(data)
    except CoinferError as error:
        if "\n" in str(error):
            _keep(name, data)
            raise AssertionError(f"{name}: an error of several lines: {error!r}") from None
    except BaseException:
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


def run(name: str, inputs: int, seed: int) -> None:
    """Feed one target `inputs` mutated inputs; raises at the first that does what none may."""
    target, seeds = targets()[name]
    rng, before = random.Random(seed), _peak_mib()
    for data in seeds:
        checked(name, target, data)
    for done in range(inputs):
        checked(name, target, mutated(seeds, rng))
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
    names = ["wire", "codecs", "infer", "traces", "profile", "outcomes", "scenario", "map",
             "policy", "device.toml", "edge.toml"]  # fmt: skip
    parser.add_argument("--target", choices=[*names, "all"], default="all")
    parser.add_argument("--inputs", type=int, default=10_000, help="of every target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="coverage-guided (one target)")
    args = parser.parse_args(argv)
    if args.atheris:
        return _guided(args.target, args.inputs)
    for name in names if args.target == "all" else [args.target]:
        run(name, args.inputs, args.seed)
    return 0


def _guided(name: str, inputs: int) -> int:
    import atheris

    atheris.instrument_all()
    target, seeds = targets()[name]
    corpus = Path(tempfile.mkdtemp(prefix="coinfer-corpus-"))
    for k, data in enumerate(seeds):
        (corpus / str(k)).write_bytes(data)
    options = [f"-runs={inputs}", f"-max_len={max(LONGEST, *map(len, seeds))}", str(corpus)]
    atheris.Setup([sys.argv[0], *options], lambda data: checked(name, target, bytes(data)))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
