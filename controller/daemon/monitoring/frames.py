"""What a daemon's frames leave behind: metrics, traces, records, a line for each that was late."""

from __future__ import annotations

import logging

from controller.daemon.monitoring.metrics import DeviceMetrics
from controller.daemon.monitoring.process import CertificateEnds
from controller.daemon.monitoring.tracing import DeviceTracing, TracingSettings, make_provider
from controller.daemon.records.keeping import engine_keeper
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
        self.records = engine_keeper(engine, setting)
        self._show_records()
        engine.on_record = self._ended

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
