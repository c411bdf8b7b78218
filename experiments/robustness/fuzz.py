"""Hostile bytes for the decoder and every reader: what comes out is a value or a documented error.

    python -m experiments.robustness.fuzz --target wire --inputs 1000000     (all targets: --target
    all)

Coverage-guided where atheris is installed, else from a seeded generator that mutates good inputs. A
run ends with 1 at the first input that does anything else, and names the file that holds it.
"""

from __future__ import annotations

import contextlib
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from artefacts import CoinferError
from artefacts.owners import temporary_folder
from experiments.arguments import LineParser
from experiments.robustness.fuzz_files import REFUSED_WHOLE, file_targets
from experiments.robustness.fuzz_messages import Target, message_targets
from experiments.robustness.fuzz_samples import sample_targets
from experiments.robustness.structures import mutated_jpeg, mutated_json

SLOWEST_S = 5.0
MOST_GROWN_MIB = 1024
LONGEST = 4096


STRUCTURES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "infer-json": mutated_json,
    "picture": mutated_jpeg,
}
"""Whose inputs are also put together wrongly, part by part."""


@contextlib.contextmanager
def targets() -> Iterator[dict[str, tuple[Target, list[bytes]]]]:
    """By name: what is fed, and good inputs to begin from."""
    memory = Path("/dev/shm")
    with temporary_folder("fuzz", memory if memory.is_dir() else None) as folder:
        yield message_targets() | sample_targets() | file_targets(folder)


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
    """Give a target `inputs` mutated inputs; raises at the first that does what none may.

    A seed that is refused is a fault of the harness: its mutants would all be refused in one place,
    and nothing behind that would be met.

    `name` is the `target`'s; mutants are drawn from `seed` out of `seeds`, inputs that it takes.
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
    parser = LineParser(description=(__doc__ or "").splitlines()[0])
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
