"""One observation per HTTP call: its id, a line in the access log, a metric, a span.

None of them holds a path, a query or a header of the client's, but the route's template and the call's id. It is
an ASGI middleware, and the access line is written without the logging machinery, since every call pays for both
(`docs/benchmarks/service.md`).
"""

import datetime as dt
import logging
import secrets
import sys
import time
from typing import Any

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import ACCESS_LOGGER, REQUEST_ID, wants_json
from app.settings import Settings
from app.telemetry import metrics
from app.telemetry.tracing import Tracing

HEADER = b"x-request-id"
RANDOM_BYTES = 16
PREFIX = "/v1"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""In place of a method or a route that is not one of ours: what clients make up is no label."""

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines; logged only when they fail."""

NO_ANSWER = 0
"""In place of a status, when the client was gone before there was one."""

FAILED, FIRST_ERROR = 500, 400

logger = logging.getLogger(ACCESS_LOGGER)


class AccessLog:
    """Writes a line per call."""

    def __init__(self, settings: Settings) -> None:
        self._on = settings.access_log
        self._as_json = wants_json(settings.log_format)

    def write(self, request_id: str, method: str, route: str, status: int, seconds: float) -> None:
        """Write one line. Every value is of a closed set of characters, so nothing has to be escaped."""
        if (
            not self._on
            or (route in PROBES and status < FIRST_ERROR)
            or not logger.isEnabledFor(logging.INFO)
        ):
            return
        if not self._as_json:
            logger.info("%s %s %s in %.1f ms", method, route, status, seconds * 1e3)
            return
        now = dt.datetime.now(dt.UTC).isoformat()
        line = (
            f'{{"event": "call", "method": "{method}", "route": "{route}", "status": {status}, '
            f'"seconds": {seconds:.6f}, "request_id": "{request_id}", "level": "info", '
            f'"logger": "{ACCESS_LOGGER}", "timestamp": "{now}"}}\n'
        )
        try:
            sys.stderr.write(line)
        except (OSError, ValueError):
            return  # nobody reads the log any more, and no call must fail for that


class Observed:
    """The middleware. It is the outermost one of ours: refusals of the others are calls too."""

    def __init__(self, app: ASGIApp, *, access_log: AccessLog, tracing: Tracing) -> None:
        self._app = app
        self._access_log = access_log
        self._tracing = tracing
        self._histograms: dict[tuple[str, str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        echoed = (HEADER, request_id.encode())
        # It is never unbound: the server runs every call in a context of its own, and the handler of last resort,
        # which is outside this middleware, names the id too.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status, start = NO_ANSWER, time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), echoed]
            await send(message)

        with self._tracing.call(scope, request_id) as span:
            try:
                await self._app(scope, receive, observed)
            except Exception:
                status = status or FAILED
                raise
            finally:
                method, route = _method(scope), route_of(scope)
                span.done(method, route, status)
                seconds = time.perf_counter() - start
                self._histogram(method, route, status).observe(seconds)
                self._access_log.write(request_id, method, route, status, seconds)

    def _histogram(self, method: str, route: str, status: int) -> Histogram:
        """Find a child without the library's own look-up, which costs as much as the observation."""
        key = method, route, status
        found = self._histograms.get(key)
        if found is None:
            found = self._histograms[key] = metrics.calls.labels(method, route, str(status))
        return found


def route_of(scope: Scope) -> str:
    """Return the template of the route that served a call."""
    route: Any = scope.get("route")
    if route is None:
        return OTHER
    # The route of an included router knows nothing of the prefix; all of ours but a few have the same one.
    prefix = PREFIX if scope["path"].startswith(f"{PREFIX}/") else ""
    return f"{prefix}{route.path}"


def current_request_id() -> str | None:
    """Return the id of the call that is served at present."""
    value = structlog.contextvars.get_contextvars().get("request_id")
    return str(value) if value is not None else None


def _request_id(scope: Scope) -> str:
    """Take the client's id where it looks like a random one, or else make one."""
    for name, value in scope["headers"]:
        if name == HEADER:
            given = value.decode("latin-1")
            if REQUEST_ID.fullmatch(given):
                return str(given)
            break
    return secrets.token_hex(RANDOM_BYTES)


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in METHODS else OTHER
