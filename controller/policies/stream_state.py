"""Everything that a learned controller keeps of a stream, for L lanes at once.

The environments that policies are trained and judged in step this: what was measured, what is on
its way, when the link was heard of last, and the observation that follows. A device has one stream,
for which `controller.policies.single_stream` and `controller.policies.single_observation` keep the
same in plain numbers; they are held to this.
"""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Bools, Floats, Ints
from controller.policies.features import Observer, Scales
from controller.policies.in_flight import InFlight
from controller.policies.observation import Observation, ObservationEncoder
from controller.policies.probing import Prober
from controller.scenarios import Setting


def scales_of(setting: Setting) -> Scales:
    """What the observations of a setting are divided by, and whether its world shows in them."""
    scenario = setting.scenario
    return Scales(scenario.frames.deadline_s, worldly=not scenario.world.tidy)


class StreamState:
    """Takes in measurements, results and choices; gives observations."""

    def __init__(
        self, setting: Setting, encoder: ObservationEncoder, lanes: int, blind_s: float
    ) -> None:
        self._encoder, self._model = encoder, setting.link_model
        self._observer = Observer(lanes, scales_of(setting))
        self._prober = Prober(setting.table, lanes, blind_s)
        self._in_flight = InFlight(setting, lanes)

    def forget(self, lanes: Bools) -> None:
        """New streams begin in the masked lanes."""
        self._observer.reset(lanes)
        self._prober.reset(lanes)
        self._in_flight.forget(lanes)

    def measured(
        self,
        lanes: Bools,
        known_s: Floats,
        payload_bytes: Floats,
        duration_s: Floats,
        complete: Bools,
    ) -> None:
        """A transfer's figures are known in the masked lanes (arrays of length L).

        `lanes` says which they are, `known_s` when (seconds). `payload_bytes` passed in
        `duration_s`; `complete` says whether the transfer was whole.
        """
        self._prober.measured(lanes, known_s)
        # what a plan's bytes take is worked out with its headers: so is the rate of a transfer
        rate = self._model.rate_bps(payload_bytes, duration_s)
        self._observer.measured(lanes, known_s, rate, complete)

    def ended(
        self,
        lanes: Bools,
        frame: Ints,
        in_time: Bools,
        by_plan: Bools,
        latency_s: Floats,
        noticed: Floats,
    ) -> None:
        """A frame ended in the masked lanes.

        `lanes`, `frame` (its number), `in_time`, `by_plan` (answered by the plan itself) and
        `latency_s` (inf: no answer) are (L,). `noticed` (3, L) is what it has shown, as
        `controller.interface.Noticed` has it: NaN where it showed nothing.
        """
        self._observer.ended(lanes, in_time, by_plan, latency_s, noticed)
        self._in_flight.ended(lanes, frame)

    def observation(
        self,
        now_s: Floats,
        device_backlog_s: Floats,
        uplink_backlog_bytes: Floats,
        device_pace: Floats,
    ) -> Observation:
        """The observation of every lane at its decision time, `now_s` (L,).

        `device_backlog_s` and `uplink_backlog_bytes` are what still waits, `device_pace` is what
        the device's newest jobs took over its profile; each (L,).
        """
        return self._encoder.encode(
            self._observer, self._in_flight, now_s, device_backlog_s, uplink_backlog_bytes,
            device_pace,
        )  # fmt: skip

    def applied(
        self, plan: Ints, observation: Observation, now_s: Floats, decided: Bools | None = None
    ) -> Ints:
        """The plans (L,) as they are carried out: a probe in the place of blind ones.

        `decided`: lanes where the policy decided (all, if None); the others keep their plans.

        `plan` (L,) are indices of the table, `observation` is what they were decided on, `now_s`
        (L,) when, in seconds.
        """
        asked = self._prober.applied(plan, now_s, observation.advantage, decided)
        return np.array(asked)

    def carried_out(
        self, frame: Ints, plan: Ints, now_s: Floats, device_backlog_s: Floats, rtt_s: Floats
    ) -> None:
        """These plans run the frames that have just arrived.

        `frame` are their numbers and `plan` indices of the table. `now_s`, `device_backlog_s` and
        `rtt_s` are seconds. All are (L,).
        """
        self._in_flight.chosen(frame, plan, now_s, device_backlog_s, rtt_s)

    def changed(self, lanes: Bools, frame: Ints, plan: Ints) -> None:
        """These frames of the masked lanes run by other plans than `carried_out` was given."""
        self._in_flight.changed(lanes, frame, plan)
