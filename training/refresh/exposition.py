"""A small HTTP server beside the loop: /metrics for Prometheus, /healthz for whoever restarts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.exposition import choose_encoder

from training.refresh.metrics import RefreshMetrics


@contextmanager
def exposed(metrics: RefreshMetrics, host: str, port: int) -> Iterator[int]:
    """Serve while the context lasts; gives the port, which 0 leaves to the system. OSError.

    /healthz is 503 when the last refresh failed; a refused model is no failure.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, kind, encode(metrics.registry))
            elif path == "/healthz":
                ok = not _value(metrics, "last_run_timestamp_seconds") or _value(
                    metrics, "last_run_ok"
                )
                self._answer(200 if ok else 503, "text/plain", b"ok\n" if ok else b"failed\n")
            else:
                self._answer(404, "text/plain", b"see /metrics and /healthz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Log nothing: scrapes come every few seconds."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _value(metrics: RefreshMetrics, name: str) -> float:
    return metrics.registry.get_sample_value(f"canet_trainer_{name}") or 0.0
