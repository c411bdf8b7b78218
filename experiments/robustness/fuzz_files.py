"""Fuzzed for what is read from files: traces, profiles, outcomes, scenarios, maps, policies."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artefacts import CoinferError
from controller.daemon.configuration.settings import read_edge_settings, read_settings
from controller.planners.configuration_map import read_map
from controller.policies import SHIPPED_POLICIES
from controller.policies.network import load_policy
from controller.scenarios import SHIPPED as SCENARIOS
from controller.scenarios import Setting, load_setting, read_scenario, shipped_scenarios
from experiments.robustness.fuzz_messages import Target
from experiments.robustness.plain_policy import plain_policy
from models.facts.cards import SHIPPED
from models.facts.outcomes import read_outcomes
from models.facts.profiles import read_profile
from traces.formats import read_traces

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
REFUSED_WHOLE = {
    "traces": [_zipped("a.csv", b"ms,kbps\n0,5000\n1000,3000\n", zipfile.ZIP_LZMA)],
}
"""What is refused for what it is, whatever stands in it; it is mutated beside the good inputs."""


def _any_trace(path: Path) -> None:
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


def file_targets(folder: Path) -> dict[str, tuple[Target, list[bytes]]]:
    """By name: what is fed, and good inputs to begin from; files are written into `folder`."""
    model, shipped = SHIPPED / "mobilenetv2", SHIPPED_POLICIES / "lte-mobilenet"
    setting = load_setting(read_scenario("lte-mobilenet"))
    scenarios = [SCENARIOS / f"{name}.toml" for name in shipped_scenarios()]
    files: dict[str, tuple[str, Callable[[Path], Any], list[bytes]]] = {
        "traces": ("t.csv", _any_trace, list(TRACES)),
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
    return {name: _policy(folder, place, setting) for name, place in policies.items()} | {
        key: (_reading(folder, name, read), good) for key, (name, read, good) in files.items()
    }


def _policy(folder: Path, place: Path, setting: Setting) -> tuple[Target, list[bytes]]:
    """A policy's JSON; its arrays lie beside it as they are."""
    target = _reading(
        folder, "policy.json", lambda p: load_policy(p.parent, setting), place / "policy.npz"
    )
    return target, [(place / "policy.json").read_bytes()]
