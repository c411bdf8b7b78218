"""What every daemon shows of itself: what was built, what its process takes, its certificates."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, Info, ProcessCollector

from artefacts import ArtefactError
from controller.link.secure import TlsFiles

SOURCE = "source"
"""The version of what runs from a source folder that is not installed."""


def add_process_metrics(into: CollectorRegistry, role: str) -> None:
    """Register `coinfer_build_info` and Prometheus' `process_` metrics.

    `role`: `device` or `edge`.
    """
    ProcessCollector(registry=into)
    info = Info("coinfer_build", "1; what runs, by its labels", registry=into)
    info.info(
        {
            "role": role,
            "version": _version("coinfer"),
            "onnxruntime": _version("onnxruntime"),
            "python": platform.python_version(),
        }
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return SOURCE


class CertificateEnds:
    """Shows when the certificates end that are loaded; nothing where there are none."""

    def __init__(self, into: CollectorRegistry) -> None:
        self._ends = Gauge(
            "coinfer_certificate_end_timestamp_seconds", "When a certificate ends, since 1970",
            ("certificate",), registry=into,
        )  # fmt: skip

    def loaded(self, files: TlsFiles) -> None:
        """These are loaded in the place of those before."""
        self._ends.clear()
        for which, path in (("own", files.certificate), ("authority", files.authority)):
            if path:
                with contextlib.suppress(ArtefactError):  # a metric must not end a daemon
                    end_s = certificate_end_s(Path(path))
                    self._ends.labels(which).set(end_s)


def certificate_end_s(path: Path) -> float:
    """When the certificate of a PEM file ends, of several the last one; seconds since 1970."""
    from cryptography import x509  # some megabytes, and a device without TLS needs none of them

    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        raise ArtefactError(path, found="no certificate", expected="a PEM file of some") from None
    return max(one.not_valid_after_utc.timestamp() for one in found)
