"""One frame through the resources at a time: plain numbers, ifs and loops."""

import math
from collections import deque
from dataclasses import dataclass

INF = math.inf
QUANTILE_95 = 1.6448536269514722


@dataclass
class Walk:
    """A link walked piece by piece: (seconds, bit/s) from time 0; after them nothing passes."""

    pieces: list

    def end(self, start, n_bytes):
        if n_bytes <= 0 or start == INF:
            return start
        bits, begins = 8.0 * n_bytes, 0.0
        for seconds, rate in self.pieces:
            ends = begins + seconds
            at = max(start, begins)
            if at < ends and rate > 0:
                if bits <= rate * (ends - at):
                    return at + bits / rate
                bits -= rate * (ends - at)
            begins = ends
        return INF

    def passed(self, start, stop):
        bits, begins = 0.0, 0.0
        for seconds, rate in self.pieces:
            ends = begins + seconds
            bits += rate * max(min(stop, ends) - max(start, begins), 0.0)
            begins = ends
        return bits / 8.0


def wire_bytes(model, payload):
    if payload <= 0:
        return 0.0
    message = payload + model.message_bytes
    return message + math.ceil(message / model.segment_bytes) * model.packet_bytes


def ramped(model, walk, start, wire, window):
    """When an upload ends whose first round trip carries `window` bytes, the next the double."""
    if model.rtt_s <= 0:
        return walk.end(start, wire)
    at, left = start, wire
    while left > window:
        at = max(walk.end(at, window), at + model.rtt_s)
        left -= window
        window *= 2
    return walk.end(at, left)


def window_grown(window, wire):
    carried = window
    while carried < wire:
        window *= 2
        carried += window
    return window


def first_part(table, p, start, limit, noise):
    """The device's first part: seconds spent, whether it ended, gates' answer, seconds until asked.

    A stretch that at its median would miss the deadline is not begun.
    """
    gates = [(s, int(e)) for s, e in zip(table.early_s[p], table.early_exit[p], strict=True)]
    ends = [(s, e) for s, e in gates if e >= 0] + [(table.prefix_s[p], None)]
    spent, done, answer, asked = 0.0, 0.0, -1, 0.0
    for upto, gate in ends:
        if start + spent + (upto - done) > limit:
            return spent, False, answer, asked
        spent, done = spent + (upto - done) * noise, upto
        if gate is not None:
            asked = spent
            answer = gate if start + spent <= limit else answer
    return spent, True, answer, asked


def upload(table, p, handed, state, walk, model, limit, weight):
    """What an upload does to the uplink and what its measurement says."""
    payload = float(table.up_bytes[p]) * weight
    wire, ready = wire_bytes(model, payload), max(handed, state["uplink_s"])
    if not ready < limit:
        return {"end": INF, "sent": 0.0, "bytes": 0.0, "took": 0.0, "cancelled": False}
    window = state["window_bytes"]
    if ready > state["uplink_s"] + model.idle_reset_s:
        window = min(window, model.initial_window_bytes)
    end = ramped(model, walk, ready, wire, window)
    state["window_bytes"] = window_grown(window, wire)
    if end < limit or limit == INF:
        state["uplink_s"] = end
        there = end < INF
        return {
            "end": end, "sent": wire, "bytes": payload if there else 0.0,
            "took": end - ready if there else 0.0, "cancelled": False,
        }  # fmt: skip
    passed = min(walk.passed(ready, limit), wire)
    owed = min(wire - passed, model.send_buffer_bytes)
    state["uplink_s"] = walk.end(limit, owed)
    return {
        "end": INF, "sent": passed + owed, "bytes": passed * payload / wire,
        "took": limit - ready, "cancelled": True,
    }  # fmt: skip


@dataclass
class Kept:
    """A fallback that is kept time for."""

    begin: float
    latest: float
    over: float
    seconds: float
    pause: float
    exit: int = -1

    def end(self, begin):
        return begin + (self.pause if self.over < begin + self.pause else self.seconds)


def behind_kept(state, at, expected, limit):
    """When a job begins that could at `at`: fallbacks go before it whose time has come, and those
    that it would run into, unless it would then be late itself."""
    for number, one in enumerate(state["kept"]):
        if one is None:
            continue
        if one.begin <= at:
            at = max(at, one.end(one.begin)) if one.begin < one.over else at
            state["kept"][number] = None
        elif at < one.over and at + expected > one.latest:
            early = one.end(at)
            if early + expected <= limit:
                at, state["kept"][number] = early, None
        if one.over <= at:
            state["kept"][number] = None
    return at


def after_job(state, end):
    """What is kept comes behind a job that ended, or never: its frame loses the answer."""
    for number, one in enumerate(state["kept"]):
        if one is not None:
            if one.begin < end:
                one.begin = end
                if end > one.latest or end + one.seconds > one.over:
                    state["lost"][number] = one.exit
            if one.begin > one.latest:
                state["kept"][number] = None


def keep_new(table, state, limit):
    """A frame's own place among the newest, empty where it has no fallback."""
    if limit < INF and any(seconds < INF for seconds in table.rescue_s):
        state["kept"].append(state["new"])
        state["lost"].append(-1)


