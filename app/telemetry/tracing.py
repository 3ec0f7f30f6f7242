"""Traces by OpenTelemetry, for who asks for them: the extra `[otel]`, and an endpoint in settings or environment.

Spans hold routes, methods, verdicts, numbers and the ids of calls, jobs and forget requests; no path, query, body,
SQL or message of an exception. FastAPI's own telemetry would hold some of these, so `app.main` keeps it off.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from starlette.types import Scope

from app.settings import Settings, standard_trace_endpoint_is_set

NAME = "expunge"
MISSING = "Tracing is asked for, but the package {} is missing: install Expunge with its [otel] extra."
LINKED_AT_MOST = 20
"""How many of a job's forget requests its span is linked to."""

TRACEPARENT = "traceparent"
FAILED = 500

logger = logging.getLogger(__name__)


class CallSpan:
    """The span of one HTTP call."""

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def done(self, method: str, route: str, status: int) -> None:
        """Say which route served the call, and how."""
        if self._span is None:
            return
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )
        if status >= FAILED:
            self._span.set_status(Status(StatusCode.ERROR))


NO_SPAN = CallSpan(None)
NO_CALL = nullcontext(NO_SPAN)


class Tracing:
    """One process's way of making spans; without a provider it makes none, and costs nothing."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer: Tracer | None = provider.get_tracer(NAME) if provider is not None else None

    @classmethod
    def start(cls, settings: Settings, process: str) -> "Tracing":
        """Begin to export, if an endpoint is named.

        Without the packages of the extra the process runs all the same, and says in its log what is missing.
        """
        if settings.trace_endpoint is None and not standard_trace_endpoint_is_set():
            return cls()
        try:
            return cls(_make_provider(settings.trace_endpoint, process))
        except ModuleNotFoundError as error:
            logger.warning("%s", MISSING.format(error.name))
            return cls()

    def call(self, scope: Scope, request_id: str) -> AbstractContextManager[CallSpan]:
        """Make the span of an HTTP call while the block runs; it belongs to its client's trace, if there is one."""
        return NO_CALL if self._tracer is None else self._call(self._tracer, scope, request_id)

    @contextmanager
    def _call(self, tracer: Tracer, scope: Scope, request_id: str) -> Iterator[CallSpan]:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == TRACEPARENT.encode()]
        with tracer.start_as_current_span(
            "call",
            context=propagate.extract({TRACEPARENT: given[0]} if given else {}),
            kind=SpanKind.SERVER,
            attributes={"expunge.request_id": request_id},
            record_exception=False,  # messages may hold ids
            set_status_on_exception=False,
        ) as span:
            yield CallSpan(span)

    @contextmanager
    def span(self, name: str, *, follows: Sequence[str] = (), **attributes: str | float) -> Iterator[None]:
        """Make a span while the block runs.

        Args:
            name: What is done.
            follows: `traceparent`s of what led to it.
            **attributes: Named `expunge.…` in the span; no personal data.
        """
        if self._tracer is None:
            yield
            return
        with self._tracer.start_as_current_span(
            name,
            links=_links(follows),
            attributes=_named(attributes),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR))
                span.set_attribute("error.type", type(error).__qualname__)
                raise

    def past(self, name: str, began: float, seconds: float, **attributes: str | float) -> None:
        """Make a span of what is over: work of another process, which told when it began.

        Args:
            name: What was done.
            began: Seconds since 1970.
            seconds: How long it took.
            **attributes: As in `span`.
        """
        if self._tracer is None:
            return
        start = int(began * 1e9)
        span = self._tracer.start_span(name, start_time=start, attributes=_named(attributes))
        span.end(end_time=start + int(seconds * 1e9))

    def close(self) -> None:
        """Send what was not sent yet."""
        shutdown = getattr(self._provider, "shutdown", None)
        if shutdown is not None:
            shutdown()


def current_traceparent() -> str | None:
    """Return what lets later work refer to the span that is open at present, None where there is none."""
    if not trace.get_current_span().get_span_context().is_valid:
        return None
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get(TRACEPARENT)


def _links(traceparents: Sequence[str]) -> list[Link]:
    contexts = (
        trace.get_current_span(propagate.extract({TRACEPARENT: one})).get_span_context()
        for one in traceparents[:LINKED_AT_MOST]
    )
    return [Link(context) for context in contexts if context.is_valid]


def _named(attributes: Mapping[str, str | int | float]) -> dict[str, Any]:
    return {f"expunge.{name}": value for name, value in attributes.items()}


def _make_provider(endpoint: str | None, process: str) -> TracerProvider:
    # Of the extra; nothing else may need them.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider as SdkProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = SdkProvider(resource=Resource.create({"service.name": f"{NAME}-{process}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider
