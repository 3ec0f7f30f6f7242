"""Metrics as Prometheus reads them: at `/metrics` of the API, and at a port of a worker."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.simple_server import WSGIServer

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from app.runtime import Runtime
from app.telemetry.collector import DatabaseCollector, PoolCollector


def process_registry(runtime: Runtime) -> CollectorRegistry:
    """Return the counters of this process, and the use of its database connections."""
    registry = CollectorRegistry()
    registry.register(REGISTRY)
    registry.register(PoolCollector(runtime.database))
    return registry


def service_registry(runtime: Runtime) -> CollectorRegistry:
    """Return those, and what the database tells of the backlog."""
    registry = process_registry(runtime)
    registry.register(DatabaseCollector(runtime.settings.database_url))
    return registry


@contextmanager
def worker_metrics(runtime: Runtime) -> Iterator[None]:
    """Serve a worker's counters while the block runs, if settings name a port.

    Raises:
        OSError: The port cannot be listened on.
    """
    port = runtime.settings.worker_metrics_port
    if port is None:
        yield
        return
    server: WSGIServer
    thread: threading.Thread
    server, thread = start_http_server(port, runtime.settings.worker_metrics_host, process_registry(runtime))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
