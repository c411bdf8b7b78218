"""What every daemon shows of itself: what was built, what its process takes, its certificates."""

from __future__ import annotations

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


def add_certificate_metrics(into: CollectorRegistry, files: TlsFiles) -> None:
    """Register when the certificates end that were loaded at the start, where there are some."""
    named = {"own": files.certificate, "authority": files.authority}
    ends_s = {which: certificate_end_s(Path(path)) for which, path in named.items() if path}
    if not ends_s:
        return
    gauge = Gauge(
        "coinfer_certificate_end_timestamp_seconds", "When a certificate ends, since 1970",
        ("certificate",), registry=into,
    )  # fmt: skip
    for which, end_s in ends_s.items():
        gauge.labels(which).set(end_s)


def certificate_end_s(path: Path) -> float:
    """When the certificate of a PEM file ends, of several the last one; seconds since 1970."""
    from cryptography import x509  # some megabytes, and a device without TLS needs none of them

    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        raise ArtefactError(path, found="no certificate", expected="a PEM file of some") from None
    return max(one.not_valid_after_utc.timestamp() for one in found)
