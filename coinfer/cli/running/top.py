"""`coinfer top`: what a device does, in a terminal: bandwidth, plans, latency, exits."""

from __future__ import annotations

import time
from collections import Counter
from typing import Annotated, Any

import typer

from coinfer.cli.options import DAEMON, DAEMON_HELP

BARS = " ▁▂▃▄▅▆▇█"
SHOWN_S = 60
MOST_PLANS = 5


def top(
    device: Annotated[str, typer.Argument(help=DAEMON_HELP)] = DAEMON,
    every_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option(help="One look, and no more.")] = False,
) -> None:
    """Watch a device daemon until interrupted."""
    from rich.live import Live

    from artefacts import UsageError
    from coinfer.cli.console import PlainConsole
    from controller.daemon.client import Client, DeviceError

    screen = PlainConsole()
    with Client(device) as client:

        def look() -> dict[str, Any]:
            try:
                return client.state()
            except DeviceError as error:
                raise UsageError(f"{device}: no answer from a daemon ({error})") from None

        if once:
            screen.print(render(look(), screen.width))
            return
        try:
            with Live(render(look(), screen.width), console=screen, auto_refresh=False) as live:
                while True:
                    time.sleep(every_s)
                    live.update(render(look(), screen.width), refresh=True)
        except KeyboardInterrupt:
            return


def render(state: dict[str, Any], width: int) -> str:
    """The screen: facts, three lines of the last seconds, exits and plans of the last minute."""
    seconds = state["seconds"][-SHOWN_S:]
    rtt = "unknown" if state["rtt_ms"] is None else f"{state['rtt_ms']:g} ms"
    edge = (
        f"edge {state.get('edge') or 'connected'}, round trip {rtt}"
        if state["connected"]
        else "no edge"
    )
    if state["breaker_open"]:
        edge += ", frames kept on the device"
    lines = [
        f"{state['model']}, {state['controller']}, deadline {state['deadline_ms']:g} ms; {edge}",
        f"{state['frames']} frames, {state['late']} late, {state['refused']} refused",
    ]
    share = state.get("policy_fallback_share")
    if share:
        lines.append(
            f"the robust planner decided {100 * share:.0f} % of the last minute's frames: "
            "outside the policy's training"
        )
    room = max(min(width - 40, SHOWN_S), 10)
    for name, key, unit in (
        ("bandwidth", "bandwidth_mbps", "Mbit/s"),
        ("latency p95", "p95_ms", "ms"),
        ("frames", "frames", "a second"),
    ):
        values = [s[key] for s in seconds][-room:]
        last = next((v for v in reversed(values) if v is not None), None)
        now = "-" if last is None else f"{last:.3g} {unit}"
        lines.append(f"{name:12} {_bars(values):{room}} {now}")
    for what, key in (("exits", "exits"), ("plans", "plans")):
        of_plan: Counter[str] = Counter()
        for second in seconds:
            of_plan.update(second[key])
        total = max(sum(of_plan.values()), 1)
        shares = [f"{n}: {100 * c / total:.0f} %" for n, c in of_plan.most_common(MOST_PLANS)]
        lines.append(f"{what:12} " + ("; ".join(shares) or "-"))
    return "\n".join(line[: max(width, 20)] for line in lines)


def _bars(values: list[float | None]) -> str:
    most = max((v for v in values if v is not None), default=0.0)
    if most <= 0:
        return " " * len(values)
    return "".join(" " if v is None else BARS[round((len(BARS) - 1) * v / most)] for v in values)