def local_answers(table, p, arrival, state, back, limit, timing, noise, early):
    """Jobs on the device while the edge is awaited: (free, spent, exit or None)."""
    free, keeps = state["device_s"], bool(state["kept"])
    waits = table.wait_exit[p], table.wait_s[p], table.wait_pause_s[p]
    jobs = [(int(e), float(s), float(u), 0.0) for e, s, u in zip(*waits, strict=True)]
    over = limit if table.suffix_s[p] > 0 else min(back, limit)
    chained = len(jobs)
    if timing.deadline_s is not None and table.rescue_s[p] < INF:
        keep = float(table.rescue_s[p]) * math.exp(QUANTILE_95 * table.device_sigma)
        wait = max(timing.deadline_s - keep - timing.rescue_margin_s, 0.0)
        pause = float(table.rescue_pause_s[p])
        jobs.append((0, float(table.rescue_s[p]), pause, arrival + wait))
    spent, answer, broken = 0.0, None, False
    for number, (exit_, median, pause, earliest) in enumerate(jobs):
        begin, kept = max(free, earliest), keeps and number >= chained
        if kept:
            for one in state["kept"]:
                if one is not None and one.begin <= begin and one.begin < one.over:
                    begin = max(begin, one.end(one.begin))
            last, until = limit - median, min(back, limit)
            if begin <= last:
                state["new"] = Kept(begin, last, until, median * noise, pause * noise)
        elif keeps and exit_ >= 0 and not broken and begin < min(back, limit):
            begin = free = behind_kept(state, begin, median, limit)
        late = begin >= back or begin >= limit or begin + median > limit
        # a hedge goes on from what the one before it has computed; a rescue begins anew
        broken = number < chained and (broken or late or exit_ < 0)
        if late or broken:
            continue
        given_up = over < begin + pause * noise
        taken = (pause if given_up else median) * noise
        end, spent = begin + taken, spent + taken
        if end <= limit and not given_up:
            if kept and state["new"] is not None and early < 0 and answer is None:
                state["new"].exit = exit_
            answer = exit_
        if kept:
            continue  # until it begins the device is free
        free = end
        after_job(state, end)
    return free, spent, answer


PLAIN = (0.0, 0.0, 0.0, 1.0)
"""Seconds of device and edge beyond their work, seconds that others have asked of the edge, and a
sample's bytes over their mean."""


def scalar_frame(
    table, p, arrival, state, walk, model, timing, device_noise, edge_noise, varied=PLAIN
):
    """One frame of plan p; changes `state` and gives the fields of `FrameOutcome`."""
    more_device_s, more_edge_s, others_s, weight = varied
    limit = INF if timing.deadline_s is None else arrival + timing.deadline_s
    state["new"], state["lost"] = None, deque([-1] * len(state["kept"]), state["kept"].maxlen)
    local, computes = bool(table.local[p]), table.prefix_s[p] > 0
    begun = arrival + more_device_s
    start = max(begun, state["device_s"]) if computes else begun
    if computes:
        at_once = start
        start = behind_kept(state, start, float(table.mean_prefix_s[p]), limit)
        if start > at_once:
            state["device_s"] = start
    head, ended, answer, asked = first_part(table, p, start, limit, device_noise)
    if computes and head > 0:
        state["device_s"] = start + head
        after_job(state, start + head)
    done = start + head if ended else INF
    found = {
        "asked_s": start + asked, "device_start_s": start, "device_prefix_s": head,
        "handed_s": INF, "bytes_sent": 0.0, "measured_bytes": 0.0, "measured_duration_s": 0.0,
        "measured_known_s": INF, "measured_complete": False,
    }  # fmt: skip
    spent, own = 0.0, done if local else INF
    if not local and done < limit:
        up = upload(table, p, done, state, walk, model, limit, weight)
        complete, back = up["end"] < limit, INF
        if complete:
            there = up["end"] + model.rtt_s / 2
            spent_s = float(table.remote_s[p]) * edge_noise + more_edge_s
            state["edge_s"] = max(there + others_s, state["edge_s"]) + spent_s
            gone = max(state["edge_s"], state["downlink_s"])
            down = walk.end(gone, wire_bytes(model, float(table.down_bytes[p])))
            state["downlink_s"] = down if down < INF else limit
            back = down + model.rtt_s / 2
        free, spent, later = local_answers(
            table, p, arrival, state, back, limit, timing, device_noise, answer
        )
        answer = answer if later is None else later
        state["device_s"], own = free, back
        keep_new(table, state, limit)
        tail = float(table.suffix_s[p]) * device_noise
        if tail > 0:
            begin = max(back, free)
            if begin < limit:
                ready = begin
                begin = behind_kept(state, begin, float(table.suffix_s[p]), limit)
                if begin > ready:
                    state["device_s"] = begin
            own = begin + tail
            if begin < limit:
                state["device_s"], spent = own, spent + tail
                after_job(state, own)
        known = back if back < INF else limit + (model.rtt_s if up["cancelled"] else 0.0)
        found |= {
            "handed_s": done, "bytes_sent": up["sent"], "measured_bytes": up["bytes"],
            "measured_duration_s": up["took"], "measured_known_s": known,
            "measured_complete": complete,
        }  # fmt: skip
    else:
        keep_new(table, state, limit)
    by_plan = own <= limit and own < INF
    if state["kept"]:
        if by_plan:
            state["lost"][-1] = -1
            if state["new"] is not None:
                state["new"].exit = -1
        elif state["lost"][-1] >= 0:
            answer = -1
    answered = own if by_plan else limit if answer >= 0 else INF
    return found | {
        "answered_s": answered, "latency_s": answered - arrival, "by_plan": by_plan,
        "answer_exit": int(table.exit[p]) if by_plan else answer, "device_s": head + spent,
    }  # fmt: skip
