"""What a daemon's frames leave behind: metrics, traces, records, a line for each that was late."""

from __future__ import annotations

import logging
import time

from controller.daemon.monitoring.metrics import DeviceMetrics
from controller.daemon.monitoring.process import CertificateEnds
from controller.daemon.monitoring.tracing import DeviceTracing, TracingSettings, make_provider
from controller.daemon.records.entries import FORMAT_VERSION, RecordsHeader, plans_digest
from controller.daemon.records.keeping import RecordsKeeper
from controller.device.engine import FrameEngine
from controller.device.frame import FrameRecord
from controller.link.secure import TlsFiles
from controller.scenarios import Setting

log = logging.getLogger("coinfer.device")


class DeviceObserver:
    """Hears of every frame of an engine, on its thread."""

    def __init__(
        self, engine: FrameEngine, tracing: TracingSettings, files: TlsFiles, setting: Setting
    ) -> None:
        """`engine` runs frames of `setting`; `tracing` says where spans go.

        `files`: what is loaded of certificates.
        """
        self.metrics = DeviceMetrics(engine, lambda: len(engine.live))
        CertificateEnds(self.metrics.registry).loaded(files)
        self._engine = engine
        self._tracing: DeviceTracing | None = None
        if tracing.endpoint:
            self._tracing = DeviceTracing(make_provider("coinfer-device", tracing), engine.clock)
            engine.on_begun = self._tracing.begun
        self.records = RecordsKeeper(
            lambda stream, number: _header(engine, setting, stream, number)
        )
        self._show_records()
        engine.on_record = self._ended
        engine.watch.on_measured = self.records.keep

    def _show_records(self) -> None:
        records = self.records
        self.metrics.add(
            {
                "coinfer_records_dropped": (
                    "Frames and measurements that [records] did not keep",
                    lambda: records.dropped,
                )
            },
            {"coinfer_records_bytes": ("Of all records that are kept", lambda: records.bytes)},
        )

    def _ended(self, record: FrameRecord) -> None:
        self.metrics.frame_ended(record)
        self.records.keep(record)
        if self._tracing is not None:
            self._tracing.ended(record, self._engine.begin_s)
        if record.latency_s is None:
            log.info("frame %d: no answer in time (%s)", record.frame, record.error or "late")

    def close(self) -> None:
        """Send what is left of the traces, write what is left of the records."""
        self.records.close()
        if self._tracing is not None:
            self._tracing.close()


def _header(engine: FrameEngine, setting: Setting, stream: str, number: int) -> RecordsHeader:
    """Whose records they are: those of an engine that runs frames of a setting."""
    return RecordsHeader(
        FORMAT_VERSION,
        stream,
        number,
        round(time.time() - (engine.clock() - engine.begin_s), 3),
        setting.scenario.name,
        setting.scenario.digest,
        setting.model.digest,
        setting.inputs_digest,
        plans_digest(setting.table.plans),
    )
