"""What `device.toml` names, made: the engine with its link, its controller and its executor.

Nothing runs yet when it is built, but the link, which connects in the background.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from artefacts import UsageError
from controller.daemon.configuration.choosing import make_controller
from controller.daemon.configuration.settings import DeviceSettings, parse_edge
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs
from controller.device.greeting import asked_intervals, most_reply_bytes
from controller.device.warming import warm
from controller.link.edge_link import EdgeLink
from controller.link.interface import Link, NoLink, Reply
from controller.link.pool import LinkPool
from controller.link.secure import client_security
from controller.scenarios import Prices, Setting, load_setting, read_scenario
from models.executors import make_executor
from models.facts.meaning import meaning_digest


def load_served(settings: DeviceSettings) -> Setting:
    """The scenario that a daemon serves; a `UsageError` for one that cannot be."""
    own, now = read_scenario(settings.scenario), settings.prices
    prices = Prices(now.device_second, now.megabyte)
    # its plans are those of the prices, which change while it runs: it begins at the file's own
    setting = load_setting(prices.scenario(own)).at_prices(*Prices().over(own.reward))
    if setting.closed_loop:
        raise UsageError(
            f"scenario '{setting.scenario.name}': found a closed loop, expected a frame stream"
        )
    if not setting.scenario.plans.anytime:
        raise UsageError(
            f"scenario '{setting.scenario.name}', plans.anytime: found false, expected true "
            "(a daemon always answers in time where it can)"
        )
    return setting


def build_engine(settings: DeviceSettings, path: Path, setting: Setting) -> FrameEngine:
    """The engine, warmed; `path` is the settings' file, which mistakes in it are named by."""
    controller = make_controller(settings, setting)
    cuts = {hop.start for p in setting.table.plans for hop in p.hops}
    seams = cuts | {e.after for e in setting.spec.exits}
    executor = make_executor(settings.executor, setting.model, setting.device.threads, seams)
    made: list[FrameEngine] = []

    def on_reply(reply: Reply) -> None:
        if made:  # a link may be heard before the engine that asked for it is made
            made[0].on_reply(reply)

    args = EngineArgs(
        setting.scenario.frames.deadline_s,
        rescue_margin_s=setting.timing.rescue_margin_s,
        rtt_s=setting.scenario.link.rtt_s,
        interval_s=setting.interval_s,
    )
    made.append(
        FrameEngine(
            setting.model,
            executor,
            setting.device,
            setting.table,
            controller,
            build_link(settings, path, setting, on_reply),
            args,
        )
    )
    made[0].guard(settings.probes, random.Random())
    warm(setting, executor)
    made[0].local.learn_pace()
    setting.model.release()
    return made[0]


def build_link(
    settings: DeviceSettings, path: Path, setting: Setting, on_reply: Callable[[Reply], None]
) -> Link:
    """The way to the edges that are named; replies go to `on_reply`, from its own threads."""
    edges = [parse_edge(text, path, f"edges[{k}]") for k, text in enumerate(settings.edges)]
    if not edges:
        return NoLink()
    security = client_security(settings.tls) if settings.tls.given else None
    intervals = asked_intervals(setting.table)

    def make(address: tuple[str, int], report: Callable[[Reply], None]) -> Link:
        return EdgeLink(
            *address,
            setting.model.digest,
            report,
            intervals=intervals,
            security=security,
            seed=None,
            reply_bytes=most_reply_bytes(setting.table, setting.model.answers),
            meaning=meaning_digest(setting.model.card),
        )

    return LinkPool([partial(make, address) for address in edges], on_reply)
