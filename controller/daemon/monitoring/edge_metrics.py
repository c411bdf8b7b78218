"""What an edge shows of itself: Prometheus metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, Histogram

from controller.daemon.monitoring.counters import CounterCollector, Figures
from controller.daemon.monitoring.process import CertificateEnds, add_process_metrics
from controller.edge.server import EdgeServer

BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class EdgeMetrics:
    """An edge's metrics; `certificates` hears which ones are loaded."""

    def __init__(self, server: EdgeServer) -> None:
        self.registry = edge_registry(server)
        self.certificates = CertificateEnds(self.registry)


def edge_registry(server: EdgeServer) -> CollectorRegistry:
    """The edge's metrics for Prometheus."""
    registry = CollectorRegistry()
    add_process_metrics(registry, "edge")
    counts: Figures = {
        "coinfer_edge_served": ("Requests answered", lambda: server.served),
        "coinfer_edge_refused": ("Requests refused", lambda: server.refused),
        "coinfer_edge_batches": ("Batches computed", lambda: server.computing.batches),
        "coinfer_edge_compute_seconds": ("Spent computing", lambda: server.computing.computed_s),
        "coinfer_edge_received_bytes": ("Payload received", lambda: server.requests.received_bytes),
    }
    registry.register(CounterCollector(counts))
    gauges: Figures = {
        "coinfer_edge_connections": ("Devices connected", lambda: len(server.peers)),
        "coinfer_edge_waiting": ("Requests that wait to be computed", lambda: server.waiting),
    }
    sizes = Histogram(
        "coinfer_edge_batch_size", "Requests in a batch", registry=registry, buckets=BATCHES
    )
    seconds = Histogram("coinfer_edge_batch_seconds", "Computing a batch", registry=registry)

    def batch(size: int, took_s: float) -> None:
        sizes.observe(size)
        seconds.observe(took_s)

    server.computing.on_batch = batch
    for name, (what, value) in gauges.items():
        Gauge(name, what, registry=registry).set_function(value)
    return registry
